"""Search, timeline, tail and rates against the real engine: exact, in order, and never somebody else's."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.queries.grammar import And, Expression, Not, Or, Query, Term, parse
from depesche.analytics.queries.rates import Rates
from depesche.analytics.queries.results import Hit
from depesche.analytics.queries.scope import AllTenants, Question, Scope, Tenant
from depesche.analytics.queries.search import DAY_MS, Search
from depesche.analytics.queries.status import Status
from depesche.analytics.queries.tail import Tail
from depesche.analytics.queries.timeline import Timeline
from depesche.analytics.store.batch import Item, event_blocks, write
from depesche.analytics.store.client import StoreClient
from depesche.analytics.store.migrate import bootstrap
from depesche.analytics.store.offsets import note_offsets
from depesche.schemas.codec import encode
from depesche.schemas.errors import InvalidRequestError
from depesche.schemas.records import DroppedDetail, DropReason, MailEvent, Personal
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTCOME_TYPES

from .conftest import EngineProcess
from .story import Mail

_names = itertools.count()
HOUR = 3_600_000
ME, OTHER, EVERYBODY = Tenant("4711"), Tenant("4712"), AllTenants("a test")


@dataclass(frozen=True)
class FakeRecord:
    """A record as the Kafka client gives it."""

    partition: int
    offset: int
    value: bytes
    key: bytes = b"k"


class Store:
    """The tables, filled without a log in between."""

    def __init__(self, client: StoreClient, keyring: Keyring, now: int) -> None:
        self.client = client
        self.keyring = keyring
        self.now = now
        self._offsets: Counter[tuple[str, int]] = Counter()

    async def tell(self, events: Iterable[MailEvent], *, noted: bool = True) -> None:
        """Write events as the sink does."""
        items = []
        for event in events:
            topic = "mail.outcomes" if event.type.value in OUTCOME_TYPES else "mail.events"
            place = (topic, int(event.recipient_key[:8], 16) % 2)
            items.append(Item(topic, FakeRecord(place[1], self._offsets[place], encode(event))))
            self._offsets[place] += 1
        assert await write(self.client, items, lambda some: event_blocks(some, self.keyring)) == []
        if noted:
            await note_offsets(self.client, self._offsets)

    def mail(self, **values: object) -> Mail:
        return Mail(self.keyring, **values)  # type: ignore[arg-type]

    def search(self) -> Search:
        return Search(self.client, lambda: self.now)

    async def find(self, text: str, scope: Scope = ME, limit: int = 50, cursor: str | None = None) -> list[str]:
        page = await self.search().find(scope, parse(text, self.now), limit, cursor)
        return [hit.unit_id for hit in page.items]


@pytest_asyncio.fixture
async def store(engine: EngineProcess, tmp_path: Path) -> AsyncIterator[Store]:
    settings = Settings.model_validate(
        {
            "clickhouse": {
                "url": engine.url,
                "user": engine.user,
                "password": engine.password,
                "database": f"queries{next(_names)}",
            }
        }
    )
    client = StoreClient(settings, "tests")
    await bootstrap(client, settings)
    now = int(datetime.now(UTC).timestamp() * 1000)
    yield Store(client, Keyring.open(tmp_path / "keys"), now)
    await client.command(f"DROP DATABASE {settings.clickhouse.database}", anywhere=True)
    await client.close()


async def test_a_mail_is_found_by_each_thing_that_is_known_of_it(store: Store) -> None:
    mail = store.mail(
        recipient="Ada@Example.org",
        subject="Ihre Bestellung 4711 – 100% Grün",
        sender="Shop@Shop.example",
        campaign="spring",
        reference="order-17",
        message_id="m1@shop.example",
        size=300_000,
        accepted_at=store.now - HOUR,
    )
    mail.prepared().answered("deferred", 1).answered("bounced", 2, text="550 5.1.1 no such user")
    noise = [
        store.mail(recipient=f"bob{number}@example.net", sender="other@another.example")
        .prepared()
        .answered("delivered")
        for number in range(5)
    ]
    await store.tell([event for one in (mail, *noise) for event in one.told])
    for text in (
        "to:ada@example.org", "to:example.org", "to:@example.org", "to:ADA@", "to:ada",
        "from:shop@shop.example", "from:shop.example", "from:shop@", "domain:shop.example",
        'subject:"bestellung 4711"', 'subject:100%', "subject:GRÜN", "campaign:spring", "reference:order-17",
        f"id:{mail.unit_id}", f"id:{mail.job_id}", "id:m1@shop.example", "id:<m1@shop.example>",
        mail.unit_id, mail.job_id, "<m1@shop.example>", "m1@shop.example", "ada@example.org", "4711", "order-17",
        "status:bounced", "code:550", "code:5xx", "code:5.1.1", "code:5.1", "class:recipient_unknown",
        "provider:example.org", "host:mx.Example.org", "size:>200k", "size:300000",
        "since:2h until:30m", "-status:delivered", "status:bounced to:ada@example.org from:shop.example",
        "status:failed or code:550", "(to:ada or to:nobody) -(status:delivered or size:<1k)", "status:failed,bounced",
    ):  # fmt: skip
        assert await store.find(text) == [mail.unit_id], text
    for text in (
        "subject:100_",
        "to:ad%",
        "since:30m to:ada",
        "until:2h",
        "status:pending",
        "code:550 status:delivered",
    ):
        assert await store.find(text) == [], text


async def test_a_hit_tells_what_was_accepted_and_where_it_stands(store: Store) -> None:
    mail = store.mail(accepted_at=store.now - HOUR).prepared().answered("deferred", 1, text="451 later")
    await store.tell(mail.told)
    hit = (await store.search().find(ME, Query(), 1)).items[0]
    assert (hit.status, hit.final, hit.attempts, hit.code, hit.reply_text) == ("deferred", False, 1, 451, "451 later")
    assert (hit.accepted_at, hit.changed_at) == (mail.accepted_at, mail.told[-1].occurred_at)
    told = hit.to_json()
    assert told["accepted_at"].endswith("Z")
    assert datetime.fromisoformat(told["accepted_at"]).timestamp() * 1000 == pytest.approx(mail.accepted_at)
    assert told["next_attempt_at"] is None
    assert told["subject"] == mail.subject


async def test_the_pages_of_an_answer_are_the_answer(store: Store) -> None:
    ages = [0, 0, 1, 60, 899, 900, 901, 7_200, 50_000, 90_000, 500_000, 2_000_000, 3_800_000]
    mails = [store.mail(accepted_at=store.now - age * 1000).prepared().answered("bounced") for age in ages * 3]
    # Written twice and not merged yet, they are still one each.
    await store.tell(event for mail in mails for event in mail.told)
    await store.tell(event for mail in mails[:20] for event in mail.told)
    wanted = [mail.unit_id for mail in sorted(mails, key=lambda mail: (mail.accepted_at, mail.unit_id), reverse=True)]
    for text in (
        "",
        "status:bounced",
        "to:ada@example.org",
        "to:ada@example.org status:bounced",
        "subject:order code:550",
    ):
        for limit in (3, 13, 39, 200):
            found: list[str] = []
            cursor = None
            while True:
                page = await store.search().find(ME, parse(text, store.now), limit, cursor)
                found += [hit.unit_id for hit in page.items]
                cursor = page.next_cursor
                assert len(page.items) == limit or cursor is None
                if cursor is None:
                    break
            assert found == wanted, (text, limit)


@pytest.mark.parametrize("cursor", ["", "x", "bm9uc2Vuc2U", "WzFd", "eyJhIjoxfQ", "WyJhIiwiYiJd"])
async def test_a_cursor_that_is_not_ours_is_refused(store: Store, cursor: str) -> None:
    if cursor:
        with pytest.raises(InvalidRequestError):
            await store.search().find(ME, Query(), 10, cursor)
    with pytest.raises(InvalidRequestError):
        await Tail(store.client).since(ME, Query(), cursor)


async def test_a_limit_outside_of_its_bounds_is_refused(store: Store) -> None:
    for limit in (0, 201, -1):
        with pytest.raises(InvalidRequestError):
            await store.search().find(ME, Query(), limit)


class Model:
    """The same search, by looking at each mail."""

    def __init__(self, mails: list[Mail]) -> None:
        self.facts = {mail.unit_id: self._facts(mail) for mail in mails}

    @staticmethod
    def _facts(mail: Mail) -> dict[str, object]:
        states = [event for event in mail.told if event.type.value not in ("opened", "complained")]
        last = states[-1]
        detail = last.detail
        return {
            "to": mail.recipient,
            "size": mail.size,
            "campaign": mail.campaign or "",
            "status": {last.type.value, *(e.type.value for e in mail.told if e.type.value in ("opened", "complained"))},
            "pending": last.type.value in ("accepted", "signed", "deferred"),
            "code": getattr(detail, "code", 0),
            "provider": last.provider,
            "account": mail.account,
        }

    def find(self, expression: Expression) -> set[str]:
        return {unit for unit, facts in self.facts.items() if self._holds(expression, facts)}

    def _holds(self, expression: Expression, facts: dict[str, object]) -> bool:
        if isinstance(expression, Not):
            return not self._holds(expression.part, facts)
        if isinstance(expression, And):
            return all(self._holds(part, facts) for part in expression.parts)
        if isinstance(expression, Or):
            return any(self._holds(part, facts) for part in expression.parts)
        return self._term(expression, facts)

    @staticmethod
    def _term(term: Term, facts: dict[str, object]) -> bool:
        if term.field == "status":
            known = facts["status"]
            assert isinstance(known, set)
            return any(one in known or (one == "pending" and facts["pending"]) for one in term.value.split(","))
        if term.field == "size":
            return int(str(facts["size"])) > 50_000
        return str(facts[term.field]) == term.value


TERMS = [
    *(Term("to", f"user{number}@example{number % 2}.org") for number in range(3)),
    *(Term("status", text) for text in ("bounced", "delivered", "deferred", "pending", "opened", "complained,bounced")),
    *(Term("account", text) for text in ("main", "side")),
    *(Term("provider", f"example{number}.org") for number in range(2)),
    *(Term("code", text) for text in ("250", "550")),
    Term("size", ">50000"),
    Term("campaign", "spring"),
]


def _any_expression(chance: random.Random, depth: int = 0) -> Expression:
    kind = chance.random()
    if depth >= 3 or kind < 0.35:
        return chance.choice(TERMS)
    if kind < 0.5:
        part = _any_expression(chance, depth + 1)
        return part.part if isinstance(part, Not) else Not(part)
    parts = tuple(_any_expression(chance, depth + 1) for _ in range(chance.choice((2, 2, 3))))
    return And(parts) if kind < 0.75 else Or(parts)


async def test_any_mixture_of_conditions_finds_exactly_what_a_look_at_each_mail_finds(store: Store) -> None:
    chance = random.Random(20261123)
    mails = []
    for number in range(60):
        mail = store.mail(
            recipient=f"user{number % 3}@example{number % 2}.org",
            account=chance.choice(("main", "side")),
            size=chance.choice((10_000, 100_000)),
            campaign=chance.choice((None, "spring")),
            accepted_at=store.now - chance.randrange(40 * DAY_MS),
        ).prepared()
        end = chance.choice(("", "delivered", "bounced", "deferred"))
        if end:
            mail.answered(end, 1, code=None)
        if end == "delivered":
            for sequence, kind in enumerate(chance.sample(("opened", "complained"), chance.randrange(3))):
                mail.event(kind, 100_000 + sequence, 1, provider=mail.domain)
        mails.append(mail)
    chance.shuffle(mails)
    for start in range(0, 60, 20):
        await store.tell(event for mail in mails[start : start + 20] for event in mail.told)
    model = Model(mails)
    sizes = Counter[bool]()
    for _ in range(90):
        expression = _any_expression(chance)
        page = await store.search().find(ME, Query(expression), 200)
        wanted = model.find(expression)
        assert {hit.unit_id for hit in page.items} == wanted, str(expression)
        sizes[0 < len(wanted) < 60] += 1
    assert sizes[True] > 40


async def test_nobody_sees_what_is_another_customer_s(store: Store) -> None:
    mine = store.mail(tenant="4711", subject="mine").prepared().answered("bounced")
    canary = store.mail(tenant="4712", subject="canary", message_id="canary@x.example").prepared().answered("bounced")
    before = await Tail(store.client).now()
    await store.tell([*mine.told, *canary.told])
    texts = ("", "subject:canary", f"id:{canary.unit_id}", f"id:{canary.job_id}", "canary@x.example", "status:bounced")
    texts += ("-status:delivered", "tenant:4712", "tenant:4712 or status:bounced", "-tenant:4711", "ada@example.org")
    for text in texts:
        assert canary.unit_id not in await store.find(text, ME), text
        assert mine.unit_id not in await store.find(text, OTHER), text
    for id_ in (canary.unit_id, canary.job_id, "canary@x.example"):
        assert await Timeline(store.client).of(ME, id_) == []
    followed = await Tail(store.client).since(ME, Query(), before)
    assert {event.tenant for event in followed.events} == {"4711"}
    period = (store.now - DAY_MS, store.now + DAY_MS)
    assert sum(rate.count for rate in await Rates(store.client).of(ME, *period)) == 1
    assert sum(standing.units for standing in await Status(store.client).of(ME, *period)) == 1
    assert len(await store.find("status:bounced", EVERYBODY)) == 2
    assert await store.find("tenant:4712", EVERYBODY) == [canary.unit_id]


async def test_a_statement_that_forgets_the_customer_still_shows_one_customer_only(store: Store) -> None:
    for tenant in ("4711", "4712"):
        mail = store.mail(tenant=tenant).prepared().answered("bounced")
        await store.tell(mail.told)
    for table in ("events", "units", "states"):
        inner = f"SELECT tenant FROM {table} WHERE unit_id IN (SELECT unit_id FROM {table})"
        forgetful = f"SELECT DISTINCT tenant FROM ({inner} UNION ALL SELECT tenant FROM {table} FINAL) ORDER BY 1"
        assert (await Question(ME, forgetful).ask(store.client)).rows == [("4711",)]
        assert len((await Question(EVERYBODY, forgetful).ask(store.client)).rows) == 2


@pytest.mark.parametrize("id_", ["", "a'b", "a\\", "4711'}", "a b", "x" * 65, "Ä"])
def test_a_customer_number_cannot_break_out_of_its_filter(id_: str) -> None:
    with pytest.raises(InvalidRequestError):
        Tenant(id_)


def test_there_is_no_question_without_a_scope() -> None:
    with pytest.raises(TypeError):
        Question("4711", "SELECT 1")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError):
        AllTenants("")


async def test_the_story_of_a_job_has_each_of_its_units_in_order(store: Store) -> None:
    first = store.mail(recipient="a@example.org").prepared().answered("deferred", 1).answered("delivered", 2)
    units = [first]
    for number in range(1, 12):
        mail = store.mail(recipient=f"r{number}@example.org", job_id=first.job_id, number=number)
        units.append(mail.prepared().answered("bounced", text="550 no"))
    dropped = store.mail(recipient="x@example.org", job_id=first.job_id, number=12).accepted()
    found = Personal(finding="Eicar in invoice.pdf")
    detail = DroppedDetail(reason=DropReason.VIRUS_DETECTED, engine="clamav")
    dropped.event("dropped", 20, personal=found, detail=detail)
    units.append(dropped)
    # Told out of order and twice, as a crash may have it.
    await store.tell(event for mail in reversed(units) for event in reversed(mail.told))
    await store.tell(first.told)
    stories = await Timeline(store.client).of(ME, first.job_id)
    assert [story.unit.unit_id for story in stories] == [mail.unit_id for mail in units]
    assert [e.type for e in stories[0].events] == ["accepted", "scanned", "signed", "deferred", "delivered"]
    assert stories[0].events[1].detail == {"engines": ["clamav/1", "yara/1"], "millis": 3}
    assert stories[0].events[4].transcript.startswith("S: 220")
    end = stories[12].events[-1]
    assert (end.type, end.reason, end.finding, end.detail) == (
        "dropped",
        "virus_detected",
        "Eicar in invoice.pdf",
        {"engine": "clamav"},
    )
    assert stories[12].unit.status == "dropped"
    assert stories[12].unit.reason == "virus_detected"
    told = stories[0].to_json()
    assert [event["type"] for event in told["events"]][-1] == "delivered"
    assert told["events"][0]["occurred_at"].endswith("Z")
    one = await Timeline(store.client).of(ME, first.unit_id)
    assert [story.unit.unit_id for story in one] == [first.unit_id]
    by_message = await Timeline(store.client).of(ME, f"<{first.message_id}>")
    assert [story.unit.unit_id for story in by_message] == [first.unit_id]


async def test_a_tail_gives_each_new_event_once_and_leaves_none_out(store: Store) -> None:
    tail = Tail(store.client)
    old = store.mail().prepared()
    await store.tell(old.told)
    cursor = await tail.now()
    assert (await tail.since(ME, Query(), cursor)).events == ()
    mails = [store.mail(recipient=f"u{number}@example.org") for number in range(20)]
    seen: list[str] = []
    told: list[MailEvent] = []
    for mail in mails:
        mail.prepared().answered("bounced" if mail is mails[7] else "delivered")
        told += mail.told
        await store.tell(mail.told, noted=mail is not mails[-1])
        while True:
            followed = await tail.since(ME, Query(), cursor, limit=3)
            seen += [event.event_id for event in followed.events]
            cursor = followed.cursor
            if not followed.more:
                break
    assert Counter(seen) == Counter({event.event_id: 1 for event in told})


async def test_a_tail_of_a_search_shows_the_events_and_units_it_is_about(store: Store) -> None:
    tail = Tail(store.client)
    cursor = await tail.now()
    good = store.mail(recipient="good@example.org").prepared().answered("delivered")
    bad = store.mail(recipient="bad@example.org").prepared().answered("bounced")
    await store.tell([*good.told, *bad.told])

    async def shown(text: str) -> list[tuple[str, str]]:
        followed = await tail.since(ME, parse(text, store.now), cursor)
        return [(event.unit_id, event.type) for event in followed.events]

    assert await shown("status:bounced") == [(bad.unit_id, "bounced")]
    assert await shown("code:2xx") == [(good.unit_id, "delivered")]
    assert [unit for unit, _ in await shown("to:bad@example.org")] == [bad.unit_id] * 4
    assert await shown("to:bad@example.org status:delivered") == []
    assert await shown("status:signed -to:bad@example.org") == [(good.unit_id, "signed")]


async def test_rates_are_exact_although_events_were_written_twice(store: Store) -> None:
    start = (store.now - 3 * HOUR) // 60_000 * 60_000
    mails = []
    for number in range(40):
        mail = store.mail(recipient=f"u{number}@example{number % 2}.org", accepted_at=start + number * 6_000)
        mails.append(mail.prepared().answered("bounced" if number % 4 == 0 else "delivered"))
    await store.tell(event for mail in mails for event in mail.told)
    again = [replace(event, occurred_at=event.occurred_at + 120_000) for mail in mails[:10] for event in mail.told]
    await store.tell(again)
    wanted = Counter(
        (event.occurred_at // 60_000 * 60_000, event.type.value, event.provider)
        for mail in mails
        for event in mail.told
        if event.type.value in OUTCOME_TYPES
    )
    rates = Rates(store.client)
    found = await rates.of(ME, start, start + HOUR)
    assert {(rate.minute, rate.type, rate.provider): rate.count for rate in found} == wanted
    hours = await rates.of(ME, start, start + 2 * HOUR, step="day", types=frozenset({"accepted"}))
    assert sum(rate.count for rate in hours) == 40


async def test_the_standing_counts_each_unit_once(store: Store) -> None:
    for number, kind in enumerate(("delivered", "bounced", "delivered", "deferred")):
        mail = store.mail(recipient=f"u{number}@example.org").prepared().answered(kind)
        await store.tell(mail.told)
        await store.tell(mail.told[:2])
    found = await Status(store.client).of(ME, store.now - HOUR, store.now + HOUR)
    assert {(one.status, one.final, one.units) for one in found} == {
        ("delivered", True, 2),
        ("bounced", True, 1),
        ("deferred", False, 1),
    }
    assert (await Status(store.client).freshness()).written_at


async def test_questions_at_the_same_time_do_not_mix_their_customers(store: Store) -> None:
    for tenant in ("4711", "4712"):
        await store.tell(event for _ in range(5) for event in store.mail(tenant=tenant).prepared().told)
    pages = await asyncio.gather(*(store.search().find((ME, OTHER)[turn % 2], Query()) for turn in range(20)))
    tenant: Callable[[Hit], str] = lambda hit: hit.tenant  # noqa: E731
    for turn, page in enumerate(pages):
        assert set(map(tenant, page.items)) == {("4711", "4712")[turn % 2]}
        assert len(page.items) == 5
