"""The runner on a real broker: nothing lost, little repeated, whatever is done to it."""

import asyncio
import contextlib
import itertools
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from depesche.analytics.log.client import full_name, producer, reader
from depesche.analytics.log.topics import create_missing
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.codec import decode
from depesche.schemas.errors import ArchiveUnavailableError
from depesche.schemas.records import DeadLetter
from depesche.schemas.settings import Settings
from depesche.schemas.topics import DEAD, EVENTS, JOBS
from depesche.streams.runner.runner import Limits, Runner
from depesche.streams.runner.watchdog import LagWitness, StalledError

from .runner_worker import Copier, settings_for

WORKER = Path(__file__).with_name("runner_worker.py")
_names = itertools.count()


@pytest_asyncio.fixture
async def settings(kafka_broker: KafkaBroker) -> Settings:
    """A log of its own for each test."""
    made = settings_for(kafka_broker.bootstrap_servers, f"runner{next(_names)}.")
    await create_missing(made)
    return made


@pytest_asyncio.fixture
async def out(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    made = producer(settings, "test")
    await made.start()
    yield made
    await made.stop()


async def _submit(out: AIOKafkaProducer, settings: Settings, values: list[bytes]) -> None:
    topic = full_name(settings.kafka, JOBS.name)
    await asyncio.gather(*[await out.send(topic, value, partition=n % 2) for n, value in enumerate(values)])


async def _read(settings: Settings, topic: str) -> list[bytes]:
    """Everything in a topic, by a client that is no part of the runner."""
    consumer: AIOKafkaConsumer = reader(settings, "test")
    await consumer.start()
    try:
        name = full_name(settings.kafka, topic)
        partitions = [TopicPartition(name, n) for n in consumer.partitions_for_topic(name) or (0, 1)]
        partitions = partitions if topic != DEAD.name else partitions[:1]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        found: list[bytes] = []
        while any([await consumer.position(p) < end for p, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += [record.value for record in records]
        return found
    finally:
        await consumer.stop()


async def _lag(settings: Settings, client_id: str = "", owned: Callable[[], set[TopicPartition]] | None = None) -> int:
    """What waits in all partitions, or in those that the member ``client_id`` has to answer for."""
    name = full_name(settings.kafka, JOBS.name)
    owned = owned or (lambda: {TopicPartition(name, n) for n in range(2)})
    return await LagWitness(settings, full_name(settings.kafka, "copier"), client_id, [name], owned).lag()


async def _until_committed(settings: Settings, left: int = 0) -> None:
    while await _lag(settings) > left:
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def _running(runner: Runner) -> AsyncIterator[asyncio.Task[None]]:
    ready = asyncio.Event()
    task = asyncio.create_task(runner.run(ready.set))
    started = asyncio.create_task(ready.wait())
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_all_records_are_worked_on_once_and_committed(settings: Settings, out: AIOKafkaProducer) -> None:
    values = [b"%d" % n for n in range(500)]
    stage = Copier(out, settings)
    async with _running(Runner(settings, stage, out, "one", Limits(in_flight=50))):
        await _submit(out, settings, values)
        await _until_committed(settings)
    assert Counter(await _read(settings, EVENTS.name)) == Counter(values)


async def test_a_stop_lets_work_under_way_end_and_repeats_nothing(settings: Settings, out: AIOKafkaProducer) -> None:
    values = [b"%d" % n for n in range(300)]
    await _submit(out, settings, values)
    stages = []
    for _ in range(20):
        stage = Copier(out, settings)
        stages.append(stage)
        async with _running(Runner(settings, stage, out, "one", Limits(in_flight=40))):
            while len(stage.taken) < 30 and sum(len(s.taken) for s in stages) < 300:
                await asyncio.sleep(0.005)
        if sum(len(s.taken) for s in stages) >= 300:
            break
    assert Counter(await _read(settings, EVENTS.name)) == Counter(values)


async def test_a_bad_record_is_buried_with_its_cause_and_the_next_ones_go_on(
    settings: Settings, out: AIOKafkaProducer
) -> None:
    async with _running(Runner(settings, Copier(out, settings), out, "one")):
        await _submit(out, settings, [b"a", b"b", b"poison", b"bug", b"c", b"d"])
        await _until_committed(settings)
    assert sorted(await _read(settings, EVENTS.name)) == [b"a", b"b", b"c", b"d"]
    letters = [decode(DeadLetter, value) for value in await _read(settings, DEAD.name)]
    assert sorted((letter.cause, letter.record_value) for letter in letters) == [
        ("ZeroDivisionError", b"bug"),
        ("undecodable", b"poison"),
    ]
    assert {letter.stage for letter in letters} == {"copier"}


async def test_an_outage_ends_the_run_and_its_record_is_worked_on_again(
    settings: Settings, out: AIOKafkaProducer
) -> None:
    await _submit(out, settings, [b"0", b"1", b"outage", b"3", b"4", b"5"])
    async with _running(Runner(settings, Copier(out, settings), out, "one")) as task:
        with pytest.raises(ArchiveUnavailableError):
            await task
    again = Copier(out, settings)
    async with _running(Runner(settings, again, out, "one")) as task:
        with pytest.raises(ArchiveUnavailableError):
            await task
    assert b"outage" in again.taken
    assert await _lag(settings) > 0


async def test_a_second_member_gets_its_share_and_nothing_is_lost(settings: Settings, out: AIOKafkaProducer) -> None:
    values = [b"%d" % n for n in range(2000)]
    stages = [Copier(out, settings, slowest=0.05), Copier(out, settings, slowest=0.05)]
    await _submit(out, settings, values)
    async with _running(Runner(settings, stages[0], out, "one", Limits(in_flight=20))):
        while len(stages[0].taken) < 100:
            await asyncio.sleep(0.01)
        async with _running(Runner(settings, stages[1], out, "two", Limits(in_flight=20))):
            await _until_committed(settings)
            assert [len(stage.owned) for stage in stages] == [1, 1]
    copies = Counter(await _read(settings, EVENTS.name))
    assert set(copies) == set(values)
    # What was under way when the partition went is given time to end, so nothing is done twice.
    assert sum(copies.values()) == len(values)


async def test_who_stands_by_does_not_answer_for_what_others_hold(settings: Settings, out: AIOKafkaProducer) -> None:
    stage = Copier(out, settings)
    await _submit(out, settings, [b"1", b"2", b"3"])
    # A member that was thrown out has nothing either, and nobody else has it: it must see what waits.
    assert await _lag(settings, "copier-one", set) == 3
    async with _running(Runner(settings, stage, out, "one")):
        await _until_committed(settings)
        await _submit(out, settings, [b"stuck", b"stuck"])
        while stage.taken.count(b"stuck") < 2:
            await asyncio.sleep(0.05)
        assert await _lag(settings, "copier-one") == 2
        assert await _lag(settings, "copier-two", set) == 0
        # As Kafka still knows it as the holder of both, who was that member answers for them itself.
        assert await _lag(settings, "copier-one", set) == 2


async def test_a_runner_that_stands_still_ends_itself(settings: Settings, out: AIOKafkaProducer) -> None:
    stage = Copier(out, settings)
    stage.excuse = "a test that looks first"
    async with _running(Runner(settings, stage, out, "one", Limits(patience_seconds=0.5, drain_seconds=0))) as task:
        await _submit(out, settings, [b"stuck"])
        await asyncio.sleep(1.5)
        assert not task.done()
        stage.excuse = None
        with pytest.raises(StalledError):
            await task


async def test_more_records_than_may_be_in_flight_wait_in_the_log(settings: Settings, out: AIOKafkaProducer) -> None:
    stage = Copier(out, settings)
    runner = Runner(settings, stage, out, "one", Limits(in_flight=10, drain_seconds=0))
    await _submit(out, settings, [b"stuck"] * 50)
    async with _running(runner):
        while len(stage.taken) < 10:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert (len(stage.taken), runner.in_flight) == (10, 10)


async def test_killed_again_and_again_nothing_is_lost_and_little_repeated(
    settings: Settings, out: AIOKafkaProducer
) -> None:
    values = [b"%d" % n for n in range(3000)]
    await _submit(out, settings, values[:1000])
    kills = 3
    for kill in range(kills + 1):
        command = [sys.executable, str(WORKER), settings.bootstrap, settings.kafka.topic_prefix, "one"]
        worker = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        try:
            assert worker.stdout is not None
            assert (await asyncio.wait_for(worker.stdout.readline(), 30)).strip() == b"ready"
            if kill == kills:
                await _until_committed(settings)
            else:
                await _submit(out, settings, values[1000 + kill * 600 : 1600 + kill * 600])
                await asyncio.sleep(0.45)
        finally:
            worker.kill()
            await worker.wait()
        if kill == kills - 1:
            await _submit(out, settings, values[2800:])
    copies = Counter(await _read(settings, EVENTS.name))
    assert set(copies) == set(values)
    # At most what was in flight or done since the last commit, for each kill.
    assert sum(copies.values()) - len(values) <= kills * 1000


class Broker:
    """A Kafka that the test kills and starts again on the same ports."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.broker = broker
        self.start()

    def start(self) -> None:
        command, silence = self.broker.command(), subprocess.DEVNULL
        self._process = subprocess.Popen(command, env=self.broker.env(), stdout=silence, stderr=silence)

    async def kill(self) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.wait, 30)


class Workers:
    """Two members of the group, to be killed at any moment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self) -> None:
        """Start those that do not run."""
        for member in {"one", "two"} - set(self._processes):
            command = [sys.executable, str(WORKER), self._settings.bootstrap, self._settings.kafka.topic_prefix, member]
            self._processes[member] = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)

    async def ready(self, member: str) -> None:
        """Wait until a member has joined, or has ended because it could not."""
        stdout = self._processes[member].stdout
        assert stdout is not None
        await asyncio.wait_for(stdout.readline(), 60)

    async def kill(self, *members: str) -> None:
        for member in members or list(self._processes):
            process = self._processes.pop(member)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_killed_from_the_first_moment_on_and_with_the_broker_killed_under_it_nothing_is_lost(
    kafka_home: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    made = KafkaBroker(kafka_home, tmp_path / "kafka", port=free_port(), controller_port=free_port())
    await asyncio.to_thread(made.prepare)
    broker, settings, chance = Broker(made), settings_for(made.bootstrap_servers, "killed."), random.Random(7)
    workers, sent, over = Workers(settings), list[asyncio.Future[object]](), asyncio.Event()
    await made.ready(120)
    await create_missing(settings)
    out = producer(settings, "test")
    await out.start()

    async def submit() -> None:
        topic = full_name(settings.kafka, JOBS.name)
        while not over.is_set():
            for _ in range(20):
                sent.append(await out.send(topic, b"%d" % len(sent), partition=len(sent) % 2))
            await asyncio.sleep(0.05)

    submitting = asyncio.create_task(submit())
    try:
        for turn in range(14):
            await workers.start()
            victim, early = chance.choice(("one", "two")), turn % 3 == 0
            if not early:
                await workers.ready(victim)
            # Before it has joined, or before it has committed, or in the middle of its work.
            await asyncio.sleep(chance.uniform(0, 2))
            if turn in (5, 9):
                await broker.kill()
                broker.start()
            await workers.kill(victim)
        over.set()
        await submitting
        await made.ready(120)
        await asyncio.gather(*sent)
        await workers.kill()
        await workers.start()
        async with asyncio.timeout(120):
            await _until_committed(settings)
        copies = Counter(await _read(settings, EVENTS.name))
        assert set(copies) == {b"%d" % number for number in range(len(sent))}
    finally:
        submitting.cancel()
        await workers.kill()
        await out.stop()
        await broker.kill()
