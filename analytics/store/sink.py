"""The sink: writes the log's events and dead letters to ClickHouse, each exactly once to every reader.

It goes on from the offsets that ClickHouse itself holds (``sink_offsets``); the group's offsets in Kafka are only told for
tools that show lag. Rows are in before their offsets are noted, so a crash repeats some, and repeated rows fold into one.
While ClickHouse is away the sink waits with what it has and reads no further: mail is not affected.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord

from depesche.analytics.log import meters
from depesche.analytics.log.client import MAX_RECORD, answered, full_name, group_consumer, producer
from depesche.analytics.store.batch import Item, Poison, event_blocks, letter_blocks, spans, write
from depesche.analytics.store.client import StoreClient
from depesche.analytics.store.offsets import Place, note_offsets, stored_offsets
from depesche.analytics.store.pace import FlushPace
from depesche.analytics.store.rows import Keys
from depesche.schemas.codec import encode
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import DepescheError, LogUnavailableError, SetupError, StoreUnavailableError
from depesche.schemas.records import DeadLetter
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import DEAD, EVENTS, OUTCOMES

log = structlog.get_logger(__name__)

T = TypeVar("T")

GROUP = "analytics"
TOPICS = (EVENTS.name, OUTCOMES.name, DEAD.name)
FETCH_WAIT_MS = 1_000
GATHER_SECONDS = 0.1
"""When events have come, the log is asked again after so long: ten requests a second at most, one when it is quiet."""
IDLE_SECONDS = 1.0
BACKOFF_SECONDS = (0.2, 5.0)
STUCK_SECONDS = 60.0
_NOTE_SECONDS = 1.0
_ROOM = MAX_RECORD - 8 * 1024
_EXPLANATION = 2_000


@dataclass(slots=True)
class Tally:
    """What the sink has done since it was started."""

    records: int = 0
    flushes: int = 0
    buried: int = 0
    waits: int = 0


class Sink(ConsumerRebalanceListener):  # type: ignore[misc]
    """The service ``analytics``. Several may run at once; they share the partitions."""

    name = "analytics"

    def __init__(
        self, settings: Settings, keyring: Keys, client: StoreClient, member: str, clock: Clock = now_ms
    ) -> None:
        """Prepare to run.

        Args:
            settings: where the log is, and how much to collect.
            keyring: opens the personal fields.
            client: the store; its tables must be there.
            member: name that this worker keeps over restarts; two live sinks never share one.
            clock: the time on dead letters.
        """
        self.tally = Tally()
        self._settings = settings
        self._keys = keyring
        self._client = client
        self._member = member
        self._clock = clock
        self._names = {full_name(settings.kafka, name): name for name in TOPICS}
        self._held: list[Item] = []
        self._unplaced: set[TopicPartition] = set()
        self._unnoted: dict[Place, int] = {}
        self._oldest = 0
        self._noted_at = 0.0
        self._moved_at = 0.0
        self._pace = FlushPace(settings.clickhouse.flush_seconds)
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None

    async def run(self, ready: Callable[[], None]) -> None:
        """Write until cancelled.

        Raises:
            SetupError: the log is not the one that the store was filled from.
            LogUnavailableError, KafkaError: the log cannot be read, or a dead letter not be written.
        """
        consumer = group_consumer(self._settings, GROUP, self._member, fetch_wait_ms=FETCH_WAIT_MS)
        consumer.subscribe(topics=list(self._names), listener=self)
        self._consumer, self._producer = consumer, producer(self._settings, f"{GROUP}-{self._member}")
        try:
            await self._producer.start()
            await consumer.start()
            self._moved_at = time.monotonic()
            ready()
            while True:
                await self._round(consumer)
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await consumer.stop()
            await self._producer.stop()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by the client: hold the partitions until the store has said where to go on."""
        assert self._consumer is not None
        self._consumer.pause(*assigned)
        self._unplaced = set(assigned)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called by the client: what is held may still be written; whoever comes next writes the same rows again."""

    async def _round(self, consumer: AIOKafkaConsumer) -> None:
        if self._unplaced:
            await self._place(consumer)
        now = time.monotonic()
        wait = self._pace.wait(now) if self._held else IDLE_SECONDS
        room = self._settings.clickhouse.flush_rows - len(self._held)
        fetched = self._take(
            await answered(consumer.getmany(timeout_ms=int(wait * 1000) + 1, max_records=max(room, 1)), STUCK_SECONDS)
        )
        now = time.monotonic()
        if fetched:
            self._pace.came(now)
            self._moved_at = now
        full = len(self._held) >= self._settings.clickhouse.flush_rows
        if self._held and (full or self._pace.due(now, quiet=not fetched)):
            await self._flush(consumer)
        elif fetched:
            await asyncio.sleep(GATHER_SECONDS)
        if not fetched and now - self._noted_at >= _NOTE_SECONDS:
            await self._note(consumer)
            await self._check_progress(consumer, now)

    def _take(self, fetched: dict[TopicPartition, list[ConsumerRecord]]) -> int:
        before = len(self._held)
        for partition, records in fetched.items():
            self._oldest = min(self._oldest, records[0].timestamp) if self._held else records[0].timestamp
            topic = self._names[partition.topic]
            self._held += [Item(topic, record) for record in records]
        return len(self._held) - before

    async def _flush(self, consumer: AIOKafkaConsumer) -> None:
        started = time.monotonic()
        items, self._held = self._held, []
        letters = [item for item in items if item.topic == DEAD.name]
        events = [item for item in items if item.topic != DEAD.name]
        events_of = partial(event_blocks, keys=self._keys)
        poison = [
            *(await self._patiently(consumer, lambda: write(self._client, events, events_of)) if events else ()),
            *(await self._patiently(consumer, lambda: write(self._client, letters, letter_blocks)) if letters else ()),
        ]
        for one in poison:
            await self._bury(one)
        crashpoint("S2")
        for place, (_, last) in spans(items).items():
            self._unnoted[place] = last + 1
        self.tally.records += len(items)
        self.tally.flushes += 1
        meters.gauge("mail_sink_lag_seconds", max(self._clock() - self._oldest, 0) / 1000)
        ended = time.monotonic()
        self._pace.flushed(ended, ended - started)
        if ended - self._noted_at >= _NOTE_SECONDS:
            await self._note(consumer)

    async def _note(self, consumer: AIOKafkaConsumer) -> None:
        """Note the offsets in the store, which counts, and in Kafka, which is for show."""
        self._noted_at = time.monotonic()
        if not self._unnoted:
            return
        offsets, self._unnoted = self._unnoted, {}
        await self._patiently(consumer, lambda: note_offsets(self._client, offsets))
        full = {name: topic for topic, name in self._names.items()}
        told = {TopicPartition(full[topic], number): offset for (topic, number), offset in offsets.items()}
        # A rebalance may have come in between; then somebody else tells it.
        with contextlib.suppress(KafkaError, IllegalStateError):
            await answered(
                consumer.commit({place: offset for place, offset in told.items() if place in consumer.assignment()}),
                STUCK_SECONDS,
            )

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Seek newly assigned partitions to where the store ends."""
        partitions, self._unplaced = self._unplaced, set()
        # What is held of them was read from positions that are forgotten now; reading it again is simpler.
        self._held = [item for item in self._held if not _stands_in(item, partitions, self._names)]
        known = await self._patiently(consumer, lambda: stored_offsets(self._client))
        begins = await answered(consumer.beginning_offsets(partitions), STUCK_SECONDS)
        ends = await answered(consumer.end_offsets(partitions), STUCK_SECONDS)
        for partition in partitions & consumer.assignment():
            following = known.get((self._names[partition.topic], partition.partition), 0)
            if following > ends[partition]:
                raise SetupError(
                    f"The store holds {partition.topic}/{partition.partition} up to {following}, the log ends at "
                    f"{ends[partition]}: they do not belong together.",
                    fix="Connect the right log, or drop the database and let it be filled again.",
                )
            if 0 < following < begins[partition]:
                log.error("events_expired_unread", topic=partition.topic, count=begins[partition] - following)
            consumer.seek(partition, max(following, begins[partition]))
            consumer.resume(partition)

    async def _patiently(self, consumer: AIOKafkaConsumer, work: Callable[[], Awaitable[T]]) -> T:
        """Do ``work`` until the store has taken it, however long it is away."""
        pause, longest = BACKOFF_SECONDS
        waited = False
        while True:
            try:
                done = await work()
            except StoreUnavailableError as fault:
                self.tally.waits += 1
                if not waited:
                    log.warning("store_away", cause=str(fault))
                waited = True
                await asyncio.sleep(pause)
                pause = min(pause * 2, longest)
                await self._stay_member(consumer)
            else:
                if waited:
                    log.info("store_back")
                    self._moved_at = time.monotonic()
                return done

    async def _stay_member(self, consumer: AIOKafkaConsumer) -> None:
        """Poll without reading on: the client leaves its group when nobody polls for ten minutes."""
        owned = consumer.assignment() - self._unplaced
        consumer.pause(*owned)
        self._take(await answered(consumer.getmany(timeout_ms=0), STUCK_SECONDS))
        consumer.resume(*(owned & consumer.assignment() - self._unplaced))

    async def _check_progress(self, consumer: AIOKafkaConsumer, now: float) -> None:
        """End the process when the log goes on and nothing arrives (a client that has silently stopped fetching)."""
        if now - self._moved_at < STUCK_SECONDS:
            return
        partitions = consumer.assignment()
        ends = await answered(consumer.end_offsets(partitions), STUCK_SECONDS)
        places = await answered(asyncio.gather(*map(consumer.position, partitions)), STUCK_SECONDS)
        lag = sum(max(ends[partition] - place, 0) for partition, place in zip(partitions, places, strict=True))
        if lag:
            raise LogUnavailableError(f"nothing arrived for {STUCK_SECONDS:.0f} s although {lag} records wait")
        self._moved_at = now

    async def _bury(self, poison: Poison) -> None:
        assert self._producer is not None
        letter = dead_letter(poison, self._clock())
        log.error("record_buried", stage=letter.stage, topic=letter.topic, offset=letter.offset, cause=letter.cause)
        await self._producer.send_and_wait(full_name(self._settings.kafka, DEAD.name), encode(letter), partition=0)
        self.tally.buried += 1
        meters.count("mail_dead_letters_total", stage=GROUP)


def dead_letter(poison: Poison, now: int) -> DeadLetter:
    """The letter that tells why a record was given up; a value that does not fit is cut."""
    fault, record = poison.fault, poison.item.record
    value = record.value
    explanation = str(fault) if isinstance(fault, DepescheError) else _place_of(fault)
    if value is not None and len(value) > _ROOM:
        explanation, value = f"(value of {len(value)} bytes cut to {_ROOM}) {explanation}", value[:_ROOM]
    return DeadLetter(
        stage=GROUP,
        topic=poison.item.topic,
        partition=record.partition,
        offset=record.offset,
        occurred_at=now,
        cause=fault.code if isinstance(fault, DepescheError) else type(fault).__name__,
        explanation=explanation[:_EXPLANATION],
        record_key=record.key,
        record_value=value,
    )


def _place_of(fault: Exception) -> str:
    """Where an error came from; its own text could quote personal data."""
    frames = traceback.extract_tb(fault.__traceback__)[-4:]
    return "in " + " > ".join(f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)


def _stands_in(item: Item, partitions: Iterable[TopicPartition], names: dict[str, str]) -> bool:
    return (item.topic, item.record.partition) in {(names[p.topic], p.partition) for p in partitions}
