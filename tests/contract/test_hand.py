"""The operator's hand on a real broker: what an order does to units in a courier, on the ladder and on their way between."""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from depesche.analytics.controls.book import ControlBook
from depesche.analytics.controls.orders import Order
from depesche.analytics.controls.pen import ControlPen
from depesche.analytics.log.client import full_name
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.server import Sink
from depesche.schemas.codec import decode, encode
from depesche.schemas.errors import InvalidRequestError, NotFoundError
from depesche.schemas.records import (
    CancelledDetail,
    Control,
    ControlAction,
    ControlScope,
    ControlState,
    EventType,
    MailUnit,
)
from depesche.schemas.service import now_ms
from depesche.schemas.topics import CONTROLS_HISTORY, OUTBOUND, RETRY, route_partition
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.hand import CANCEL, ORDER
from depesche.streams.stages.retry import Retry
from depesche.streams.stages.trail import header
from tests.contract.courier_worker import Worker, balanced
from tests.contract.far_side import dns_server, sink, zone
from tests.contract.outbox import PARTITIONS, Outbox, copies, opened, running, settings_for

__all__ = ["dns_server", "sink", "zone"]

PREFIXES = (f"hand{number}." for number in itertools.count())
LONG_LADDER: dict[str, Any] = {"ladder": ("15m",), "time_scale": 1.0}
EFFECTIVE_MS = 5_000


@dataclass
class Office:
    """Somebody who gives orders about the mail of an outbox."""

    outbox: Outbox
    book: ControlBook
    pen: ControlPen

    async def order(self, action: str, until: int | None = None, pool: str = "", **scope: str) -> Order:
        """Give an order."""
        return await self.pen.give(
            ControlAction(action),
            ControlScope(**scope),
            "an operator",
            everything=not scope,
            target_pool=pool,
            until=until,
            reason="a test",
        )

    @contextlib.asynccontextmanager
    async def couriers(self) -> AsyncIterator[tuple[Deliver, Retry]]:
        """Couriers and a keeper in this process, that follow the orders."""
        outbox = self.outbox
        deliver = Deliver(outbox.settings, outbox.keyring, outbox.archive, "a", controls=self.book)
        retry = Retry(outbox.settings, "a", controls=self.book)
        async with running(deliver), running(retry):
            yield deliver, retry

    async def on_the_ladder(self, *rungs: str) -> list[Any]:
        """Every record that was ever put on these rungs."""
        return [record for rung in rungs or RETRY for record in await self.outbox.records(RETRY[rung])]

    async def until_on_the_ladder(self, count: int, *rungs: str) -> None:
        """Wait until so many records were put there."""
        async with asyncio.timeout(30):
            while len(await self.on_the_ladder(*rungs)) < count:
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def office_over(outbox: Outbox) -> AsyncIterator[Office]:
    book = ControlBook(outbox.settings)
    await book.start()
    try:
        yield Office(outbox, book, ControlPen(outbox.settings, book, outbox.out))
    finally:
        await book.stop()


@pytest_asyncio.fixture
async def office(
    kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Office]:
    deliver = getattr(request, "param", {})
    settings = settings_for(kafka_broker, dns_server, sink.port, next(PREFIXES), tmp_path, **deliver)
    async with opened(settings) as outbox, office_over(outbox) as office:
        yield office


long_ladder = pytest.mark.parametrize("office", [LONG_LADDER], indirect=True, ids=["long ladder"])


async def lay(outbox: Outbox, rung: str, units: list[MailUnit], due_in_ms: int) -> None:
    """Put units on a rung, as couriers do whose host put them off."""
    name, due = full_name(outbox.settings.kafka, RETRY[rung].name), now_ms() + due_in_ms
    sent = []
    for unit in units:
        waiting = MailUnit.from_avro({**unit.to_avro(), "due_at": due, "attempt": 2, "sequence": 102})
        headers = [("due", b"%d" % due), ("unit", f"{unit.unit_id}/2".encode())]
        partition = route_partition(unit.route, PARTITIONS)
        sent.append(
            await outbox.out.send(name, encode(waiting), key=unit.route.encode(), partition=partition, headers=headers)
        )
    await asyncio.gather(*sent)


def sources_are_single(returned: list[tuple[str, MailUnit]]) -> bool:
    """Whether no place of the ladder was sent back twice."""
    return set(Counter(source for source, _ in returned).values()) <= {1}


# Orders as records.


