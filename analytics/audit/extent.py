"""How much of the log an audit looks at, and reading exactly that.

Ends are taken against the order of cause and effect: outcomes first, then what must be there before them. So whatever is
read, its cause is read too, although mail goes on while the audit runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from depesche.analytics.log.client import connection, full_name, reader
from depesche.analytics.log.topics import partition_counts
from depesche.schemas.errors import LogUnavailableError
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ALL, ATTEMPTS, DEAD, EVENTS, JOBS, KEYED_JOBS, OUTBOUND, OUTCOMES, RETRY, RETURNS

IN_ORDER = (
    OUTCOMES.name,
    ATTEMPTS.name,
    *(topic.name for topic in RETRY.values()),
    OUTBOUND.name,
    EVENTS.name,
    JOBS.name,
    KEYED_JOBS.name,
    RETURNS.name,
    DEAD.name,
)
"""The topics, effects before their causes."""
AT_ONCE = 5_000

Place = tuple[str, int]
Progress = Callable[[str, int, int], None]
"""Told what is done, how many records of how many."""


@dataclass(slots=True)
class Extent:
    """What is read.

    Attributes:
        begins, ends: first offset, and the one after the last, by topic and partition.
        passed: for each partition that a stage reads, the offset below which it is done with every record.
        horizons: for each topic the time from which on it is whole, in milliseconds; 0: from its beginning.
    """

    begins: dict[Place, int] = field(default_factory=dict)
    ends: dict[Place, int] = field(default_factory=dict)
    passed: dict[Place, int] = field(default_factory=dict)
    horizons: dict[str, int] = field(default_factory=dict)

    def total(self, topics: Sequence[str]) -> int:
        """How many records these topics hold."""
        return sum(end - self.begins[place] for place, end in self.ends.items() if place[0] in topics)

    def horizon(self, *topics: str) -> int:
        """The time from which on all these topics are whole."""
        return max(self.horizons.get(topic, 0) for topic in topics)


class LogReader:
    """Reads the log for an audit; a context manager."""

    def __init__(self, settings: Settings, readers: Mapping[str, Sequence[str]]) -> None:
        """``readers``: the topics that each stage reads, by its consumer group; all without prefix."""
        self._settings = settings
        self._readers = readers
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> LogReader:
        self._consumer = reader(self._settings, "audit")
        try:
            await self._consumer.start()
        except KafkaError as fault:
            await self._consumer.stop()
            raise LogUnavailableError(f"the log cannot be read: {fault}") from fault
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def extent(self) -> Extent:
        """What there is to read now.

        Raises:
            LogUnavailableError: Kafka does not answer.
            SetupError: a topic is missing.
        """
        consumer = self._started
        # Before the ends: what follows from a record that is passed was written before that was said, and is read too.
        found = Extent(passed=await self._passed())
        try:
            counts = await partition_counts(self._settings, *(topic for topic in ALL if topic.name in IN_ORDER))
            places = {
                topic: [
                    TopicPartition(full_name(self._settings.kafka, topic), number) for number in range(counts[topic])
                ]
                for topic in IN_ORDER
            }
            everything = [place for some in places.values() for place in some]
            # Assigned, so that the client learns of all topics at once; asked for one by one it takes 0.1 s for each.
            consumer.assign(everything)
            consumer.pause(*everything)
            begins = await consumer.beginning_offsets(everything)
            for topic, some in places.items():
                ends = await consumer.end_offsets(some)
                for place in some:
                    found.begins[topic, place.partition] = begins[place]
                    found.ends[topic, place.partition] = ends[place]
            for topic, some in places.items():
                found.horizons[topic] = await self._horizon([place for place in some if begins[place]])
        except KafkaError as fault:
            raise LogUnavailableError(f"the log cannot be read: {fault}") from fault
        return found

    async def records(self, topics: Sequence[str], extent: Extent) -> AsyncIterator[tuple[str, Sequence[Any]]]:
        """The records of these topics within ``extent``: topic and a run of records, partitions in any order.

        Raises:
            LogUnavailableError: Kafka does not answer.
        """
        consumer = self._started
        names = {full_name(self._settings.kafka, topic): topic for topic in topics}
        waiting = {
            TopicPartition(full_name(self._settings.kafka, topic), number): end
            for (topic, number), end in extent.ends.items()
            if topic in topics and end > extent.begins[topic, number]
        }
        if not waiting:
            return
        consumer.assign(list(waiting))
        for place in waiting:
            consumer.seek(place, extent.begins[names[place.topic], place.partition])
        while waiting:
            try:
                fetched = await consumer.getmany(*waiting, timeout_ms=1_000, max_records=AT_ONCE)
            except KafkaError as fault:
                raise LogUnavailableError(f"the log cannot be read: {fault}") from fault
            for place, records in fetched.items():
                end = waiting[place]
                yield names[place.topic], [record for record in records if record.offset < end]
            for place in list(waiting):
                # Not the last record's offset: markers of transactions and compaction leave gaps.
                if await consumer.position(place) >= waiting[place]:
                    del waiting[place]

    @property
    def _started(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "use it as a context manager"
        return self._consumer

    async def _horizon(self, cut: list[TopicPartition]) -> int:
        """When the first records were written of partitions that have lost their beginning to retention."""
        if not cut:
            return 0
        consumer = self._started
        consumer.assign(cut)
        await consumer.seek_to_beginning(*cut)
        latest = 0
        for place in cut:
            found = await consumer.getmany(place, timeout_ms=5_000, max_records=1)
            latest = max([latest, *(record.timestamp for records in found.values() for record in records)])
        return latest

    async def _passed(self) -> dict[Place, int]:
        admin, passed = AIOKafkaAdminClient(**connection(self._settings), client_id="audit"), dict[Place, int]()
        try:
            await admin.start()
            for group, topics in self._readers.items():
                names = {full_name(self._settings.kafka, topic): topic for topic in topics}
                told = await admin.list_consumer_group_offsets(full_name(self._settings.kafka, group))
                passed |= {
                    (names[place.topic], place.partition): known.offset
                    for place, known in told.items()
                    if place.topic in names
                }
        except KafkaError as fault:
            raise LogUnavailableError(f"the log cannot be read: {fault}") from fault
        finally:
            await admin.close()
        return passed
