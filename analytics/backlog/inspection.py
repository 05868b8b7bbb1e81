"""Looks through the part of the log in which units stand that wait: mail.outbound and the ladder, from what is committed on.

Begins are asked for before ends. So a unit that moves on meanwhile is met in the place it comes from or the one it goes to, and
``Backlog`` counts it once. What in mail.outbound is not committed but done is told by the marks of its attempts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from depesche.analytics.backlog.backlog import WITH_COURIERS, Backlog, waiting
from depesche.analytics.controls.sweeps import read_sweeps
from depesche.analytics.controls.swept import Swept
from depesche.analytics.log.client import connection, full_name, reader
from depesche.analytics.log.topics import partition_counts
from depesche.schemas.codec import codec
from depesche.schemas.errors import LogUnavailableError, UndecodableError
from depesche.schemas.records import AttemptMarks, AttemptPhase, ControlScope, MailUnit
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ATTEMPTS, OUTBOUND, RETRY

COURIERS, KEEPER = "deliver", "retry"
"""Consumer groups of those who take units from mail.outbound and from the ladder."""
_AT_ONCE = 2_000
_SLACK_MS = 2_000
_ENDED = frozenset(
    phase.value for phase in (AttemptPhase.FINISHED, AttemptPhase.AMBIGUOUS, AttemptPhase.PARKED, AttemptPhase.REROUTED)
)
Progress = Callable[[int, int], None]
"""Told how many records were read, of how many."""
Places = Mapping[TopicPartition, int]


async def inspect(settings: Settings, scope: ControlScope, progress: Progress = lambda done, whole: None) -> Backlog:
    """The units of ``scope`` that wait now. Mail may go on meanwhile.

    Raises:
        LogUnavailableError: Kafka does not answer.
        SetupError: a topic is missing.
    """
    try:
        inspection = _Inspection(settings, scope, progress)
        async with asyncio.timeout(600):
            return await inspection.run()
    except (KafkaError, TimeoutError) as fault:
        raise LogUnavailableError(f"the queue cannot be read: {fault}") from fault


class _Inspection:
    def __init__(self, settings: Settings, scope: ControlScope, progress: Progress) -> None:
        self._settings = settings
        self._backlog = Backlog(scope)
        self._progress = progress
        self._outbound = full_name(settings.kafka, OUTBOUND.name)
        self._rungs = {full_name(settings.kafka, topic.name): rung for rung, topic in RETRY.items()}
        self._swept: dict[TopicPartition, Swept] = {}
        self._first_written: int | None = None
        self._read = 0

    async def run(self) -> Backlog:
        """Read, and count."""
        counts = await partition_counts(self._settings, OUTBOUND, ATTEMPTS, *RETRY.values())
        partitions = [
            TopicPartition(full_name(self._settings.kafka, topic.name), number)
            for topic in (OUTBOUND, *RETRY.values())
            for number in range(counts[topic.name])
        ]
        consumer = reader(self._settings, "depesche-queue")
        await consumer.start()
        try:
            begins = await self._begins(consumer, partitions)
            self._swept = await read_sweeps(self._settings, [p for p in partitions if p.topic in self._rungs])
            ends = await consumer.end_offsets(partitions)
            await self._all(consumer, begins, ends, self._take)
            await self._attempts(consumer, counts[ATTEMPTS.name])
        finally:
            await consumer.stop()
        return self._backlog

    async def _begins(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        admin = AIOKafkaAdminClient(**connection(self._settings), client_id="depesche-queue")
        await admin.start()
        try:
            told = {}
            for group in (COURIERS, KEEPER):
                try:
                    told.update(await admin.list_consumer_group_offsets(full_name(self._settings.kafka, group)))
                except GroupCoordinatorNotAvailableError:
                    # A cluster in which no group has ever committed anything: all that is there waits.
                    continue
        finally:
            await admin.close()
        first = await consumer.beginning_offsets(partitions)
        return {p: max(first[p], told[p].offset if p in told else 0) for p in partitions}

    async def _all(
        self,
        consumer: AIOKafkaConsumer,
        begins: Places,
        ends: Places,
        take: Callable[[ConsumerRecord[bytes | None, bytes | None]], None],
    ) -> None:
        left = {p for p in begins if begins[p] < ends[p]}
        whole = self._read + sum(ends[p] - begins[p] for p in left)
        if left:
            consumer.assign(list(left))
        for partition in left:
            consumer.seek(partition, begins[partition])
        while left:
            fetched = await consumer.getmany(*left, timeout_ms=1_000, max_records=_AT_ONCE)
            for partition, records in fetched.items():
                for record in records:
                    if record.offset < ends[partition]:
                        take(record)
                self._read += len(records)
                # Counting keeps the loop busy; whoever else lives in it gets a turn here.
                await asyncio.sleep(0)
            self._progress(self._read, whole)
            left = {p for p in left if await consumer.position(p) < ends[p]}

    def _take(self, record: ConsumerRecord[bytes | None, bytes | None]) -> None:
        rung = self._rungs.get(record.topic)
        if rung is None:
            written = record.timestamp
            self._first_written = written if self._first_written is None else min(self._first_written, written)
        elif record.offset in self._swept[TopicPartition(record.topic, record.partition)].taken:
            return
        try:
            raw = codec(MailUnit).raw(record.value or b"")
            offset = record.offset if rung is None else -1
            self._backlog.take(waiting(raw, rung or WITH_COURIERS, dict(record.headers), offset))
        except (UndecodableError, ValueError):
            # It waits for nothing but its burial.
            return

    async def _attempts(self, consumer: AIOKafkaConsumer, partitions: int) -> None:
        """Take off what stands in mail.outbound and is done: one slow host may keep the offsets of many from being committed."""
        if self._first_written is None:
            return
        topic = full_name(self._settings.kafka, ATTEMPTS.name)
        places = [TopicPartition(topic, number) for number in range(partitions)]
        since = max(0, self._first_written - _SLACK_MS)
        begun = await consumer.offsets_for_times(dict.fromkeys(places, since))
        ends = await consumer.end_offsets(places)
        begins = {p: begun[p].offset for p in places if begun.get(p) is not None}
        await self._all(consumer, begins, ends, self._mark)

    def _mark(self, record: ConsumerRecord[bytes | None, bytes | None]) -> None:
        try:
            marks = codec(AttemptMarks).raw(record.value or b"")["marks"]
        except UndecodableError:
            return
        for mark in marks:
            if mark["phase"] in _ENDED:
                parked = mark["phase"] == AttemptPhase.PARKED.value
                self._backlog.ended(mark["unit_id"], mark["attempt"], mark["offset"], parked=parked)
