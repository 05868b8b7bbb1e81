"""Proves that mail.suppressions is what the log says: folds both sources anew and compares to the last field.

The same pure rules in the same order as in the living fold (``suppression.py``): each partition in its own order, an
event that stands twice within the same window passed over. The two sources are merged by the times of their records, which
matters only for what was forgotten. What retention has cut off cannot be proved and is counted instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from depesche.analytics.log.client import connection, full_name, reader
from depesche.analytics.log.topics import partition_counts
from depesche.schemas.codec import decode, event_from
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import Suppression, SuppressionAction, SuppressionRequest
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTCOMES, SUPPRESSION_REQUESTS, SUPPRESSIONS, partition_of
from depesche.streams.agents.app import APP_ID
from depesche.streams.agents.recent import RecentEvents
from depesche.streams.mail.suppression import after_outcome, after_request, forgettable
from depesche.streams.mail.suppression_facts import FOLDED, Policy

Progress = Callable[[str, int, int], None]
"""What is read, how many records of it, of how many."""

ROUNDS: Final = 5
_WAIT_SECONDS: Final = 30.0
_ASK_SECONDS: Final = 0.3
_AT_ONCE: Final = 2000
_FOLDED_TYPES: Final = frozenset(f"email.{type_.value}".encode() for type_ in FOLDED)


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of an entry that the log does not tell as the topic does."""

    recipient_key: str
    tenant: str
    field: str
    topic: str
    replayed: str


@dataclass(slots=True)
class Verdict:
    """What the comparison found.

    Attributes:
        records: how many were read, by topic.
        compared: entries that were compared.
        cut_off: entries that begin with a record which retention has deleted.
        other_policy: entries that were decided under other settings.
        differences: at most what ``verify`` was told to keep; ``differing`` counts the entries.
    """

    records: dict[str, int] = field(default_factory=dict)
    compared: int = 0
    cut_off: int = 0
    other_policy: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)


async def verify(settings: Settings, progress: Progress, most: int = 100) -> Verdict:
    """Fold the sources from their beginning and hold the result against mail.suppressions.

    The living fold goes on meanwhile; what it has taken beyond our reading is read too, until both have read the same.

    Raises:
        SetupError: a topic is missing.
        KafkaError: the log does not answer.
    """
    async with _open(settings) as replay:
        for _ in range(ROUNDS):
            ends = await replay.fold(progress)
            await _until_committed(settings, ends)
            await replay.read_table(progress)
            verdict = replay.verdict(most)
            if not verdict.differing:
                break
        return verdict


class _Source:
    """One partition of one topic, record by record in its order."""

    def __init__(self, consumer: AIOKafkaConsumer, place: TopicPartition) -> None:
        self.read = 0
        self._consumer = consumer
        self._place = place
        self._waiting: list[ConsumerRecord] = []

    async def head(self, end: int) -> ConsumerRecord | None:
        """The next record before ``end``."""
        while not self._waiting and await self._consumer.position(self._place) < end:
            found = await self._consumer.getmany(self._place, timeout_ms=500, max_records=_AT_ONCE)
            self._waiting = list(reversed(found.get(self._place, [])))
        return self._waiting[-1] if self._waiting and self._waiting[-1].offset < end else None

    def drop(self) -> None:
        """The head is dealt with."""
        self._waiting.pop()
        self.read += 1


