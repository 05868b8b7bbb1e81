"""The loop under every stage: owns partitions, hands out records, commits what is done, and knows when to give up.

The order of things is what makes it safe. Records are entered in the tracker before anybody sees them; only the tracker says
what may be committed; a fault that is not a record's own ends the loop with its offset still unfinished.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import TopicPartition

from depesche.analytics.log.client import full_name, group_consumer
from depesche.schemas.settings import Settings
from depesche.streams.runner.guard import Undertaker, guarded, is_infrastructure, or_end
from depesche.streams.runner.pace import Pace
from depesche.streams.runner.parts import cancelled
from depesche.streams.runner.stage import Flight, Record, Stage
from depesche.streams.runner.tracker import Assignment
from depesche.streams.runner.watchdog import LagWitness, Watchdog

log = structlog.get_logger(__name__)

_STOP_SECONDS = 3.0
"""How long a last commit and the client's own stop may take; Kafka may be what is broken."""
_AT_ONCE = 64
"""Records per poll at most, and handed out in small groups, because the loop serves others in between."""
_GROUP = 8
_WORTH_A_COMMIT = 32
"""Records. Fewer are committed in every fifth round only; a crash repeats so many more, or half a second's."""
_ROUNDS = 5
_KEEP_ALIVE_SECONDS = 60.0
"""A full stage polls nothing, and the client leaves its group when nobody polls for ten minutes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a runner takes on.

    Attributes:
        in_flight: records under way at most.
        span: records between the oldest unfinished one and the newest of a partition; what a crash would repeat.
        commit_seconds: time between two commits, of a good number of records each.
        drain_seconds: how long records under way may end when the process stops or a partition is taken away.
        patience_seconds: how long a lagging group may commit nothing before the process ends (``Watchdog``).
    """

    in_flight: int = 256
    span: int = 20_000
    commit_seconds: float = 0.1
    drain_seconds: float = 5.0
    patience_seconds: float = 60.0


