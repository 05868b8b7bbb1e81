"""The pace agents in production form: after three kills the same decisions as without, and the same as a replay."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from depesche.analytics.log import topics
from depesche.analytics.log.client import producer
from depesche.analytics.pace.book import PaceBook
from depesche.analytics.pace.log import Told, read_told
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas import cloudevents
from depesche.schemas.codec import encode
from depesche.schemas.pace import UNLIMITED
from depesche.schemas.records import MailEvent, PaceAction, PaceSignal
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import OUTCOMES, PACE_HISTORY
from depesche.streams.mail.pace import Law, replayed
from depesche.streams.mail.pace_sample import Sampler
from tests.unit.streams.pace_world import BLOCKED, MINUTE, START, TAKEN, TOO_FAST, Answer, RateLimit, outcome, refusal

WORKER = Path(__file__).with_name("rates_worker.py")
_STANDS_STILL = 60.0
"""Seconds without a new signal or decision after which a worker is taken to stand still."""


def _life(minutes: int) -> list[MailEvent]:
    """What three providers answer in so many minutes: one with a limit, one that blocks for a while, one that is fine."""
    chance, events = random.Random(7), []
    limit = RateLimit(20)
    for at in range(START, START + minutes * MINUTE, 1000):
        minute = (at - START) // MINUTE
        rate = 60 if minute % 20 < 3 else 15
        answers: list[tuple[str, Answer]] = [("fine", TAKEN)] * 2
        if chance.random() < rate / 60:
            answers.append(("limited", limit(at, 1)))
        if chance.random() < 0.3:
            answers.append(("blocking", BLOCKED if 10 <= minute < 12 else TAKEN))
        if chance.random() < 0.01:
            answers.append(("fine", chance.choice((TOO_FAST, refusal(451, "greylisted")))))
        events += [outcome(len(events) + n, at + n, answer, who) for n, (who, answer) in enumerate(answers)]
    return events


def _placed(events: list[MailEvent], partitions: int) -> list[tuple[int, MailEvent]]:
    """Each event with its partition; every twentieth is said again later, as after the restart of a courier."""
    chance, placed = random.Random(8), list[tuple[int, MailEvent]]()
    for number, event in enumerate(events):
        placed.append((chance.randrange(partitions), event))
        if number % 20 == 19:
            placed.append(placed[chance.randrange(max(0, len(placed) - 500), len(placed))])
    return placed


class Run:
    """One log with one worker."""

    def __init__(self, broker: KafkaBroker, home: Path, prefix: str, partitions: int) -> None:
        kafka = KafkaSettings(bootstrap=broker.bootstrap_servers, topic_prefix=prefix, partitions=partitions)
        self.settings = Settings(home=home / prefix, kafka=kafka)
        self._command = [sys.executable, str(WORKER), str(home / prefix), kafka.bootstrap, prefix, str(partitions)]
        self._log = home / f"{prefix}log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.kill()

    async def say(self, placed: list[tuple[int, MailEvent]], pause: float = 0.0) -> None:
        sender = producer(self.settings, "test")
        await sender.start()
        name = self.settings.kafka.topic_prefix + OUTCOMES.name
        for number, (partition, event) in enumerate(placed):
            await sender.send(name, encode(event), partition=partition, headers=cloudevents.of_event(event))
            if pause and number % 500 == 499:
                await asyncio.sleep(pause)
        await sender.stop()

    async def until(self, signals: int) -> Told:
        """What the log holds when so many different signals were told and all of them were decided on."""
        law = Law(self.settings.pace, self.settings.deliver.connections_per_route)
        before, moved_at = (-1, -1), 0.0
        while True:
            told = await read_told(self.settings)
            stand = len({one.event_id for one in told.signals}), len(told.history)
            if stand[0] >= signals and stand[1] >= len(replayed(law, told.signals)):
                return told
            # Five thousand signals take their time on a busy machine; what must not be is that nothing moves.
            if stand != before:
                before, moved_at = stand, time.monotonic()
            said = f"{stand[0]} of {signals} signals told, {stand[1]} decisions"
            assert time.monotonic() < moved_at + _STANDS_STILL, (said, self._log.read_text()[-3000:])
            await asyncio.sleep(0.3)


def _expected(settings: Settings, placed: list[tuple[int, MailEvent]]) -> dict[int, list[PaceSignal]]:
    """The signals of each partition, as a process that is never killed would tell them."""
    count = settings.kafka.partitions
    samplers = [Sampler(settings.pace, number, count) for number in range(count)]
    offsets, seen = [0] * count, set[str]()
    signals: dict[int, list[PaceSignal]] = {number: [] for number in range(count)}
    for partition, event in placed:
        offset, offsets[partition] = offsets[partition], offsets[partition] + 1
        if event.event_id not in seen:
            signal = samplers[partition].take(event, offset)
            signals[partition] += [signal] if signal else []
        seen.add(event.event_id)
    return signals


def _by_partition(told: Told, partitions: int) -> dict[int, list[PaceSignal]]:
    once = {one.event_id: one for one in told.signals}.values()
    return {number: [one for one in once if one.source_partition == number] for number in range(partitions)}


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("partitions", [1, 2])
async def test_after_three_kills_the_decisions_are_those_of_a_run_without_and_of_a_replay(
    kafka_broker: KafkaBroker, tmp_path: Path, partitions: int
) -> None:
    placed = _placed(_life(90), partitions)
    killed = Run(kafka_broker, tmp_path, f"pace{partitions}.", partitions)
    await topics.create_missing(killed.settings)
    expected = _expected(killed.settings, placed)
    wanted = sum(map(len, expected.values()))
    with killed.working():
        part = len(placed) // 3 + 1
        for kill in range(3):
            before = len((await read_told(killed.settings)).signals)
            saying = asyncio.create_task(killed.say(placed[kill * part : (kill + 1) * part], pause=0.5))
            # Killed while it is busy: some signals were told, more are coming.
            async with asyncio.timeout(60):
                while len((await read_told(killed.settings)).signals) < before + 5:
                    await asyncio.sleep(0.05)
            killed.kill()
            killed.start()
            await saying
        told = await killed.until(wanted)
    found = _by_partition(told, partitions)
    assert [one for number in found for one in found[number] if one not in expected[number]] == []
    assert found == expected
    law = Law(killed.settings.pace, killed.settings.deliver.connections_per_route)
    assert replayed(law, told.signals) == told.history
    assert told.newest == {(one.pool, one.provider): one for one in told.history}
    actions = {
        one.provider: {one.action for one in told.history if one.provider == one.provider} for one in told.history
    }
    assert set(actions) == {"limited", "blocking"}
    assert PaceAction.SUSPENDED in {one.action for one in told.history if one.provider == "blocking"}
    if partitions == 1:
        # With one partition there is only one order, and the whole run is the same.
        calm = Run(kafka_broker, tmp_path, "pacecalm.", 1)
        await topics.create_missing(calm.settings)
        with calm.working():
            await calm.say(placed)
            undisturbed = await calm.until(wanted)
        assert undisturbed.history == told.history
        assert undisturbed.newest == told.newest


def _depesche(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "DEPESCHE_HOME": str(settings.home),
        "DEPESCHE_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "DEPESCHE_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "DEPESCHE_CLICKHOUSE__URL": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "depesche.infra.cli.main", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


async def test_the_commands_show_and_verify_what_was_decided_and_lift_it(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    run = Run(kafka_broker, tmp_path, "paceseen.", 1)
    await topics.create_missing(run.settings)

    async def asked(*words: str, code: int = 0) -> list[dict[str, Any]]:
        answer = await asyncio.to_thread(_depesche, run.settings, *words, "--json")
        assert answer.returncode == code, answer.stderr
        return [json.loads(line) for line in answer.stdout.splitlines()]

    assert await asked("pace", "list") == []
    with run.working():
        placed = _placed(_life(3), 1)
        await run.say(placed)
        told = await run.until(sum(map(len, _expected(run.settings, placed).values())))
        # The events lie in the future or the past of this machine's clock, so what is in force now is another matter.
        [row] = await asked("pace", "list", "--all")
        assert (row["pool"], row["provider"], row["per_minute"]) == ("shared", "limited", told.history[-1].per_minute)
        shown = await asked("pace", "show", "shared/limited")
        assert {cause["reply_class"] for cause in shown[0]["causes"]} >= {"rate_limited"}
        assert len(await asked("pace", "history", "shared/limited")) == len(told.history)
        assert await asked("pace", "history", "shared/fine") == []
        summary = (await asked("replay", "pace", "--verify"))[-1]
        assert summary == {"signals": len(told.signals), "decisions": len(told.history), "different": 0}
        await asked("pace", "show", "shared/nobody", code=3)
        await asked("pace", "show", "nobody", code=1)
        await asked("pace", "lift", "shared/limited")
        async with asyncio.timeout(60):
            while (lifted := (await read_told(run.settings)).history[-1]).action is not PaceAction.LIFTED:
                await asyncio.sleep(0.1)
        assert "at the command line" in lifted.explanation
    # Whoever changes what was decided is found out.
    forged = replace(told.history[0], per_minute=1.0)
    sender = producer(run.settings, "test")
    await sender.start()
    await sender.send_and_wait("paceseen." + PACE_HISTORY.name, encode(forged), partition=0)
    await sender.stop()
    rows = await asked("replay", "pace", "--verify", code=1)
    assert [row["difference"] for row in rows[:-1]] == ["not the same in the replay"]


async def test_the_book_follows_what_was_decided(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    run = Run(kafka_broker, tmp_path, "pacebook.", 1)
    await topics.create_missing(run.settings)
    now = START
    book = PaceBook(run.settings, clock=lambda: now)
    await book.start()
    try:
        assert book.pace("shared", "limited") is UNLIMITED
        with run.working():
            await run.say(_placed(_life(3), 1))
            await run.until(1)
        async with asyncio.timeout(90):
            while not book.states():
                await asyncio.sleep(0.05)
        [state] = book.states()
        held = book.pace("shared", "limited")
        assert (held.per_minute, held.connections) == (state.per_minute, state.connections)
        assert held.reason == "rate_limited"
        assert book.pace("shared", "fine") is UNLIMITED
        # A limit that nobody renews ends by itself.
        assert state.ends_at is not None
        now = state.ends_at
        assert book.pace("shared", "limited") is UNLIMITED
    finally:
        await book.stop()
