"""The ladder's keeper: brings units back to mail.outbound when they are due, in the order in which they are due.

All units of a rung wait equally long, so each partition is a queue: only its head needs to be looked at, and a partition whose
head is not due is not read any further. Memory does not grow with the backlog. What an order wants back from the middle of a
queue, the ``Sweeper`` brings.

A unit goes back to the partition of its route, unchanged but for a header that names where it stood; its offset is committed when
that is acknowledged. Killed in between, the successor finds its predecessor's followers by that header (``trail``) and does not
write them again, however long nobody kept the ladder. So each unit remains one record on its way. What is left, a keeper that
was stopped and goes on after its partitions were given away, is met twice: its ``Pulse`` ends it, and couriers pass over an
attempt that has ended or is under way (``attempt_memory``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import TopicPartition

from depesche.analytics.controls.book import ControlBook
from depesche.analytics.log.client import HEARTBEAT_MS, SESSION_MS, connection, full_name, producer
from depesche.analytics.log.topics import partition_counts
from depesche.schemas.codec import decode
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import MailUnit
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTBOUND, RETRY, route_partition
from depesche.streams.runner.guard import or_end
from depesche.streams.runner.parts import until_one_ends
from depesche.streams.runner.stage import Record
from depesche.streams.runner.tracker import Assignment
from depesche.streams.runner.watchdog import LagWitness, Watchdog
from depesche.streams.stages.pulse import Pulse
from depesche.streams.stages.sweeper import SOURCE, Queue, Sweeper, source_of
from depesche.streams.stages.trail import header, stopped, written_since

log = structlog.get_logger(__name__)

GROUP = "retry"
_OF_THE_LADDER = ("due", "why", "order", SOURCE)
_LONGEST_POLL_MS = 250
_AT_ONCE = 500
_MOST_UNACKNOWLEDGED = 2_000
_FETCH_BYTES = 256 * 1024
_COMMIT_SECONDS = 0.1
_STOP_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0


class _Waiting(Queue):
    """One partition of a rung: what was read and has not gone back."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[Record] = deque()


