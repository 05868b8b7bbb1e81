"""The rates agent in production form: exact after three kills, also when couriers said some outcomes twice."""

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

from depesche.analytics.log import topics
from depesche.analytics.log.client import producer
from depesche.analytics.log.sums import read_sums, totals
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas import cloudevents
from depesche.schemas.codec import encode
from depesche.schemas.identity import event_id
from depesche.schemas.records import EventType, MailEvent
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import OUTCOMES, partition_of

WORKER = Path(__file__).with_name("rates_worker.py")
PREFIX = "rates."
COUNT = 12_000
TYPES = (EventType.DELIVERED, EventType.DEFERRED, EventType.BOUNCED)


def _events() -> list[MailEvent]:
    chance, now = random.Random(5), int(time.time() * 1000)
    return [
        MailEvent(
            event_id=event_id(f"j.{number}", "x", 1),
            type=chance.choice(TYPES),
            unit_id=f"j.{number}",
            job_id="j",
            tenant="1",
            account="a",
            recipient_key=f"{chance.getrandbits(128):032x}",
            occurred_at=now - chance.randrange(600_000),
            sequence=101,
            attempt=1,
            worker="w",
            provider=chance.choice(("gmail", "gmx")),
        )
        for number in range(COUNT)
    ]


async def _say(settings: Settings, events: list[MailEvent], pause: float) -> None:
    chance = random.Random(6)
    sender = producer(settings, "test")
    await sender.start()
    for number, event in enumerate(events):
        # Every twentieth outcome is said again some time later, as after the restart of a courier.
        again = [events[chance.randrange(max(0, number - 500), number)]] if number % 20 == 19 else []
        for one in (event, *again):
            place = partition_of(one.recipient_key, settings.kafka.partitions)
            await sender.send(PREFIX + OUTCOMES.name, encode(one), partition=place, headers=cloudevents.of_event(one))
        if number % 300 == 299:
            await asyncio.sleep(pause)
    await sender.stop()


def _expected(events: list[MailEvent]) -> dict[tuple[EventType, str, int], int]:
    counts: dict[tuple[EventType, str, int], int] = {}
    for event in events:
        key = (event.type, event.provider, event.occurred_at // 60_000 * 60_000)
        counts[key] = counts.get(key, 0) + 1
    return counts


async def test_the_sums_are_exact_after_three_kills_and_repeated_outcomes(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path, kafka=KafkaSettings(bootstrap=kafka_broker.bootstrap_servers, topic_prefix=PREFIX)
    )
    await topics.create_missing(settings)
    command = [sys.executable, str(WORKER), str(tmp_path), kafka_broker.bootstrap_servers, PREFIX]
    log = (tmp_path / "worker.log").open("ab")

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=log, stderr=log)

    async def counted() -> int:
        return sum(totals(await read_sums(settings)).values())

    events = _events()
    worker = start()
    saying = asyncio.create_task(_say(settings, events, pause=0.25))
    try:
        for kill in range(3):
            # Killed while it is busy: some outcomes are counted, more are coming.
            async with asyncio.timeout(60):
                while await counted() < COUNT * (kill + 1) // 8:
                    await asyncio.sleep(0.2)
            worker.kill()
            worker.wait()
            worker = start()
        await saying
        async with asyncio.timeout(60):
            while await counted() < COUNT:
                await asyncio.sleep(0.3)
        await asyncio.sleep(2.5)  # Whatever would be counted too often is said within a second.
        assert totals(await read_sums(settings)) == _expected(events)
    finally:
        worker.kill()
        worker.wait()
        log.close()
