"""kill -9 of couriers and of the ladder's keeper, at every named point: nothing lost, one end each, copies explained."""

import asyncio
import itertools
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.server import Sink
from depesche.schemas.service import now_ms
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.retry import Retry
from tests.contract.courier_worker import Worker, balanced
from tests.contract.far_side import dns_server, free_port, sink, zone
from tests.contract.outbox import Outbox, copies, opened, running, settings_for

__all__ = ["dns_server", "sink", "zone"]

CHECKOUT = Path(__file__).parents[2]
PREFIXES = (f"kill{number}." for number in itertools.count())


@pytest_asyncio.fixture
async def outbox(kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, tmp_path: Path) -> AsyncIterator[Outbox]:
    async with opened(settings_for(kafka_broker, dns_server, sink.port, next(PREFIXES), tmp_path)) as outbox:
        yield outbox


@pytest_asyncio.fixture
async def own_broker(kafka_home: Path, tmp_path: Path) -> AsyncIterator[tuple[KafkaBroker, int]]:
    """A broker that the test may stop, and its process id."""
    broker = KafkaBroker(kafka_home, tmp_path / "kafka", port=free_port(), controller_port=free_port())
    await asyncio.to_thread(broker.prepare)
    process = subprocess.Popen(broker.command(), env=broker.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await broker.ready()
        yield broker, process.pid
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


@pytest_asyncio.fixture
async def worker(outbox: Outbox) -> AsyncIterator[Worker]:
    worker = Worker(outbox)
    yield worker
    if worker.process is not None:
        await worker.kill()


def recipients(label: str, count: int) -> list[str]:
    """Mostly good ones, some that bounce, some that are taken at the second attempt."""
    stems = ("ok", "ok", "ok", "hardbounce", "defer-1x")
    return [f"{stems[number % len(stems)]}+{label}-{number}@sandbox.test" for number in range(count)]


@pytest.mark.parametrize(
    ("point", "may_repeat"),
    [("D3:9", 10), ("D5:9", 10), ("D7:9", 10)],
)
async def test_a_courier_killed_at_any_point_leaves_the_books_in_order(
    outbox: Outbox, sink: Sink, worker: Worker, point: str, may_repeat: int
) -> None:
    async with running(Retry(outbox.settings, "a")):
        await worker.start(point)
        await outbox.units(*recipients(point.replace(":", ""), 60))
        assert await worker.ended() == -signal.SIGKILL
        await worker.start()
        await outbox.all_final()
    surplus = await balanced(outbox, sink)
    assert sum(surplus.values()) <= may_repeat


@pytest.mark.parametrize(
    ("point", "copies_wanted", "ambiguous_wanted"),
    [("D1", 1, 0), ("D2", 1, 0), ("D3", 1, 0), ("D4", 1, 1), ("D5", 2, 1), ("D6", 2, 1), ("D7", 1, 0)],
)
async def test_only_a_dot_without_a_recorded_reply_is_in_doubt(
    outbox: Outbox, sink: Sink, worker: Worker, point: str, copies_wanted: int, ambiguous_wanted: int
) -> None:
    async with running(Retry(outbox.settings, "a")):
        await worker.start(point)
        [unit] = await outbox.units(f"single+{point}@sandbox.test")
        assert await worker.ended() == -signal.SIGKILL
        await worker.start()
        await outbox.all_final()
    await balanced(outbox, sink)
    assert copies(sink)[f"single+{point}@sandbox.test"] == copies_wanted
    assert (await outbox.ambiguous())[unit.unit_id] == ambiguous_wanted
    assert await outbox.story(unit) == (["deferred"] * ambiguous_wanted) + ["delivered"]


#: How often is killed: the more often, the longer it takes.
ROUNDS = pytest.mark.parametrize("rounds", [2, pytest.param(5, marks=pytest.mark.long)])


@ROUNDS
async def test_whoever_kills_couriers_again_and_again_loses_nothing(
    outbox: Outbox, sink: Sink, worker: Worker, rounds: int
) -> None:
    chance = random.Random(7)
    async with running(Retry(outbox.settings, "a")):
        await worker.start()
        for round_ in range(rounds):
            await outbox.units(*recipients(f"r{rounds}{round_}", 120))
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            await worker.kill()
            await worker.start()
        await outbox.all_final()
    surplus = await balanced(outbox, sink)
    assert sum(surplus.values()) <= sum((await outbox.ambiguous()).values())


async def test_a_unit_that_waited_on_the_ladder_before_is_not_taken_for_one_that_waits_there_now(
    outbox: Outbox,
) -> None:
    # A courier has moved the unit to the ladder, it has come back, and a kill fell between the mark that it waits again and
    # the record that lets it wait. The first stay on the ladder must not stand for the second.
    [unit] = await outbox.units("twice-parked@sandbox.test")
    first = now_ms()
    await outbox.park(unit, 0)
    await outbox.wait_on_the_ladder(unit, 0, first)
    async with running(Retry(outbox.settings, "a")):
        async with asyncio.timeout(20):
            while not await outbox.returned():
                await asyncio.sleep(0.05)
    await outbox.park(unit, 1)
    async with outbox.couriers():
        await outbox.all_final(20)
    assert await outbox.story(unit) == ["delivered"]


@ROUNDS
async def test_a_killed_keeper_of_the_ladder_sends_nothing_back_twice(
    outbox: Outbox, sink: Sink, worker: Worker, rounds: int
) -> None:
    keeper = Worker(outbox, role="retry")
    chance = random.Random(8)
    await worker.start()
    await keeper.start()
    try:
        for round_ in range(rounds):
            await outbox.units(*(f"defer-1x+k{rounds}{round_}-{number}@sandbox.test" for number in range(150)))
            await asyncio.sleep(chance.uniform(0.3, 0.7))
            await keeper.kill()
            await keeper.start()
        await outbox.all_final()
    finally:
        await keeper.kill()
    await balanced(outbox, sink)
    returned = await outbox.returned()
    assert set(Counter(source for source, _ in returned).values()) == {1}
    assert len({unit.unit_id for _, unit in returned if unit.attempt == 2}) == 150 * rounds


async def test_a_courier_that_was_stopped_and_goes_on_finishes_nothing(
    outbox: Outbox, sink: Sink, worker: Worker
) -> None:
    other = Worker(outbox, member="b")
    async with running(Retry(outbox.settings, "a")):
        await worker.start()
        await outbox.units(*recipients("zombie", 60))
        await asyncio.sleep(0.4)
        worker.signal(signal.SIGSTOP)
        # The group gives the partitions away one session later; the other courier takes them over.
        await other.start()
        await outbox.units(*recipients("afterzombie", 40))
        await outbox.all_final(60)
        worker.signal(signal.SIGCONT)
        assert await worker.ended() == 1
    await other.kill()
    await balanced(outbox, sink)


@pytest.mark.long
async def test_couriers_that_come_and_go_hand_over_without_a_second_copy(
    outbox: Outbox, sink: Sink, worker: Worker
) -> None:
    async with running(Retry(outbox.settings, "a")):
        await worker.start()
        await outbox.units(*recipients("before", 150))
        async with running(Deliver(outbox.settings, outbox.keyring, outbox.archive, "b")):
            await outbox.units(*recipients("together", 150))
            await asyncio.sleep(1)
        await outbox.units(*recipients("alone", 50))
        await outbox.all_final(60)
    assert await balanced(outbox, sink) == {}
    assert not await outbox.ambiguous()


async def test_while_the_log_stands_nothing_new_is_begun_and_nothing_is_forgotten(
    own_broker: tuple[KafkaBroker, int], dns_server: DNSServer, sink: Sink, tmp_path: Path
) -> None:
    broker, pid = own_broker
    settings = settings_for(broker, dns_server, sink.port, "still.", tmp_path, dot_seconds=60, block_seconds=60)
    async with opened(settings) as outbox:
        worker = Worker(outbox)
        async with running(Retry(outbox.settings, "a")):
            await worker.start()
            await outbox.units(*recipients("still", 200))
            await asyncio.sleep(0.3)
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(3)
            during = sum(copies(sink).values())
            await asyncio.sleep(2)
            # Those whose dot was allowed before may still have arrived, but no other.
            assert sum(copies(sink).values()) == during
            os.kill(pid, signal.SIGCONT)
            await outbox.all_final(60)
        await worker.kill()
        assert await balanced(outbox, sink) == {}
        assert not await outbox.ambiguous()