class Retry(ConsumerRebalanceListener):  # type: ignore[misc]
    """The keeper of all rungs, as a service (``schemas.service.Service``)."""

    name = "retry"

    def __init__(
        self, settings: Settings, member: str, clock: Clock = now_ms, controls: ControlBook | None = None
    ) -> None:
        """Prepare to run.

        Args:
            settings: everything that can be set.
            member: name that this worker keeps over restarts; no other live worker has it.
            clock: the time in milliseconds.
            controls: the operator's orders; default: none are ever given.
        """
        self.forwarded = 0
        self._settings = settings
        self._member = member
        self._clock = clock
        self._outbound = full_name(settings.kafka, OUTBOUND.name)
        self._topics = [full_name(settings.kafka, topic.name) for topic in RETRY.values()]
        self._partitions = 0
        self._waiting: dict[TopicPartition, _Waiting] = {}
        self._assignment = Assignment()
        self._gone_back: set[str] = set()
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None
        self._pulse = Pulse()
        self._sweeper = Sweeper(settings, self, controls or ControlBook(settings), f"retry-{member}", clock)
        self._recalled = asyncio.Event()
        self._unacknowledged: deque[asyncio.Future[Any]] = deque()
        self._fault: Exception | None = None

    async def run(self, ready: Callable[[], None]) -> None:
        """See ``Service``. Raises what made it impossible to go on."""
        self._partitions = (await partition_counts(self._settings, OUTBOUND))[OUTBOUND.name]
        self._producer = producer(self._settings, f"retry-{self._member}")
        self._consumer = consumer = self._make_consumer()
        consumer.subscribe(topics=self._topics, listener=self)
        try:
            await self._producer.start()
            await consumer.start()
            ready()
            await self._work()
        finally:
            # Nothing is lost by not committing; it would only be looked for again.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._acknowledged()
                    await self._commit()
            await stopped(consumer)
            await self._producer.stop()

    def _make_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **connection(self._settings),
            client_id=f"{GROUP}-{self._member}",
            group_id=full_name(self._settings.kafka, GROUP),
            group_instance_id=f"{GROUP}-{self._member}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            fetch_max_wait_ms=_LONGEST_POLL_MS,
            # A partition whose head is not due is not read further; this is what it may have read ahead.
            max_partition_fetch_bytes=_FETCH_BYTES,
        )

    async def _work(self) -> None:
        group, client_id = full_name(self._settings.kafka, GROUP), f"{GROUP}-{self._member}"
        witness = LagWitness(self._settings, group, client_id, self._topics, self._assignment.committed.keys)
        watchdog = Watchdog(lambda: dict(self._assignment.committed), witness, self._idle, _PATIENCE_SECONDS)
        assert self._producer is not None
        sweeping = self._sweeper.work(self._producer, self._settled)
        await until_one_ends(self._keep(), self._commit_often(), self._pulse.run(), watchdog.watch(), sweeping)

    def _idle(self) -> str | None:
        """Why it is right that nothing moves: nothing that was read is due."""
        now = self._clock()
        heads = [waiting.records[0] for waiting in self._waiting.values() if waiting.records]
        return "nothing is due" if heads and not any(due_at(head) <= now for head in heads) else None

    async def _keep(self) -> None:
        assert self._consumer is not None
        consumer = self._consumer
        while True:
            if self._fault is not None:
                raise self._fault
            if not self._recalled.is_set():
                await self._recall()
            poll_ms = await self._bring_back()
            batches = await consumer.getmany(timeout_ms=poll_ms, max_records=_AT_ONCE)
            for partition, records in batches.items():
                if partition in self._waiting:
                    self._waiting[partition].records.extend(records)
            for partition, waiting in self._waiting.items():
                if waiting.records:
                    consumer.pause(partition)
                else:
                    consumer.resume(partition)

    async def _recall(self) -> None:
        """Find out what orders had brought back from partitions that were just given to us."""
        waiting = self._waiting
        if waiting:
            await self._sweeper.recall(dict(waiting), self._partitions)
        # Given away meanwhile: the next ones are asked about anew.
        if waiting is self._waiting:
            self._recalled.set()

    async def _settled(self) -> None:
        await self._recalled.wait()

    async def _bring_back(self) -> int:
        """Send back what is due; gives the milliseconds until something else is, at most ``_LONGEST_POLL_MS``."""
        soonest = self._clock() + _LONGEST_POLL_MS
        for partition, waiting in list(self._waiting.items()):
            await self._check(waiting)
            while waiting.records and self._waiting.get(partition) is waiting:
                head = waiting.records[0]
                due = due_at(head)
                if due > self._clock():
                    soonest = min(soonest, due)
                    break
                waiting.records.popleft()
                await self._send_back(partition, head)
            else:
                # More of this partition may stand in the log.
                soonest = min(soonest, self._clock() + _LONGEST_POLL_MS)
        return max(1, soonest - self._clock())

    async def _check(self, waiting: _Waiting) -> None:
        """Before the first record of a partition goes back, find out whether a killed predecessor had sent it."""
        if waiting.checked or not waiting.records:
            return
        since = due_at(waiting.records[0])
        if since <= self._clock():
            everywhere = [TopicPartition(self._outbound, number) for number in range(self._partitions)]
            # It cannot have been sent before it was due.
            found = await written_since(
                self._settings, everywhere, max(0, since), lambda record: header(record, SOURCE)
            )
            self._gone_back |= found - {""}
        waiting.checked = True

    async def _send_back(self, partition: TopicPartition, record: Record) -> None:
        tracker, waiting = self._assignment.tracker(partition), self._waiting[partition]
        tracker.begin(record.offset)
        waiting.next = record.offset + 1
        if record.offset in waiting.swept.taken:
            self._pass_over(waiting, tracker.finish, record.offset)
            return
        source = source_of(record)
        if source in self._gone_back:
            self._gone_back.discard(source)
            tracker.finish(record.offset)
            return
        while len(self._unacknowledged) >= _MOST_UNACKNOWLEDGED:
            await asyncio.wait([self._unacknowledged.popleft()])
        if tracker.closed:
            return
        sent = await self.send(record, record.value, [])
        if sent is not None:
            sent.add_done_callback(partial(self._sent_back, tracker.finish, record.offset))

    def _pass_over(self, waiting: _Waiting, finish: Callable[[int], None], offset: int) -> None:
        """A record that an order has brought back already is done, once that is acknowledged."""
        flying = waiting.flying.get(offset)
        if flying is None:
            finish(offset)
        else:
            flying.add_done_callback(partial(self._sent_back, finish, offset))

    # What the sweeper asks (``sweeper.Keeper``).

    def queues(self) -> dict[TopicPartition, Queue]:
        """See ``sweeper.Keeper``."""
        return dict(self._waiting)

    def first(self, partition: TopicPartition) -> int | None:
        """See ``sweeper.Keeper``."""
        waiting = self._waiting.get(partition)
        if waiting is None:
            return None
        return waiting.records[0].offset if waiting.records else waiting.next or None

    def had_gone_back(self, source: str) -> bool:
        """See ``sweeper.Keeper``."""
        return source in self._gone_back

    async def send(
        self, record: Record, value: bytes | None, more: list[tuple[str, bytes]]
    ) -> asyncio.Future[Any] | None:
        """See ``sweeper.Keeper``."""
        assert self._producer is not None
        if not self._pulse.alive:
            return None
        headers = [pair for pair in record.headers if pair[0] not in _OF_THE_LADDER]
        sent: asyncio.Future[Any] = await self._producer.send(
            self._outbound,
            value,
            key=record.key,
            partition=self._target(record),
            headers=[*headers, *more, (SOURCE, source_of(record).encode())],
        )
        self.forwarded += 1
        self._unacknowledged.append(sent)
        return sent

    def _target(self, record: Record) -> int:
        """The partition of the record's route; it may have changed, when partitions were added meanwhile."""
        return route_partition((record.key or b"").decode("utf-8", "replace"), self._partitions)

    def _sent_back(self, finish: Callable[[int], None], offset: int, sent: asyncio.Future[Any]) -> None:
        if sent.cancelled():
            return
        fault = sent.exception()
        if isinstance(fault, Exception):
            self._fault = fault
        else:
            finish(offset)

    # Committing, and the group.

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_SECONDS)
            while self._unacknowledged and self._unacknowledged[0].done():
                self._unacknowledged.popleft()
            await self._commit()

    async def _commit(self) -> None:
        news = self._assignment.news()
        if not news or self._consumer is None:
            return
        try:
            await self._consumer.commit(news)
        except (CommitFailedError, IllegalStateError) as fault:
            # The group has moved on without us; the new keeper looks for what we sent.
            log.warning("commit_came_too_late", stage=GROUP, cause=type(fault).__name__)
        else:
            self._assignment.told(news)

    async def _acknowledged(self) -> None:
        if self._unacknowledged:
            await asyncio.wait(list(self._unacknowledged))

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called by the client before the partitions go."""
        self._waiting = {}
        self._recalled.clear()
        if revoked:
            await or_end(self._give_up(), self._end)
            self._assignment.forget(list(revoked))

    async def _give_up(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._acknowledged()
                await self._commit()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by the client when the group has agreed."""
        self._waiting = {partition: _Waiting() for partition in sorted(assigned)}
        self._recalled.clear()

    def _end(self, fault: Exception) -> None:
        self._fault = fault


def due_at(record: Record) -> int:
    """When the unit in ``record`` goes back, in milliseconds since 1970 UTC.

    A record without our header is looked into; one that cannot be read is due at once, so that the courier stage buries it.
    """
    text = header(record, "due")
    if text.isdecimal():
        return int(text)
    try:
        return decode(MailUnit, record.value or b"").due_at
    except UndecodableError:
        return 0