class Runner(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs one stage as one static member of the group named after it."""

    def __init__(
        self, settings: Settings, stage: Stage, producer: AIOKafkaProducer, member: str, limits: Limits | None = None
    ) -> None:
        """Prepare to run.

        Args:
            settings: where the log is.
            stage: what to do with each record.
            producer: a started producer for dead letters; may be the stage's own.
            member: name that this worker keeps over restarts; two live workers of a group never share one.
            limits: how much to take on.
        """
        self.assignment = Assignment()
        self._settings = settings
        self._stage = stage
        self._member = member
        self._limits = limits or Limits()
        self._undertaker = Undertaker(stage.name, settings, producer)
        self._consumer: AIOKafkaConsumer | None = None
        self._settled = asyncio.Event()
        self._room_again = asyncio.Event()
        self._ending: asyncio.Future[None] | None = None
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Records under way now."""
        return self._in_flight

    async def run(self, ready: Callable[[], None]) -> None:
        """Work until cancelled; then let what is under way end for a short time and commit it.

        Raises:
            Exception: the fault that made it impossible to go on, as it was raised.
        """
        self._ending = asyncio.get_running_loop().create_future()
        consumer = group_consumer(self._settings, self._stage.name, self._member)
        names = [full_name(self._settings.kafka, topic) for topic in self._stage.topics]
        consumer.subscribe(topics=names, listener=self)
        self._consumer = consumer
        try:
            await consumer.start()
            ready()
            await self._work(consumer)
        finally:
            await self._stop(consumer)

    async def _work(self, consumer: AIOKafkaConsumer) -> None:
        polling = asyncio.create_task(self._poll(consumer), name=f"{self._stage.name} poll")
        others = [
            asyncio.create_task(part, name=f"{self._stage.name} {name}")
            for name, part in (
                ("work", self._stage.work()),
                ("commit", self._commit_often()),
                ("burials", self._undertaker.work()),
                ("watchdog", self._watchdog(consumer).watch()),
            )
        ]
        assert self._ending is not None
        parts = {polling, *others, self._ending}
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
            raise RuntimeError(f"a part of {self._stage.name} ended by itself")
        except asyncio.CancelledError:
            polling.cancel()
            await self._drained()
            raise
        finally:
            await cancelled(parts)

    def _watchdog(self, consumer: AIOKafkaConsumer) -> Watchdog:
        names = [full_name(self._settings.kafka, topic) for topic in self._stage.topics]
        group = full_name(self._settings.kafka, self._stage.name)
        client_id = f"{self._stage.name}-{self._member}"
        witness = LagWitness(self._settings, group, client_id, names, lambda: set(consumer.assignment()))
        return Watchdog(
            lambda: dict(self.assignment.committed), witness, self._stage.waiting, self._limits.patience_seconds
        )

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        pace = Pace()
        while True:
            await self._room(consumer)
            most = min(_AT_ONCE, self._limits.in_flight - self._in_flight)
            batches = await consumer.getmany(timeout_ms=10_000, max_records=most)
            # No await stands between reading records and entering them, so a rebalance cannot come in between.
            flights = [flight for partition, records in batches.items() for flight in self._begin(partition, records)]
            if not self._settled.is_set():
                await self._settled.wait()
            for start in range(0, len(flights), _GROUP):
                self._hand_out(flights[start : start + _GROUP])
                await asyncio.sleep(0)
            pause = pace.pause(len(flights), time.monotonic())
            # A poll that brought all it may bring leaves more behind: a backlog is not waited for.
            if pause and len(flights) < most:
                await asyncio.sleep(pause)

    def _hand_out(self, flights: list[Flight]) -> None:
        for flight in flights:
            if flight.live:
                guarded(flight, self._stage.take, flight)

    def _begin(self, partition: TopicPartition, records: list[Record]) -> list[Flight]:
        tracker = self.assignment.tracker(partition)
        for record in records:
            tracker.begin(record.offset)
        self._in_flight += len(records)
        return [Flight(record, tracker, self) for record in records]

    def _full(self) -> bool:
        return self._in_flight >= self._limits.in_flight or self.assignment.span >= self._limits.span

    async def _room(self, consumer: AIOKafkaConsumer) -> None:
        """Wait until a good number of records may be taken on again."""
        while self._full():
            self._room_again.clear()
            try:
                async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                    await self._room_again.wait()
            except TimeoutError:
                owned = consumer.assignment()
                consumer.pause(*owned)
                await consumer.getmany(timeout_ms=0)
                consumer.resume(*(owned & consumer.assignment()))

    def finished(self, flight: Flight) -> None:
        """See ``Flight.done``."""
        flight.tracker.finish(flight.record.offset)
        if not flight.tracker.closed:
            self._in_flight -= 1
            # Not for each one, or a full stage would poll for single records.
            if self._in_flight * 4 <= self._limits.in_flight * 3:
                self._room_again.set()

    def failed(self, flight: Flight, fault: Exception) -> None:
        """See ``Flight.fail``."""
        if is_infrastructure(fault):
            self.end(fault)
        elif flight.live:
            self._undertaker.bury(flight, fault)

    def end(self, fault: Exception) -> None:
        """End the run with ``fault``; the first one counts."""
        if self._ending is not None and not self._ending.done():
            log.error("stage_cannot_go_on", stage=self._stage.name, cause=type(fault).__name__, explanation=str(fault))
            self._ending.set_exception(fault)

    async def _commit_often(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(self._limits.commit_seconds)
            rounds += 1
            news = self.assignment.news()
            # A commit costs as much as a mail's produce request; a few records are not worth one each time.
            if news and (rounds >= _ROUNDS or self.assignment.gain(news) >= _WORTH_A_COMMIT):
                await self._commit(news)
                rounds = 0

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        if not offsets or self._consumer is None:
            return
        try:
            await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as fault:
            # The group has moved on without us. Whoever has the partition now repeats what this commit would have said.
            log.warning("commit_came_too_late", stage=self._stage.name, cause=type(fault).__name__)
        else:
            self.assignment.told(offsets)

    async def _drained(self, partitions: Collection[TopicPartition] | None = None) -> None:
        """Wait for what is under way to end, at most ``drain_seconds``."""
        deadline = time.monotonic() + self._limits.drain_seconds
        trackers = [self.assignment.tracker(p) for p in partitions] if partitions is not None else None
        while time.monotonic() < deadline:
            left = self._in_flight if trackers is None else sum(tracker.in_flight for tracker in trackers)
            if not left or (self._ending is not None and self._ending.done()):
                return
            await asyncio.sleep(0.01)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by the client when the group has agreed."""
        if await or_end(self._stage.assigned(assigned), self.end):
            self._settled.set()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called by the client before the partitions go: commit what is safe, forget the rest."""
        self._settled.clear()
        if revoked:
            await or_end(self._give_up(revoked), self.end)
            self.assignment.forget(revoked)
            self._in_flight = self.assignment.in_flight
            self._room_again.set()

    async def _give_up(self, partitions: Collection[TopicPartition]) -> None:
        self._stage.revoked(partitions)
        await self._drained(partitions)
        await self._last_commit(partitions)

    async def _last_commit(self, partitions: Collection[TopicPartition] | None = None) -> None:
        with contextlib.suppress(TimeoutError):  # Not committed is only repeated.
            async with asyncio.timeout(_STOP_SECONDS):
                await self._commit(self.assignment.news(partitions))

    async def _stop(self, consumer: AIOKafkaConsumer) -> None:
        try:
            await self._last_commit()
        finally:
            self._consumer = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await consumer.stop()
