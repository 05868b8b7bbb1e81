"""Looking things up by REST, in the real engine: where a mail stands, its story, search and rates, each for one customer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from depesche.analytics.log.alerts import AlertKey, Ledger
from depesche.analytics.queries.rates import Rate
from depesche.analytics.queries.results import Event, Hit
from depesche.analytics.store.client import StoreClient
from depesche.analytics.store.rows import EventRows
from depesche.api.rest.models_search import EventOut, OutcomeCount, RateOut, UnitState
from depesche.api.rest.recent import KEPT_MS, Recent
from depesche.api.rest.routes.alerts import AlertOut
from depesche.api.submission import Content, Receipt, Submission
from depesche.schemas.codec import encode
from depesche.schemas.identity import new_job_id
from depesche.schemas.records import AlertKind, Interface, JobRecipient, RecipientKind, ReturnedDetail, Severity
from depesche.schemas.service import now_ms
from depesche.schemas.topics import EVENTS

from ..story import Mail  # noqa: TID252  (the tests are no package)
from .conftest import World, a_world
from .test_emails import MAIL


@pytest.fixture
async def world(tmp_path: Path, store: StoreClient, shared_app: FastAPI) -> AsyncIterator[World]:
    found = await a_world(tmp_path, store=store, app=shared_app)
    async with found.client:
        yield found


async def told(store: StoreClient, mails: Sequence[Mail]) -> None:
    """Write what was told of mails to the store, as the sink would."""
    rows = EventRows(mails[0].keyring)
    for offset, event in enumerate(event for mail in mails for event in mail.told):
        rows.add(EVENTS.name, 0, offset, encode(event))
    tables = rows.tables()
    for name, table in (("events", tables.events), ("units", tables.units), ("states", tables.states)):
        await store.insert(name, table, f"{name}-{mails[0].job_id}")


async def get(world: World, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return await world.client.get(path, headers=headers or world.bearer)


def a_mail(world: World, **values: Any) -> Mail:
    return Mail(world.keyring, **{"tenant": "10001", "accepted_at": now_ms() - 5000, **values})


async def test_a_unit_and_its_job_tell_where_they_stand(world: World, store: StoreClient) -> None:
    first = a_mail(world).prepared().answered("delivered", text="250 queued")
    second = a_mail(world, job_id=first.job_id, number=1, recipient="bob@example.net").prepared().answered("bounced")
    await told(store, [first, second])
    job = await get(world, f"/v1/emails/{first.job_id}")
    assert {(one["unit_id"], one["status"], one["final"]) for one in job.json()["data"]} == {
        (first.unit_id, "delivered", True),
        (second.unit_id, "bounced", True),
    }
    (unit,) = (await get(world, f"/v1/emails/{second.unit_id}")).json()["data"]
    assert (unit["recipient"], unit["code"], unit["subject"]) == ("bob@example.net", 550, second.subject)
    (by_message_id,) = (await get(world, f"/v1/emails/{first.message_id}")).json()["data"]
    assert by_message_id["unit_id"] == first.unit_id


async def test_a_story_has_every_event_in_order(world: World, store: StoreClient) -> None:
    mail = a_mail(world).prepared().answered("deferred").answered("delivered", 2)
    await told(store, [mail])
    answer = await get(world, f"/v1/emails/{mail.job_id}/events")
    (story,) = answer.json()["data"]
    assert story["unit"]["unit_id"] == mail.unit_id
    kinds = [event["type"] for event in story["events"]]
    assert kinds == ["accepted", "scanned", "signed", "deferred", "delivered"]
    assert answer.json()["has_more"] is False


async def test_nobody_sees_what_another_customer_sent(world: World, store: StoreClient) -> None:
    canary = a_mail(world, tenant="20002", subject="canary", reference="canary").prepared().answered("delivered")
    mine = a_mail(world).prepared()
    await told(store, [canary, mine])
    for path in (
        f"/v1/emails/{canary.job_id}",
        f"/v1/emails/{canary.unit_id}/events",
        f"/v1/emails/{canary.message_id}",
    ):
        assert (await get(world, path)).status_code == 404
    for query in ("", "canary", "tenant:20002", "tenant:20002 or subject:canary", "-subject:nothing"):
        answer = await world.client.get("/v1/search", params={"q": query}, headers=world.bearer)
        assert answer.status_code == 200
        assert "canary" not in answer.text
    rates = (await get(world, "/v1/rates")).json()["data"]
    assert rates == []
    seen = await world.client.get("/v1/search", params={"q": "canary"}, headers=world.as_operator)
    assert [one["tenant"] for one in seen.json()["data"]] == ["20002"]


async def test_search_finds_by_each_field_page_by_page(world: World, store: StoreClient) -> None:
    mails = [a_mail(world, recipient=f"r{n}@example.org", campaign="spring").prepared() for n in range(7)]
    await told(store, mails)
    found: list[str] = []
    path: str | None = "/v1/search?q=campaign%3Aspring+since%3A1h&limit=3"
    while path:
        answer = await get(world, path)
        found += [one["recipient"] for one in answer.json()["data"]]
        link = answer.links.get("next")
        assert answer.json()["has_more"] is (link is not None)
        path = link["url"] if link else None
    assert sorted(found) == [f"r{n}@example.org" for n in range(7)]
    one = await world.client.get("/v1/search", params={"q": "to:r3@example.org status:signed"}, headers=world.bearer)
    assert [hit["recipient"] for hit in one.json()["data"]] == ["r3@example.org"]


@pytest.mark.parametrize(
    ("path", "code", "pointer"),
    [
        ("/v1/search?q=%28", "invalid_query", "q"),
        ("/v1/search?q=colour%3Ared", "invalid_query", "q"),
        ("/v1/search?cursor=nonsense", "invalid_value", "cursor"),
        ("/v1/search?limit=0", "invalid_value", "limit"),
        ("/v1/search?query=x", "invalid_value", "query"),
        ("/v1/rates?since=yesteryear", "invalid_value", "since"),
        ("/v1/rates?since=3d&window=5m", "invalid_value", "since"),
        ("/v1/rates?since=now&until=1h", "invalid_value", "since"),
        ("/v1/rates?window=2h", "invalid_value", "window"),
        ("/v1/rates?by=colour", "invalid_value", "by"),
        ("/v1/rates/outcomes?step=week", "invalid_value", "step"),
    ],
)
async def test_a_question_that_cannot_be_read_says_where(world: World, path: str, code: str, pointer: str) -> None:
    answer = await get(world, path)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_outcomes_are_counted_by_provider(world: World, store: StoreClient) -> None:
    mails = [a_mail(world, recipient=f"r{n}@gmail.example").prepared().answered("delivered") for n in range(3)]
    await told(store, [*mails, a_mail(world).prepared().answered("bounced")])
    answer = await get(world, "/v1/rates/outcomes?since=1h&step=day")
    counts = {(rate["type"], rate["provider"]): rate["count"] for rate in answer.json()["data"]}
    assert counts == {("delivered", "gmail.example"): 3, ("bounced", "example.org"): 1}
    assert answer.json()["step"] == "day"


async def test_rates_are_one_customers_and_name_their_denominators(world: World, store: StoreClient) -> None:
    """Four delivered, one of which came back for good, one refused, one complaint: 2 hard of 6 answered, 1 of 4 complained."""
    mine = [a_mail(world, recipient=f"r{n}@gmail.example").prepared().answered("delivered") for n in range(4)]
    returned = ReturnedDetail(source="dsn", place="mail.returns/0/1", kind="hard")
    later: Any = {"provider": "gmail.example", "occurred_at": now_ms() - 1000}
    mine[0].event("bounced", 100_001, **later, detail=returned)
    mine[1].event("complained", 100_001, **later, detail=replace(returned, kind="complaint"))
    refused = a_mail(world, recipient="r9@gmail.example").prepared().answered("bounced")
    theirs = a_mail(world, tenant="20002", recipient="x@gmail.example").prepared().answered("bounced")
    await told(store, [*mine, refused, theirs])
    answer = (await get(world, "/v1/rates?since=1h&window=1d&by=both")).json()
    (rate,) = answer["data"]
    assert (rate["provider"], rate["sent"], rate["delivered"], rate["returned"]) == ("gmail.example", 5, 4, 1)
    assert (rate["hard_bounced"], rate["soft_bounced"], rate["blocked"], rate["answered"]) == (2, 0, 0, 6)
    assert (rate["hard_bounce_rate"], rate["complaint_rate"]) == (pytest.approx(2 / 6), 0.25)
    assert set(rate) == set(RateOut.model_fields)
    everybody = (await get(world, "/v1/rates?since=1h&window=1d", world.as_operator)).json()["data"]
    assert [(one["hard_bounced"], one["tenant"]) for one in everybody] == [(3, "")]


async def test_a_customer_sees_alerts_about_its_own_mail_only(world: World) -> None:
    ledger = Ledger()

    def say(
        subject: str, tenant: str, at: int, *, raised: bool = True, kind: AlertKind = AlertKind.HARD_BOUNCE_RATE
    ) -> None:
        key = AlertKey(kind, Severity.WARN, subject)
        made = ledger.next(key, raised=raised, at=at, tenant=tenant, value=0.02, limit=0.01, causes=("e",))
        assert made and ledger.apply(made)

    now, month = now_ms(), 30 * 86_400_000
    say("10001/gmx", "10001", now - month)
    say("10001/gmail", "10001", now - month)
    say("10001/gmail", "10001", now - 1000, raised=False)
    say("20002/gmx", "20002", now)
    say("192.0.2.1/bl.test", "", now, kind=AlertKind.LISTED)

    async def current() -> Ledger:
        return ledger

    world.app.state.tools = replace(world.tools, alerts=current)
    mine = (await get(world, "/v1/alerts")).json()["data"]
    assert [(one["subject"], one["state"]) for one in mine] == [("10001/gmail", "cleared"), ("10001/gmx", "raised")]
    assert set(mine[0]) == set(AlertOut.model_fields)
    still = (await get(world, "/v1/alerts?open=true")).json()["data"]
    assert [one["subject"] for one in still] == ["10001/gmx"]
    everything = (await get(world, "/v1/alerts?since=40d", world.as_operator)).json()["data"]
    assert len(everything) == 5
    assert (await get(world, "/v1/alerts?since=yesteryear")).status_code == 422


async def test_what_was_just_sent_is_told_from_memory_until_the_store_knows(world: World) -> None:
    sent = await world.client.post("/v1/emails", json=MAIL, headers=world.bearer)
    answer = await get(world, sent.headers["location"])
    (unit,) = answer.json()["data"]
    assert (unit["status"], unit["recipient"], unit["final"]) == ("accepted", "ada@example.org", False)
    (same,) = (await get(world, f"/v1/emails/{unit['unit_id']}")).json()["data"]
    assert same == unit
    assert (await get(world, f"/v1/emails/{unit['job_id']}.1")).status_code == 404
    assert (await get(world, f"/v1/emails/{new_job_id()}")).status_code == 404


async def test_reading_needs_the_scope_for_it(world: World) -> None:
    accounts = (await world.client.get("/v1/accounts", headers=world.as_operator)).json()["data"]
    made = await world.client.post(
        "/v1/keys", json={"account": accounts[0]["id"], "name": "sender", "scopes": ["send"]}, headers=world.as_operator
    )
    only_send = {"Authorization": f"Bearer {made.json()['token']}"}
    for path in ("/v1/search", "/v1/rates", "/v1/emails/x", "/v1/emails/x/events"):
        assert (await get(world, path, only_send)).status_code == 403


async def test_without_a_store_mail_is_taken_and_search_says_that_it_is_not_there(tmp_path: Path) -> None:
    world = await a_world(tmp_path / "other")
    async with world.client:
        sent = await world.client.post("/v1/emails", json=MAIL, headers=world.bearer)
        assert sent.status_code == 202
        assert (await get(world, sent.headers["location"])).status_code == 200
        for path in ("/v1/search", "/v1/rates", f"/v1/emails/{new_job_id()}"):
            answer = await get(world, path)
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


@pytest.mark.parametrize(("model", "result"), [(UnitState, Hit), (EventOut, Event), (OutcomeCount, Rate)])
def test_what_is_described_is_what_the_queries_give(model: type[BaseModel], result: Any) -> None:
    assert list(model.model_fields) == [field.name for field in fields(result)]


def a_submission(units: int) -> Submission:
    recipient = JobRecipient(address="a@b.example", message=0, block=0, kind=RecipientKind.TO)
    return Submission(
        tenant="t",
        account="a",
        interface=Interface.REST,
        client="",
        mail_from="",
        header_from="",
        subject="",
        sender_domain="",
        messages=(Content((b"x",), 0, "m"),),
        recipients=(recipient,) * units,
    )


def test_the_memory_is_of_a_minute_and_of_so_many_units() -> None:
    now = 0
    recent = Recent(lambda: now)
    for number in range(25):
        recent.add(a_submission(1000), Receipt(f"job{number}", 0, 1000))
    assert recent.units("t", "job4") == ()
    assert len(recent.units("t", "job5")) == 1000
    assert len(recent.units("t", "job24.7")) == 1
    assert recent.units("other", "job24") == ()
    now = KEPT_MS + 1
    assert recent.units("t", "job24") == ()
    recent.add(a_submission(1), Receipt("late", now, 1))
    assert len(recent._jobs) == 1
