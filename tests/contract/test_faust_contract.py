"""What the installed Faust does on a real broker when things go wrong. The folds are built around these answers.

Each test documents today's behaviour and fails when it changes in either direction, because then a rule of
``streams/agents/app.py`` has lost its reason or needs a new one.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from depesche.infra.local.kafka_broker import KafkaBroker

WORKER = Path(__file__).with_name("faust_worker.py")
SECONDS = 60


@dataclass
class Lab:
    """One topic, one worker that can be killed and started again."""

    bootstrap: str
    prefix: str
    mode: str
    report: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.report.unlink(missing_ok=True)
        command = [sys.executable, str(WORKER), self.bootstrap, self.prefix, self.mode, str(self.report)]
        with self.report.with_suffix(".log").open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def told(self) -> dict[str, Any]:
        return dict(json.loads(self.report.read_text())) if self.report.exists() else {"sum": 0, "seen": []}

    async def until(self, right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            while not right(self.told()):
                assert self.process is not None
                assert self.process.poll() is None, self.report.with_suffix(".log").read_text()[-2000:]
                await asyncio.sleep(0.1)
        return self.told()

    async def committed(self) -> int | None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=f"{self.prefix}.mail.agents", enable_auto_commit=False
        )
        await consumer.start()
        try:
            # Assigned by hand, so that asking does not join the group and disturb it.
            partition = TopicPartition(f"{self.prefix}.in", 0)
            consumer.assign([partition])
            offset: int | None = await consumer.committed(partition)
            return offset
        finally:
            await consumer.stop()

    async def send(self, numbers: range, pause: float = 0) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        await producer.start()
        try:
            for number in numbers:
                await producer.send(f"{self.prefix}.in", str(number).encode(), partition=0)
                if pause and number % 100 == 99:
                    await asyncio.sleep(pause)
        finally:
            await producer.stop()


@pytest.fixture
async def lab(kafka_broker: KafkaBroker, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    mode = request.param
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    await admin.start()
    names = (f"faust-{mode}.in", f"faust-{mode}.mail.agents-sums-changelog")
    await admin.create_topics([NewTopic(name, 1, 1) for name in names])
    await admin.close()
    lab = Lab(kafka_broker.bootstrap_servers, f"faust-{mode}", mode, tmp_path / "report.json")
    yield lab
    if lab.process is not None:
        lab.kill()


@pytest.mark.long
@pytest.mark.parametrize("lab", ["raising"], indirect=True)
async def test_an_event_whose_agent_raises_is_gone_for_good(lab: Lab) -> None:
    lab.start()
    await lab.send(range(2000))
    told = await lab.until(lambda r: len(r["seen"]) >= 1996)
    lost = {250, 750, 1250, 1750}
    assert set(range(2000)) - set(told["seen"]) == lost
    assert told["sum"] == 1996
    await asyncio.sleep(1.5)  # Three commit intervals: whatever Faust counts as done is now committed.
    lab.kill()
    lab.start()
    await lab.send(range(3000, 3001))
    told = await lab.until(lambda r: 3000 in r["seen"])
    assert not lost & set(told["seen"])


@pytest.mark.long
@pytest.mark.parametrize("lab", ["unordered"], indirect=True)
async def test_an_ack_out_of_order_commits_past_a_message_still_being_worked_on(lab: Lab) -> None:
    lab.start()
    await lab.send(range(20))
    await lab.until(lambda r: len(r["seen"]) == 20)
    async with asyncio.timeout(20):
        while (await lab.committed() or 0) <= 5:
            await asyncio.sleep(0.3)
    lab.kill()
    lab.start()
    await lab.send(range(100, 101))
    told = await lab.until(lambda r: 100 in r["seen"])
    assert 5 not in told["seen"], (
        "the unfinished message came back: Faust's commit has changed, read the agents' rules again"
    )


async def _sum_after_three_kills(lab: Lab, count: int) -> int:
    lab.start()
    sending = asyncio.create_task(lab.send(range(count), pause=0.03))
    for _ in range(3):
        before = lab.told()["sum"]
        # Killed while it is busy, between two commits.
        await lab.until(lambda r, before=before: r["sum"] > before)  # type: ignore[misc]
        lab.kill()
        lab.start()
        await lab.until(lambda r: r["sum"] > 0)
    await sending
    told = await lab.until(lambda r: count - 1 in r["seen"])
    return int(told["sum"])


@pytest.mark.long
@pytest.mark.parametrize("lab", ["plain"], indirect=True)
async def test_a_plain_counter_is_too_high_after_three_kills(lab: Lab) -> None:
    assert await _sum_after_three_kills(lab, 20_000) > 20_000


@pytest.mark.long
@pytest.mark.parametrize("lab", ["watermarked"], indirect=True)
async def test_a_counter_with_a_watermark_is_exact_after_three_kills(lab: Lab) -> None:
    assert await _sum_after_three_kills(lab, 20_000) == 20_000


async def test_seeking_to_the_committed_offset_leaves_a_partition_without_one_where_it_is(
    kafka_broker: KafkaBroker,
) -> None:
    """Why there is ``streams/agents/transport.py``: what was fetched and thrown away before the seek would be lost."""
    servers, place = kafka_broker.bootstrap_servers, TopicPartition("faust-seek.in", 0)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(place.topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        for number in range(3):
            await producer.send_and_wait(place.topic, str(number).encode(), partition=0)
    async with AIOKafkaConsumer(bootstrap_servers=servers, group_id="faust-seek", enable_auto_commit=False) as consumer:
        consumer.assign([place])
        for committed in (None, 0):
            if committed is not None:
                await consumer.commit({place: committed})
            await consumer.seek_to_beginning(place)
            assert len((await consumer.getmany(place, timeout_ms=10_000))[place]) == 3
            await consumer.seek_to_committed(place)
            assert await consumer.position(place) == 3
        await consumer.commit({place: 1})
        await consumer.seek_to_committed(place)
        assert await consumer.position(place) == 1


@pytest.mark.parametrize("lab", ["late"], indirect=True)
async def test_our_transport_goes_back_to_the_beginning_when_nothing_was_committed(lab: Lab) -> None:
    await lab.send(range(20))
    producer = AIOKafkaProducer(bootstrap_servers=lab.bootstrap, acks="all")
    async with producer:
        held = {"key": b'"elsewhere"', "value": b"[1, -1]", "partition": 0}
        await producer.send_and_wait(f"{lab.prefix}.mail.agents-sums-changelog", **held)
    lab.start()
    async with asyncio.timeout(SECONDS):
        while not lab.report.exists():
            await asyncio.sleep(0.1)
    await lab.send(range(20, 21))
    assert set((await lab.until(lambda r: 20 in r["seen"]))["seen"]) == set(range(21))