async def test_an_order_is_read_back_by_all_and_every_version_is_kept(office: Office) -> None:
    given = await office.order("suspend", provider="gmail")
    assert office.book.orders.find(given.control.control_id) == given
    async with office_over(office.outbox) as other:
        assert [order.control for order in other.book.orders.active(now_ms())] == [given.control]
        await other.pen.lift(given.control.control_id, "another")
    await office.book.catch_up()
    assert office.book.orders.active(now_ms()) == []
    history = [decode(Control, record.value) for record in await office.outbox.records(CONTROLS_HISTORY)]
    assert [(one.state, one.changed_by, one.by, one.reason) for one in history] == [
        (ControlState.ACTIVE, "an operator", "an operator", "a test"),
        (ControlState.LIFTED, "another", "an operator", "a test"),
    ]
    with pytest.raises(NotFoundError):
        await office.pen.lift(given.control.control_id, "a third")


@pytest.mark.parametrize(
    ("action", "scope", "more", "said"),
    [
        ("drop", ControlScope(), {}, "all"),
        ("drop", ControlScope(tenant="1"), {"everything": True}, "either"),
        ("drop", ControlScope(campaign_id="summer"), {}, "whose"),
        ("reroute", ControlScope(tenant="1"), {}, "which pool"),
        ("drop", ControlScope(tenant="1"), {"target_pool": "b"}, "Only reroute"),
        ("suspend", ControlScope(tenant="1"), {"until": 1}, "ahead"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(
    office: Office, action: str, scope: ControlScope, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await office.pen.give(ControlAction(action), scope, "me", **more)
    assert said in refused.value.public


# Suspend and resume.


@long_ladder
async def test_what_is_suspended_waits_and_comes_back_at_once_when_it_is_resumed(office: Office, sink: Sink) -> None:
    outbox = office.outbox
    order = await office.order("suspend", account="held")
    async with office.couriers():
        held = await outbox.units(*(f"ok+held{n}@sandbox.test" for n in range(50)), account="held")
        free = await outbox.units(*(f"ok+free{n}@sandbox.test" for n in range(50)))
        await outbox.all_final(units=free)
        await office.until_on_the_ladder(50, "1m")
        assert not [unit for unit in held if copies(sink)[outbox.recipient(unit)]]
        for record in await office.on_the_ladder("1m"):
            assert header(record, "why") == f"suspended {order.control.control_id}"
        await office.pen.lift(order.control.control_id, "an operator")
        await outbox.all_final(20)
    assert await balanced(outbox, sink) == {}
    assert {unit.attempt for _, unit in await outbox.returned()} == {1}


@long_ladder
async def test_a_suspension_ends_by_itself_and_its_units_come_back(office: Office, sink: Sink) -> None:
    await office.order("suspend", until=now_ms() + 2_500, recipient_domain="sandbox.test")
    async with office.couriers():
        await office.outbox.units("ok+until@sandbox.test")
        await office.until_on_the_ladder(1, "1m")
        await office.outbox.all_final(20)
    assert await balanced(office.outbox, sink) == {}


@long_ladder
async def test_units_that_wait_for_a_connection_leave_their_courier_when_an_order_comes(
    office: Office, sink: Sink
) -> None:
    outbox = office.outbox
    async with office.couriers():
        # A host that answers slowly keeps most of them waiting in the courier.
        units = await outbox.units(*(f"slow+lane{n}@sandbox.test" for n in range(400)), account="held")
        await outbox.until(lambda events: len(events) > 5)
        order = await office.order("drop", account="held")
        await outbox.all_final(30)
    events = [event for event in await outbox.told() if event.unit_id in {unit.unit_id for unit in units}]
    ends = Counter(event.type for event in events)
    assert ends[EventType.CANCELLED] > 100
    late = [event for event in events if event.type is not EventType.CANCELLED]
    assert all(event.occurred_at < order.control.at + EFFECTIVE_MS for event in late)
    assert await balanced(outbox, sink) == {}


# Drop.


@long_ladder
async def test_what_is_dropped_on_the_ladder_ends_at_once_and_says_by_whom(office: Office, sink: Sink) -> None:
    outbox = office.outbox
    async with office.couriers():
        units = await outbox.units(*(f"defer-1x+drop{n}@sandbox.test" for n in range(30)), account="bad")
        others = await outbox.units(*(f"defer-1x+stay{n}@sandbox.test" for n in range(5)))
        await office.until_on_the_ladder(35, "15m")
        order = await office.order("drop", account="bad")
        await outbox.all_final(20, units=units)
        assert not set(await outbox.finals()) & {unit.unit_id for unit in others}
        await office.order("retry", account="main")
        await outbox.all_final(20)
    assert await balanced(outbox, sink) == {}
    for unit in units:
        assert await outbox.story(unit) == ["deferred", "cancelled"]
    event = next(event for event in await outbox.told() if event.type is EventType.CANCELLED)
    assert event.detail == CancelledDetail(control_id=order.control.control_id, by="an operator", reason="a test")
    assert event.attempt == 2


async def test_a_unit_that_was_dropped_before_it_was_prepared_is_never_sent(office: Office, sink: Sink) -> None:
    outbox = office.outbox
    order = await office.order("drop", account="bad")
    await office.pen.lift(order.control.control_id, "an operator")
    async with office.couriers():
        unit = await outbox.unit("ok+unfit@sandbox.test", account="bad")
        outbox.sent.append(unit)
        marks = [(CANCEL, order.control.control_id.encode()), (ORDER, b"%d" % order.offset)]
        partition = route_partition(unit.route, PARTITIONS)
        topic = full_name(outbox.settings.kafka, OUTBOUND.name)
        await outbox.out.send_and_wait(topic, encode(unit), partition=partition, headers=marks)
        await outbox.all_final()
    assert await outbox.story(unit) == ["cancelled"]
    assert await balanced(outbox, sink) == {}


# Retry.


@long_ladder
async def test_to_retry_brings_back_what_is_meant_and_leaves_the_rest(office: Office, sink: Sink) -> None:
    outbox = office.outbox
    async with office.couriers():
        meant = await outbox.units(*(f"defer-1x+meant{n}@sandbox.test" for n in range(20)), sender_domain="a.test")
        rest = await outbox.units(*(f"defer-1x+rest{n}@sandbox.test" for n in range(20)), sender_domain="b.test")
        await office.until_on_the_ladder(40, "15m")
        await office.order("retry", sender_domain="a.test")
        await outbox.all_final(20, units=meant)
        assert not set(await outbox.finals()) & {unit.unit_id for unit in rest}
        assert len(await outbox.returned()) == 20


@long_ladder
async def test_to_retry_leaves_what_is_scheduled(office: Office) -> None:
    outbox = office.outbox
    async with office.couriers() as (_, retry):
        await outbox.units("ok+later@sandbox.test", due_at=now_ms() + 1_200_000)
        await outbox.units("defer-1x+now@sandbox.test")
        await office.until_on_the_ladder(2, "15m")
        await office.order("retry")
        await outbox.until(lambda events: any(event.type is EventType.DELIVERED for event in events))
        async with asyncio.timeout(20):
            while not all(queue.swept.done for queue in retry.queues().values() if queue.checked):
                await asyncio.sleep(0.1)
    assert len(await outbox.returned()) == 1


@pytest.mark.long
@pytest.mark.parametrize("point", ["L1:2", "L2:2"])
async def test_a_keeper_killed_while_it_brings_units_back_sends_none_twice(
    kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, tmp_path: Path, point: str
) -> None:
    settings = settings_for(kafka_broker, dns_server, sink.port, next(PREFIXES), tmp_path, time_scale=1)
    async with opened(settings) as outbox, office_over(outbox) as office:
        units = [await outbox.unit(f"ok+{point.replace(':', '')}-{n}@sandbox.test") for n in range(2_500)]
        due = 14_000
        outbox.sent += units
        await lay(outbox, "15m", units, due)
        begun = time.monotonic()
        keeper = Worker(outbox, role="retry")
        await keeper.start(point)
        await office.order("retry")
        assert await keeper.ended() == -9
        after_kill = len(await outbox.returned())
        assert 0 < after_kill < 2_500
        await keeper.start()
        async with asyncio.timeout(30):
            while len(await outbox.returned()) < 2_500:
                await asyncio.sleep(0.2)
        # And when their own time has come.
        await asyncio.sleep(max(0.0, due / 1000 + 2 - (time.monotonic() - begun)))
        returned = await outbox.returned()
        await keeper.kill()
    assert len(returned) == 2_500
    assert sources_are_single(returned)


# Reroute.


async def test_what_is_rerouted_goes_on_by_the_other_pool_as_its_next_attempt(office: Office, sink: Sink) -> None:
    outbox = office.outbox
    await office.order("reroute", provider="sandbox.test", pool="relief")
    async with office.couriers():
        units = await outbox.units(*(f"ok+re{n}@sandbox.test" for n in range(40)))
        await outbox.all_final()
    assert await balanced(outbox, sink) == {}
    moved = {unit.unit_id: unit for _, unit in await outbox.returned()}
    assert {unit.route for unit in moved.values()} == {"relief/sandbox.test/0"}
    for unit in units:
        [event] = await outbox.told(unit)
        assert (event.type, event.attempt) == (EventType.DELIVERED, 2)
    at = {record.key: record.partition for record in await outbox.records(OUTBOUND)}
    assert at[b"relief/sandbox.test/0"] == route_partition("relief/sandbox.test/0", PARTITIONS)


async def test_a_repetition_of_a_rerouted_unit_is_passed_over_even_when_the_order_is_lifted(
    office: Office, sink: Sink
) -> None:
    outbox = office.outbox
    order = await office.order("reroute", account="main", pool="relief")
    async with office.couriers():
        units = await outbox.units(*(f"ok+again{n}@sandbox.test" for n in range(20)))
        await outbox.all_final()
        await office.pen.lift(order.control.control_id, "an operator")
        # Prepare was killed before it could commit, and says everything again.
        await outbox.post(*units)
        await outbox.units("ok+againlast@sandbox.test")
        await outbox.all_final()
    assert await balanced(outbox, sink) == {}


# Kills.


@pytest.mark.long
@pytest.mark.parametrize("action", ["drop", "suspend", "reroute"])
async def test_whoever_kills_couriers_and_keeper_while_orders_are_given_loses_nothing(
    office: Office, sink: Sink, action: str
) -> None:
    outbox, chance = office.outbox, random.Random(action)
    courier, keeper = Worker(outbox), Worker(outbox, role="retry")
    await courier.start()
    await keeper.start()
    stems = ("ok", "defer-1x", "slow", "ok")
    try:
        for round_ in range(4):
            names = [f"{stems[n % 4]}+{action}{round_}-{n}@sandbox.test" for n in range(160)]
            await outbox.units(*names[::2], account="good")
            await outbox.units(*names[1::2], account="bad")
            await asyncio.sleep(chance.uniform(0.1, 0.4))
            order = await office.order(action, account="bad", pool="relief" if action == "reroute" else "")
            await asyncio.sleep(chance.uniform(0.05, 0.5))
            victim = chance.choice([courier, keeper])
            await victim.kill()
            await victim.start()
            await asyncio.sleep(chance.uniform(0.1, 0.8))
            await office.pen.lift(order.control.control_id, "an operator")
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            await courier.kill()
            await courier.start()
        await outbox.all_final(90)
    finally:
        await courier.kill()
        await keeper.kill()
    surplus = await balanced(outbox, sink)
    assert sum(surplus.values()) <= sum((await outbox.ambiguous()).values())
    assert sources_are_single(await outbox.returned())


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_with_ten_thousand_in_flight_nothing_of_a_dropped_account_leaves_any_more(
    office: Office, sink: Sink
) -> None:
    outbox = office.outbox
    # Together, because the archive writes groups: one after the other each waits for the disk.
    made: list[MailUnit] = []
    for first in range(0, 10_000, 500):
        numbers = range(first, first + 500)
        units = (outbox.unit(f"ok+k{number}@sandbox.test", account=("bad", "good")[number % 2]) for number in numbers)
        made += await asyncio.gather(*units)
    async with office.couriers():
        await outbox.post(*made)
        await outbox.until(lambda events: len(events) > 500)
        order = await office.order("drop", account="bad")
        # What would wait longer in the lane than a minute waits that minute on the ladder, and then for its turn again.
        await outbox.all_final(240)
    events = await outbox.told()
    bad = [event for event in events if event.account == "bad"]
    cancelled = sum(event.type is EventType.CANCELLED for event in bad)
    sent = [event for event in bad if event.type is EventType.DELIVERED]
    latest = max((event.occurred_at for event in sent), default=order.control.at) - order.control.at
    print(f"cancelled {cancelled}, delivered {len(sent)}, the latest {latest} ms after the order")
    assert latest < EFFECTIVE_MS
    assert cancelled + len(sent) == 5_000
    assert cancelled > 1_000
    assert sum(event.type is EventType.DELIVERED for event in events if event.account == "good") == 5_000
    assert await balanced(outbox, sink) == {}
