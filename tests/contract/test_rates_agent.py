"""The rates agent in production form: exact after three kills, also when couriers said some outcomes twice."""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from depesche.analytics.log import topics
from depesche.analytics.log.client import producer
from depesche.analytics.log.sums import read_sums, totals
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas import cloudevents
from depesche.schemas.codec import encode
from depesche.schemas.identity import event_id
from depesche.schemas.rates import Grain
from depesche.schemas.records import AttemptDetail, EventType, MailEvent, RateSum, ReturnedDetail
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import OUTCOMES, partition_of

WORKER = Path(__file__).with_name("rates_worker.py")
PREFIX = "rates."
COUNT = 6_000
TYPES = (EventType.DELIVERED, EventType.DEFERRED, EventType.BOUNCED, EventType.COMPLAINED)
KINDS = ("hard", "soft", "block")
# A provider is named by strangers' MX records; a name that looks like a part of a table key must not matter.
PROVIDERS = ("gmail", "gmx", "a|b.example")


def _detail(chance: random.Random, type_: EventType) -> AttemptDetail | ReturnedDetail | None:
    if type_ is EventType.COMPLAINED or (type_ is EventType.BOUNCED and chance.random() < 0.2):
        kind = "complaint" if type_ is EventType.COMPLAINED else chance.choice(KINDS)
        return ReturnedDetail(source="dsn", place="mail.returns/0/1", kind=kind)
    kind = "" if type_ is EventType.DELIVERED else chance.choice(KINDS)
    codes: dict[str, Any] = dict.fromkeys(("code", "millis"), 0)
    words = ("host", "remote_ip", "source_ip", "tls", "enhanced_code", "step", "reply_class", "queue_id")
    return AttemptDetail(kind=kind, **codes, **dict.fromkeys(words, ""))


def _events() -> list[MailEvent]:
    chance, now = random.Random(5), int(time.time() * 1000)
    kinds = [chance.choice(TYPES) for _ in range(COUNT)]
    details = [_detail(chance, type_) for type_ in kinds]
    return [
        MailEvent(
            event_id=event_id(f"j.{number}", "x", 1),
            type=type_,
            unit_id=f"j.{number}",
            job_id="j",
            tenant=chance.choice(("10001", "10002")),
            account="a",
            recipient_key=f"{chance.getrandbits(128):032x}",
            occurred_at=now - chance.randrange(600_000),
            sequence=100_001 if isinstance(detail, ReturnedDetail) else 101,
            attempt=1,
            worker="w",
            provider=chance.choice(PROVIDERS),
            detail=detail,
        )
        for number, (type_, detail) in enumerate(zip(kinds, details, strict=True))
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


def _expected(events: list[MailEvent]) -> Counter[Grain]:
    """What each event must be counted as, written out here and not taken from the fold."""
    counts: Counter[Grain] = Counter()
    for event in events:
        kind = event.detail.kind if isinstance(event.detail, AttemptDetail | ReturnedDetail) else ""
        late = event.type is EventType.BOUNCED and isinstance(event.detail, ReturnedDetail)
        minute = event.occurred_at // 60_000 * 60_000
        counts[Grain(event.type.value, kind.replace("complaint", ""), late, event.tenant, event.provider, minute)] += 1
    return counts


def _named_rightly(events: list[MailEvent], sums: dict[str, RateSum]) -> bool:
    """Hard bounces and complaints name up to five of the events that they count, and nothing else names any."""
    known = {event.event_id: event for event in events}
    for entry in sums.values():
        evidence = entry.type is EventType.COMPLAINED or (entry.type is EventType.BOUNCED and entry.kind == "hard")
        if len(entry.event_ids) != (min(entry.count, 5) if evidence else 0):
            return False
        if any((known[id_].type, known[id_].tenant) != (entry.type, entry.tenant) for id_ in entry.event_ids):
            return False
    return True


@pytest.mark.long
@pytest.mark.timeout(300)
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
            async with asyncio.timeout(90):
                while await counted() < COUNT * (kill + 1) // 8:
                    await asyncio.sleep(0.2)
            worker.kill()
            worker.wait()
            worker = start()
        await saying
        async with asyncio.timeout(90):
            while await counted() < COUNT:
                await asyncio.sleep(0.3)
        await asyncio.sleep(2.5)  # Whatever would be counted too often is said within a second.
        assert totals(await read_sums(settings)) == _expected(events)
        assert _named_rightly(events, await read_sums(settings))
        newest = max(event.occurred_at for event in events) // 60_000 * 60_000
        recent = totals(await read_sums(settings, newest))
        assert {g: n for g, n in recent.items() if g.minute == newest} == {
            g: n for g, n in _expected(events).items() if g.minute == newest
        }
    finally:
        worker.kill()
        worker.wait()
        log.close()
