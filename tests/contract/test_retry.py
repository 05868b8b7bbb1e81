"""The ladder's keeper on a real broker: back when due, in order, with little in memory, whatever it finds."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest_asyncio

from depesche.analytics.log.client import full_name
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.server import Sink
from depesche.schemas.codec import decode, encode
from depesche.schemas.records import MailUnit
from depesche.schemas.service import now_ms
from depesche.schemas.topics import OUTBOUND, RETRY, route_partition
from depesche.streams.stages.retry import Retry
from tests.contract.far_side import dns_server, sink, zone
from tests.contract.outbox import PARTITIONS, Outbox, opened, running, settings_for

__all__ = ["dns_server", "sink", "zone"]

PREFIXES = (f"retry{number}." for number in itertools.count())


@pytest_asyncio.fixture
async def outbox(kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, tmp_path: Path) -> AsyncIterator[Outbox]:
    async with opened(settings_for(kafka_broker, dns_server, sink.port, next(PREFIXES), tmp_path)) as outbox:
        yield outbox


async def lay(outbox: Outbox, rung: str, dues: Sequence[int], *, header: bool = True) -> list[MailUnit]:
    """Put units on a rung, one for each due time, all on one route."""
    first = await outbox.unit("a@sandbox.test")
    name = full_name(outbox.settings.kafka, RETRY[rung].name)
    units, sent = [], []
    for number, due in enumerate(dues):
        unit = MailUnit.from_avro({**first.to_avro(), "unit_id": f"{rung}.{number}", "due_at": due, "attempt": 2})
        units.append(unit)
        headers = [("due", b"%d" % due)] if header else []
        partition = route_partition(unit.route, PARTITIONS)
        future = await outbox.out.send(
            name, encode(unit), key=unit.route.encode(), partition=partition, headers=headers
        )
        sent.append(future)
    await asyncio.gather(*sent)
    return units


async def back(outbox: Outbox, count: int) -> list[tuple[int, MailUnit]]:
    """Wait until ``count`` units are back; the broker's time stamp and the unit of each, in the log's order."""
    async with asyncio.timeout(30):
        while True:
            records = await outbox.records(OUTBOUND)
            if len(records) >= count:
                return [(record.timestamp, decode(MailUnit, record.value)) for record in records]
            await asyncio.sleep(0.1)


async def test_units_come_back_when_they_are_due_and_in_that_order(outbox: Outbox) -> None:
    now = now_ms()
    await lay(outbox, "1m", [now + 1500 + 3 * number for number in range(500)])
    await lay(outbox, "5m", [now + 1000 + 4 * number for number in range(300)])
    await lay(outbox, "4h", [now + 3_600_000])
    async with running(Retry(outbox.settings, "a")):
        found = await back(outbox, 800)
        await asyncio.sleep(0.5)
        assert len(await outbox.records(OUTBOUND)) == 800
    assert all(stamp >= unit.due_at for stamp, unit in found)
    for rung in ("1m", "5m"):
        order = [int(unit.unit_id.partition(".")[2]) for _, unit in found if unit.unit_id.startswith(rung)]
        assert order == sorted(order)


async def test_a_head_that_is_not_due_holds_up_no_other_rung(outbox: Outbox) -> None:
    await lay(outbox, "1h", [now_ms() + 3_600_000])
    async with running(Retry(outbox.settings, "a")):
        await lay(outbox, "1m", [now_ms() + 200])
        [(_, unit)] = await back(outbox, 1)
    assert unit.unit_id == "1m.0"


async def test_a_long_queue_is_not_read_into_memory(outbox: Outbox) -> None:
    await lay(outbox, "1h", [now_ms() + 3_600_000] * 4_000)
    retry = Retry(outbox.settings, "a")
    async with running(retry):
        await lay(outbox, "1m", [now_ms()])
        await back(outbox, 1)
        held = sum(len(waiting.records) for waiting in retry._waiting.values())
        await asyncio.sleep(0.5)
        assert sum(len(waiting.records) for waiting in retry._waiting.values()) == held
        assert held <= 500


async def test_a_backlog_of_units_that_are_due_long_since_comes_back_whole(outbox: Outbox) -> None:
    units = await lay(outbox, "15m", [now_ms() - 60_000] * 5_000)
    async with running(Retry(outbox.settings, "a")):
        found = await back(outbox, 5_000)
    assert [unit.unit_id for _, unit in found] == [unit.unit_id for unit in units]


async def test_a_new_keeper_begins_where_the_old_one_stopped(outbox: Outbox) -> None:
    await lay(outbox, "1m", [now_ms()] * 100)
    async with running(Retry(outbox.settings, "a")):
        await back(outbox, 100)
    await lay(outbox, "5m", [now_ms()] * 10)
    async with running(Retry(outbox.settings, "a")):
        await back(outbox, 110)
        await asyncio.sleep(0.3)
        assert len(await outbox.records(OUTBOUND)) == 110


async def test_a_record_without_our_header_is_looked_into_and_one_that_cannot_be_read_goes_on_to_be_buried(
    outbox: Outbox,
) -> None:
    due = now_ms() + 700
    await lay(outbox, "1m", [due], header=False)
    name = full_name(outbox.settings.kafka, RETRY["5m"].name)
    await outbox.out.send_and_wait(name, b"nonsense", key=b"k", partition=0)
    async with running(Retry(outbox.settings, "a")):
        async with asyncio.timeout(20):
            while len(records := await outbox.records(OUTBOUND)) < 2:
                await asyncio.sleep(0.1)
    by_value = {record.value: record.timestamp for record in records}
    assert b"nonsense" in by_value
    assert all(stamp >= due for value, stamp in by_value.items() if value != b"nonsense")