class _Replay:
    """What was folded so far, and what the topic says."""

    def __init__(self, settings: Settings, consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> None:
        kafka = settings.kafka
        self._consumer = consumer
        self._policy = Policy.of(settings.suppression)
        self._outcomes = full_name(kafka, OUTCOMES.name)
        self._requests = full_name(kafka, SUPPRESSION_REQUESTS.name)
        self._table = full_name(kafka, SUPPRESSIONS.name)
        self._sources = {place: _Source(consumer, place) for place in places}
        self._recent: dict[TopicPartition, RecentEvents] = {place: RecentEvents() for place in places}
        self._count = sum(place.topic == self._table for place in places)
        self._begin: dict[TopicPartition, int] = {}
        self.folded: dict[str, Suppression] = {}
        self.told: dict[str, Suppression] = {}

    async def start(self) -> None:
        self._begin = await self._consumer.beginning_offsets(list(self._sources))
        for place, offset in self._begin.items():
            self._consumer.seek(place, offset)

    async def fold(self, progress: Progress) -> dict[TopicPartition, int]:
        """Read both sources to where they end now; gives these ends."""
        places = [place for place in self._sources if place.topic != self._table]
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(places)
        whole = sum(ends[place] - self._begin[place] for place in places)
        for partition in range(self._count):
            pair = [place for place in places if place.partition == partition]
            while True:
                heads = {place: await self._sources[place].head(ends[place]) for place in pair}
                there = {place: head for place, head in heads.items() if head is not None}
                if not there:
                    break
                place = min(there, key=lambda one: there[one].timestamp)
                self._take(place, there[place])
                self._sources[place].drop()
                done = self._read(places)
                if done % _AT_ONCE == 0:
                    progress("folding", done, whole)
        progress("folding", self._read(places), whole)
        return ends

    def _read(self, places: list[TopicPartition]) -> int:
        return sum(self._sources[place].read for place in places)

    def _take(self, place: TopicPartition, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        try:
            if place.topic == self._outcomes:
                if not self._recent[place].seen(headers.get("ce_id", b"").decode()) and _may_hold_a_fact(headers):
                    event = event_from(record.value or b"")
                    held = self.folded.get(event.recipient_key)
                    after = after_outcome(held, event, self._policy, record.partition, record.offset)
                    self._keep(event.recipient_key, after)
            else:
                self._take_request(place, record)
        except UndecodableError:
            # The living fold passes over it too, and says so.
            return

    def _take_request(self, place: TopicPartition, record: ConsumerRecord) -> None:
        request = decode(SuppressionRequest, record.value or b"")
        if self._recent[place].seen(request.request_id):
            return
        if request.action is SuppressionAction.SWEEP:
            mine = [key for key in self.folded if partition_of(key, self._count) == record.partition]
            for key in mine:
                if forgettable(self.folded[key], request.at):
                    del self.folded[key]
            return
        held = self.folded.get(request.recipient_key)
        after = after_request(held, request, self._policy, record.partition, record.offset)
        self._keep(request.recipient_key, after)

    def _keep(self, key: str, after: Suppression | None) -> None:
        if after is not None:
            self.folded[key] = after

    async def read_table(self, progress: Progress) -> None:
        """Read mail.suppressions to where it ends now."""
        places = [place for place in self._sources if place.topic == self._table]
        ends = await self._consumer.end_offsets(places)
        whole = sum(ends[place] - self._begin[place] for place in places)
        for place in places:
            source = self._sources[place]
            while (record := await source.head(ends[place])) is not None:
                source.drop()
                key = (record.key or b"").decode()
                if record.value is None:
                    self.told.pop(key, None)
                else:
                    self.told[key] = decode(Suppression, record.value)
        progress("comparing", self._read(places), whole)

    def verdict(self, most: int) -> Verdict:
        """The comparison as far as both were read."""
        result = Verdict(records={self._short(place): 0 for place in self._sources})
        for place, source in self._sources.items():
            result.records[self._short(place)] += source.read
        for key in sorted(self.folded.keys() | self.told.keys()):
            told = self.told.get(key)
            if told is not None and self._is_cut_off(told):
                result.cut_off += 1
            elif told is not None and told.policy != self._policy.fingerprint:
                result.other_policy += 1
            else:
                result.compared += 1
                found = _differences(key, told, self.folded.get(key))
                result.differing += bool(found)
                result.differences += found[: max(0, most - len(result.differences))]
        return result

    def _short(self, place: TopicPartition) -> str:
        names = {
            self._outcomes: OUTCOMES.name,
            self._requests: SUPPRESSION_REQUESTS.name,
            self._table: SUPPRESSIONS.name,
        }
        return names[place.topic]

    def _is_cut_off(self, told: Suppression) -> bool:
        topics = {"outcomes": self._outcomes, "requests": self._requests}
        return any(
            mark.first < self._begin.get(TopicPartition(topics[mark.origin], mark.partition), 0)
            for mark in told.watermarks
        )


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[_Replay]:
    counts = await partition_counts(settings, OUTCOMES, SUPPRESSION_REQUESTS, SUPPRESSIONS)
    places = [
        TopicPartition(full_name(settings.kafka, name), number)
        for name, count in counts.items()
        for number in range(count)
    ]
    consumer = reader(settings, "suppression-replay")
    await consumer.start()
    try:
        consumer.assign(places)
        replay = _Replay(settings, consumer, places)
        await replay.start()
        yield replay
    finally:
        await consumer.stop()


async def _until_committed(settings: Settings, ends: Mapping[TopicPartition, int]) -> None:
    """Wait until the living fold has committed these ends, or has had its time."""
    admin = AIOKafkaAdminClient(**connection(settings), client_id="suppression-replay")
    await admin.start()
    try:
        for _ in range(round(_WAIT_SECONDS / _ASK_SECONDS)):
            committed = await admin.list_consumer_group_offsets(full_name(settings.kafka, APP_ID))
            if all(place in committed and committed[place].offset >= end for place, end in ends.items() if end):
                return
            await asyncio.sleep(_ASK_SECONDS)
    finally:
        await admin.close()


def _may_hold_a_fact(headers: Mapping[str, bytes]) -> bool:
    """By its header; a record of somebody who writes none is looked into."""
    return headers.get("ce_type", b"") in _FOLDED_TYPES or "ce_type" not in headers


def _differences(key: str, told: Suppression | None, folded: Suppression | None) -> list[Difference]:
    if told == folded:
        return []
    tenant = (told or folded or Suppression(recipient_key=key, tenant="", changed_at=0)).tenant
    if told is None or folded is None:
        return [Difference(key, tenant, "entry", _shown(told), _shown(folded))]
    return [
        Difference(key, tenant, one.name, _shown(getattr(told, one.name)), _shown(getattr(folded, one.name)))
        for one in fields(Suppression)
        if getattr(told, one.name) != getattr(folded, one.name)
    ]


def _shown(value: Any) -> str:
    if isinstance(value, Suppression):
        return f"{value.state.value} {value.ground}"
    return "nothing" if value is None else str(value)[:400]
