"""One slow, dead or hanging provider holds up nobody else, and nothing spins meanwhile."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from depesche.analytics.log.client import connection
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.server import Sink
from depesche.schemas.records import AttemptPhase, EventType
from depesche.schemas.service import now_ms
from depesche.schemas.topics import OUTBOUND
from depesche.streams.stages import deliver as deliver_module
from tests.contract.far_side import dns_server, sink, zone
from tests.contract.outbox import Outbox, copies, opened, settings_for

__all__ = ["dns_server", "sink", "zone"]

PREFIXES = (f"moving{number}." for number in itertools.count())
Open = Callable[..., AbstractAsyncContextManager[Outbox]]


@pytest_asyncio.fixture
async def open_outbox(
    kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, tmp_path: Path
) -> AsyncIterator[Open]:
    def open_(**deliver: object) -> AbstractAsyncContextManager[Outbox]:
        return opened(settings_for(kafka_broker, dns_server, sink.port, next(PREFIXES), tmp_path, **deliver))

    yield open_


async def test_a_host_that_hangs_takes_no_room_from_the_others(open_outbox: Open, sink: Sink) -> None:
    # Far fewer places than units for the hanging host, which says nothing for longer than the test lasts.
    async with open_outbox(in_flight=64, banner_seconds=100) as outbox, outbox.couriers():
        hanging = [f"h{number}@silent.test" for number in range(300)]
        good = [f"beside-{number}@sandbox.test" for number in range(300)]
        mixed = [recipient for pair in zip(hanging, good, strict=True) for recipient in pair]
        units = await outbox.units(*mixed)
        await outbox.all_final(units=units[1::2])
        told = {event.unit_id for event in await outbox.told()}
        # A unit that waited in vain is moved to the ladder: that is no attempt, and no event.
        assert not told & {unit.unit_id for unit in units[0::2]}
        parked = {mark.unit_id for mark in await outbox.marks() if mark.phase is AttemptPhase.PARKED}
        assert len(parked & {unit.unit_id for unit in units[0::2]}) > 200
    assert all(copies(sink)[recipient] == 1 for recipient in good)


async def test_many_different_dead_domains_do_not_hold_up_a_good_one(open_outbox: Open, sink: Sink) -> None:
    async with open_outbox(in_flight=64) as outbox, outbox.couriers():
        dead = [f"a@timeout-{number}.test" for number in range(40)]
        await outbox.units(*dead, expires_at=now_ms() + 6_000)
        good = await outbox.units(*(f"besidedead-{number}@sandbox.test" for number in range(100)))
        await outbox.all_final(units=good)
        await outbox.all_final()
    for unit in outbox.sent[: len(dead)]:
        assert (await outbox.story(unit))[-1] in ("bounced", "expired")


async def test_a_dead_provider_is_probed_and_not_stormed(open_outbox: Open) -> None:
    async with open_outbox(time_scale=0.02) as outbox, outbox.couriers():
        units = await outbox.units(*(f"d{number}@dead.test" for number in range(400)), expires_at=now_ms() + 6_000)
        await outbox.all_final()
        events = await outbox.told()
    # Each unit has one end, and yet only few were tried: while the route backs off, units wait on the ladder untried.
    assert sum((await outbox.finals()).values()) == len(units)
    assert {event.type for event in events} <= {EventType.DEFERRED, EventType.EXPIRED}
    tried = [event for event in events if event.type is EventType.DEFERRED]
    assert len(tried) < len(units) / 2
    started = [mark for mark in await outbox.marks() if mark.phase is AttemptPhase.STARTED]
    assert len(started) < len(units) / 2


async def test_an_attempt_that_takes_long_holds_back_no_offset_and_is_not_lost_by_it(
    open_outbox: Open, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_module, "_CARRY_SECONDS", 1.0)
    async with open_outbox(banner_seconds=100) as outbox:
        async with outbox.couriers():
            [slow] = await outbox.units("carried@silent.test")
            await asyncio.sleep(0.5)
            await outbox.units(*(f"besidecarried-{number}@sandbox.test" for number in range(20)))
            await outbox.all_final(units=outbox.sent[1:])
            name = outbox.settings.kafka.topic_prefix + OUTBOUND.name
            first = next(
                r for r in await outbox.records(OUTBOUND) if r.value is not None and slow.unit_id.encode() in r.value
            )
            for _ in range(100):
                committed = await _committed(outbox, name, first.partition)
                if committed > first.offset:
                    break
                await asyncio.sleep(0.1)
            assert committed > first.offset
        marks = [mark for mark in await outbox.marks() if mark.unit_id == slow.unit_id]
        assert {mark.phase for mark in marks} == {AttemptPhase.STARTED}
        assert len({mark.offset for mark in marks}) > 1
        # The next courier finds it by its younger copy, and brings it to its end, once.
        deliver = outbox.settings.deliver.model_copy(update={"banner_seconds": 0.2, "lifetime_hours": 1})
        async with outbox.couriers(outbox.settings.model_copy(update={"deliver": deliver})):
            events = await outbox.until(lambda events: any(event.unit_id == slow.unit_id for event in events))
    assert next((event.type, event.attempt) for event in events if event.unit_id == slow.unit_id) == (
        EventType.DEFERRED,
        1,
    )


async def _committed(outbox: Outbox, topic: str, partition: int) -> int:
    admin = AIOKafkaAdminClient(**connection(outbox.settings))
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(outbox.settings.kafka.topic_prefix + "deliver")
    finally:
        await admin.close()
    return next((place.offset for tp, place in offsets.items() if (tp.topic, tp.partition) == (topic, partition)), 0)
