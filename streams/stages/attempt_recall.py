"""Reads the attempts of partitions back before their units are touched, and keeps the mark from where that must begin.

The mark is the committed offset of a consumer group of its own, ``deliver.attempts``: so the reading is as long as what may
still be repeated, whatever the length of the topic, and any Kafka tool can see it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord, TopicPartition

from depesche.analytics.log.client import connection, full_name
from depesche.schemas.codec import codec
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import AttemptMarks, AttemptPhase, EventType
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ATTEMPTS, OUTBOUND
from depesche.streams.mail.attempt_memory import WINDOW, AttemptMemory, Known
from depesche.streams.stages.attempt_log import AttemptLog
from depesche.streams.stages.trail import stopped

log = structlog.get_logger(__name__)

GROUP = "deliver.attempts"


class AttemptRecall:
    """The reading side of mail.attempts for one courier process."""

    def __init__(self, settings: Settings, group: str) -> None:
        """Prepare to read.

        Args:
            settings: where the log is.
            group: the consumer group of mail.outbound, without prefix; what it has committed is not repeated.
        """
        self._settings = settings
        self._topic = full_name(settings.kafka, ATTEMPTS.name)
        self._outbound = full_name(settings.kafka, OUTBOUND.name)
        self._group = full_name(settings.kafka, group)
        self._consumer: AIOKafkaConsumer | None = None
        self._committed: dict[int, int] = {}

    async def start(self) -> None:
        """Connect."""
        self._consumer = AIOKafkaConsumer(
            **connection(self._settings),
            client_id=GROUP,
            group_id=full_name(self._settings.kafka, GROUP),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        await self._consumer.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await stopped(consumer)

    async def recall(self, numbers: Collection[int], writer: AttemptLog) -> dict[int, Recalled]:
        """What is known of each partition, complete up to now.

        Args:
            numbers: partitions that were just assigned to us; their last owner writes no more.
            writer: is told what was read, to keep the low-water mark.
        """
        assert self._consumer is not None
        begun = time.monotonic()
        consumer = self._consumer
        partitions = [TopicPartition(self._topic, number) for number in numbers]
        repeated_from = await self._repeated_from(numbers)
        found = {number: Recalled(repeated_from[number]) for number in numbers}
        consumer.assign(partitions)
        end = await consumer.end_offsets(partitions)
        first = await consumer.beginning_offsets(partitions)
        for partition in partitions:
            low = max(await consumer.committed(partition) or 0, first[partition])
            self._committed[partition.partition] = low
            consumer.seek(partition, low)
        read = 0
        left = {p for p in partitions if await consumer.position(p) < end[p]}
        while left:
            for partition, records in (await consumer.getmany(*left, timeout_ms=1000)).items():
                read += len(records)
                self._learn(found[partition.partition], records, writer)
            left = {p for p in left if await consumer.position(p) < end[p]}
        # From here on the consumer only commits; what we write ourselves need not be fetched.
        consumer.pause(*partitions)
        log.info(
            "attempts_recalled",
            records=read,
            units=sum(len(one.memory) for one in found.values()),
            seconds=_since(begun),
        )
        return found

    @staticmethod
    def _learn(
        recalled: Recalled, records: list[ConsumerRecord[bytes | None, bytes | None]], writer: AttemptLog
    ) -> None:
        for record in records:
            try:
                highest = recalled.learn(record.value or b"")
            except UndecodableError as fault:
                # Not ours and not to be waited for; the units it may speak of count as never attempted.
                log.error("attempts_undecodable", partition=record.partition, offset=record.offset, cause=str(fault))
            else:
                writer.read_before(record.partition, record.offset, highest)

    async def commit(self, low_waters: Mapping[int, int]) -> None:
        """Move the marks forward to ``low_waters``, by partition."""
        news = {number: offset for number, offset in low_waters.items() if offset > self._committed.get(number, offset)}
        if news and self._consumer is not None:
            await self._consumer.commit({TopicPartition(self._topic, n): offset for n, offset in news.items()})
            self._committed.update(news)

    async def _repeated_from(self, numbers: Collection[int]) -> dict[int, int]:
        """The offset of mail.outbound in each partition from which on records come again."""
        admin = AIOKafkaAdminClient(**connection(self._settings), client_id=GROUP)
        await admin.start()
        try:
            committed = await admin.list_consumer_group_offsets(self._group)
        finally:
            await admin.close()
        places = {number: committed.get(TopicPartition(self._outbound, number)) for number in numbers}
        return {number: max(0, place.offset) if place is not None else 0 for number, place in places.items()}


@dataclass(slots=True)
class Recalled:
    """What was read back of one partition.

    Attributes:
        memory: the fold of the marks.
        repeated_from: offset of mail.outbound from which on records come again.
        passed_on_since: when the first unit that comes again was put on the ladder, in milliseconds since 1970 UTC by the
            clock of its courier; None when none was.
    """

    repeated_from: int
    memory: AttemptMemory = field(default_factory=AttemptMemory)
    passed_on_since: int | None = None

    def learn(self, value: bytes) -> int:
        """Fold one record of marks; gives the highest offset it speaks of."""
        raw = codec(AttemptMarks).raw(value)
        highest = -1
        for mark in raw["marks"]:
            offset, phase = mark["offset"], AttemptPhase(mark["phase"])
            highest = max(highest, offset)
            again = offset >= self.repeated_from
            if again or offset >= self.repeated_from - WINDOW:
                # Events are kept only for what comes again; for the rest it is enough to know that it ended.
                known = Known(mark["attempt"], phase, offset, not again, mark["event"] if again else None)
                self.memory.learn(mark["unit_id"], known)
            if again and self.passed_on_since is None and _may_be_on_the_ladder(phase, mark["outcome"]):
                self.passed_on_since = raw["occurred_at"]
        return highest


def _may_be_on_the_ladder(phase: AttemptPhase, outcome: str | None) -> bool:
    return phase in (AttemptPhase.PARKED, AttemptPhase.REROUTED) or outcome == EventType.DEFERRED.value


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)
