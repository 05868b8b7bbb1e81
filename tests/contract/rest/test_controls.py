"""The operator's hand over REST: only operators give orders, a customer counts only its own mail."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from depesche.analytics.backlog.inspection import inspect
from depesche.analytics.controls.book import ControlBook
from depesche.analytics.controls.pen import ControlPen
from depesche.analytics.log import topics
from depesche.analytics.log.client import full_name, producer
from depesche.api.rest.app import build_app
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.codec import encode
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import OUTBOUND

from ..story import Mail  # noqa: TID252  (the tests are no package)
from .conftest import ROOT, World, a_world

PREFIXES = (f"restcontrols{number}." for number in itertools.count())


@dataclass
class Desk:
    """A door over a real log."""

    world: World
    client: httpx.AsyncClient
    settings: Settings
    out: Any


@pytest_asyncio.fixture
async def desk(kafka_broker: KafkaBroker, tmp_path: Path) -> AsyncIterator[Desk]:
    kafka = KafkaSettings(bootstrap=kafka_broker.bootstrap_servers, topic_prefix=next(PREFIXES))
    settings = Settings(kafka=kafka)
    await topics.create_missing(settings)
    world = await a_world(tmp_path, settings)
    settings = world.tools.settings
    book, out = ControlBook(settings), producer(settings, "test")
    await out.start()
    await book.start()
    app = build_app(replace(world.tools, pen=ControlPen(settings, book, out), inspect=partial(inspect, settings)))
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 50000))
    async with world.client, httpx.AsyncClient(transport=transport, base_url=ROOT, timeout=60) as client:
        yield Desk(world, client, settings, out)
    await book.stop()
    await out.stop()


async def test_an_operator_gives_and_lifts_an_order(desk: Desk) -> None:
    ask, operator = desk.client, desk.world.as_operator
    body = {"action": "suspend", "scope": {"provider": "Gmail"}, "reason": "they ask us to wait"}
    made = await ask.post("/v1/controls", json=body, headers=operator)
    assert made.status_code == 201, made.text
    order = made.json()
    assert (order["about"], order["state"], order["reason"]) == ("provider gmail", "holds", "they ask us to wait")
    assert made.headers["location"] == f"/v1/controls/{order['id']}"
    assert [one["id"] for one in (await ask.get("/v1/controls", headers=operator)).json()["data"]] == [order["id"]]
    lifted = await ask.delete(f"/v1/controls/{order['id']}", headers=operator)
    assert lifted.json()["state"] == "lifted"
    assert (await ask.get("/v1/controls", headers=operator)).json()["data"] == []
    ended = (await ask.get("/v1/controls?ended=true", headers=operator)).json()["data"]
    assert [one["state"] for one in ended] == ["lifted"]
    again = await ask.delete(f"/v1/controls/{order['id']}", headers=operator)
    assert again.status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"action": "drop"}, "/scope"),
        ({"action": "drop", "scope": {"campaign": "summer"}}, "/scope/customer"),
        ({"action": "reroute", "scope": {"pool": "a"}}, "/to_pool"),
        ({"action": "reroute", "scope": {"pool": "a"}, "to_pool": "releif"}, "There is no egress pool releif"),
        ({"action": "suspend", "scope": {"pool": "a"}, "until": "2020-01-01T00:00:00Z"}, "/until"),
        ({"action": "explode", "scope": {"pool": "a"}}, "/action"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused_by_name(desk: Desk, body: dict[str, object], said: str) -> None:
    answer = await desk.client.post("/v1/controls", json=body, headers=desk.world.as_operator)
    assert answer.status_code == 422
    assert said in answer.text


async def test_a_customer_gives_no_orders_and_sees_none(desk: Desk) -> None:
    body = {"action": "drop", "scope": {"customer": "10001"}}
    assert (await desk.client.post("/v1/controls", json=body, headers=desk.world.bearer)).status_code == 403
    assert (await desk.client.get("/v1/controls", headers=desk.world.bearer)).status_code == 403
    assert (await desk.client.delete("/v1/controls/x", headers=desk.world.bearer)).status_code == 403


async def test_a_customer_counts_its_own_mail_and_an_operator_all(desk: Desk) -> None:
    name = full_name(desk.settings.kafka, OUTBOUND.name)
    for tenant, count in (("10001", 3), ("10002", 4)):
        for _ in range(count):
            unit = Mail(desk.world.keyring, tenant=tenant).unit()
            await desk.out.send_and_wait(name, encode(unit), partition=0)
    own = await desk.client.get("/v1/queue", headers=desk.world.bearer)
    assert own.status_code == 200, own.text
    assert own.json()["waiting"] == 3
    foreign = await desk.client.get("/v1/queue?customer=10002", headers=desk.world.bearer)
    assert foreign.status_code == 403
    whole = await desk.client.get("/v1/queue?by=customer", headers=desk.world.as_operator)
    assert {group["name"]: group["waiting"] for group in whole.json()["data"]} == {"10001": 3, "10002": 4}


async def test_many_who_count_at_once_are_put_off(desk: Desk) -> None:
    asked = [desk.client.get("/v1/queue", headers=desk.world.bearer) for _ in range(6)]
    codes = [answer.status_code for answer in await asyncio.gather(*asked)]
    assert set(codes) <= {200, 429}
    assert 200 in codes
