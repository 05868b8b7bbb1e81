"""Brings units back from the middle of the ladder because of an order, each once.

A keeper reads only the heads of its queues. On an order it reads what stands behind them, in bounded portions, and sends back
what is meant. The order of writing makes it safe: that a sweep begins, the units, which records they were, that it is done.
Killed in between, the successor finds in mail.outbound, from the beginning of the sweep on, which units went back (``SOURCE``),
and in mail.sweeps those of all portions before. When the head of the queue comes to such a record it is passed over, but not
before its unit is acknowledged.

Each order is looked after twice: at once, and when all couriers have heard of it, because until then they may still put units on
the ladder that are meant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from depesche.analytics.controls.book import ControlBook
from depesche.analytics.controls.orders import fits
from depesche.analytics.controls.swept import Swept
from depesche.analytics.log.client import full_name, reader
from depesche.schemas.codec import decode, encode
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import MailUnit, SweepPhase
from depesche.schemas.service import Clock
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTBOUND
from depesche.streams.mail.sweeps import Sweep, sweep_of
from depesche.streams.runner.stage import Record
from depesche.streams.stages.hand import ORDER
from depesche.streams.stages.sweep_log import SweepLog
from depesche.streams.stages.trail import header, stopped, written_since

log = structlog.get_logger(__name__)

SOURCE = "source"
"""Header of a unit that came back from the ladder: where it stood there."""
_LOOK_SECONDS = 0.2
_PORTION = 1_000
_TOLD_EVERY = 50_000
_SLACK_MS = 2_000


class Queue:
    """What a keeper knows of one partition of a rung.

    Attributes:
        next: the offset below which every record has gone back, or is on its way.
        checked: whether it is known what a killed predecessor had sent back when it was due.
        swept: what went back before it was due.
        flying: of those, the ones that are not acknowledged yet.
        looked: sweeps that were looked after once.
    """

    def __init__(self) -> None:
        self.next = 0
        self.checked = False
        self.swept = Swept()
        self.flying: dict[int, asyncio.Future[None]] = {}
        self.looked: set[str] = set()


class Keeper(Protocol):
    """The keeper of the ladder, as far as sweeps need it."""

    def queues(self) -> dict[TopicPartition, Queue]:
        """Its partitions; a partition that is given away and comes again has another queue."""
        ...

    def first(self, partition: TopicPartition) -> int | None:
        """The offset of the oldest record that has not gone back; None where none was read."""
        ...

    def had_gone_back(self, source: str) -> bool:
        """Whether a killed predecessor had sent back what stood there."""
        ...

    async def send(
        self, record: Record, value: bytes | None, more: list[tuple[str, bytes]]
    ) -> asyncio.Future[Any] | None:
        """Send a record of the ladder back with ``value``; None when this process must not send any more."""
        ...


@dataclass(slots=True)
class _Pass:
    """One look at what stands on the ladder."""

    ends: dict[TopicPartition, int]
    queues: dict[TopicPartition, Queue]
    sweeps: dict[TopicPartition, list[Sweep]]
    begun: set[TopicPartition] = field(default_factory=set)
    read: int = 0
    sent: int = 0


class Sweeper:
    """Carries out what orders want from the ladder."""

    def __init__(self, settings: Settings, keeper: Keeper, book: ControlBook, worker: str, clock: Clock) -> None:
        """Prepare.

        Args:
            settings: where the log is.
            keeper: whose partitions are swept.
            book: the orders.
            worker: who writes marks.
            clock: the time in milliseconds.
        """
        self.brought_back = 0
        self._settings = settings
        self._keeper = keeper
        self._book = book
        self._clock = clock
        self._log = SweepLog(settings, worker, clock)

    async def recall(self, queues: dict[TopicPartition, Queue], partitions: int) -> None:
        """Find out what predecessors have brought back from ``queues``; ``partitions``: how many mail.outbound has."""
        found = await self._log.recall(list(queues))
        begun = [at for swept in found.values() for at in swept.begun.values()]
        if begun:
            outbound = full_name(self._settings.kafka, OUTBOUND.name)
            everywhere = [TopicPartition(outbound, number) for number in range(partitions)]
            since = max(0, min(begun) - _SLACK_MS)
            sources = await written_since(self._settings, everywhere, since, lambda record: header(record, SOURCE))
            for source in sources - {""}:
                topic, number, offset = source.rsplit("/", 2)
                swept = found.get(TopicPartition(topic, int(number)))
                if swept is not None:
                    swept.taken.add(int(offset))
        for partition, queue in queues.items():
            queue.swept = found[partition]

    async def work(self, producer: AIOKafkaProducer, settled: Callable[[], Awaitable[None]]) -> None:
        """Sweep until cancelled.

        Args:
            producer: a started producer for marks.
            settled: returns when it is known what predecessors have done with all partitions.

        Raises:
            KafkaError: the log refuses for good.
        """
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await settled()
            plan = self._plan()
            if plan:
                await self._look(producer, plan)

    def _plan(self) -> dict[TopicPartition, list[Sweep]]:
        """What is to be looked after now, by partition."""
        now = self._clock()
        wanted = [
            sweep
            for order in self._book.orders.all()
            if (sweep := sweep_of(order.control, order.offset, now)) is not None
        ]
        plan = {}
        for partition, queue in self._keeper.queues().items():
            if queue.checked:
                open_ = [sweep for sweep in wanted if sweep.name not in queue.swept.done]
                due = [sweep for sweep in open_ if sweep.name not in queue.looked or now >= sweep.settled_at]
                if due:
                    plan[partition] = due
        return plan

    async def _look(self, producer: AIOKafkaProducer, plan: dict[TopicPartition, list[Sweep]]) -> None:
        now, queues = self._clock(), self._keeper.queues()
        consumer = reader(self._settings, "depesche-sweeper")
        await consumer.start()
        try:
            ends = await consumer.end_offsets(list(plan))
            round_ = _Pass(ends, {partition: queues[partition] for partition in plan if partition in queues}, plan)
            await self._read(producer, consumer, round_)
        finally:
            await stopped(consumer)
        for partition, sweeps in plan.items():
            queue = round_.queues.get(partition)
            if queue is None or self._keeper.queues().get(partition) is not queue:
                continue
            queue.looked.update(sweep.name for sweep in sweeps)
            over = [sweep.name for sweep in sweeps if now >= sweep.settled_at]
            await self._log.mark(producer, partition, over, SweepPhase.DONE)
            queue.swept.done.update(over)
            queue.swept.taken.forget_below(queue.next)
        names = sorted({sweep.name for sweeps in plan.values() for sweep in sweeps})
        log.info("ladder_swept", sweeps=names, read=round_.read, brought_back=round_.sent)

    async def _read(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, round_: _Pass) -> None:
        begins = {partition: self._keeper.first(partition) for partition in round_.queues}
        left = {p for p, begin in begins.items() if begin is not None and begin < round_.ends[p]}
        if left:
            consumer.assign(list(left))
        for partition in left:
            consumer.seek(partition, begins[partition])
        while left:
            fetched = await consumer.getmany(*left, timeout_ms=1000, max_records=_PORTION)
            for partition, records in fetched.items():
                before = round_.read
                round_.read += len(records)
                meant = [record for record in records if record.offset < round_.ends[partition]]
                if not await self._bring_back(producer, round_, partition, meant):
                    left.discard(partition)
                if round_.read // _TOLD_EVERY > before // _TOLD_EVERY:
                    log.info("ladder_sweep_goes_on", read=round_.read, brought_back=round_.sent)
            left = {p for p in left if await consumer.position(p) < round_.ends[p]}

    async def _bring_back(
        self, producer: AIOKafkaProducer, round_: _Pass, partition: TopicPartition, records: list[Record]
    ) -> bool:
        """Send back what is meant of a portion; whether the partition is still ours."""
        queue = round_.queues[partition]
        chosen = [(record, *found) for record in records if (found := self._meant(queue, round_, partition, record))]
        if chosen and partition not in round_.begun:
            names = [sweep.name for sweep in round_.sweeps[partition]]
            await self._log.mark(producer, partition, names, SweepPhase.BEGUN)
            round_.begun.add(partition)
        taken: list[int] = []
        for record, value, sweep in chosen:
            if self._keeper.queues().get(partition) is not queue:
                return False
            if self._passed(queue, record.offset):
                continue
            queue.swept.taken.add(record.offset)
            flown = queue.flying[record.offset] = asyncio.get_running_loop().create_future()
            sent = await self._keeper.send(record, value, [(ORDER, b"%d" % sweep.offset)])
            if sent is None:
                return False
            sent.add_done_callback(partial(_landed, flown))
            taken.append(record.offset)
        for offset in taken:
            await queue.flying[offset]
        if taken:
            crashpoint("L1")
            await self._log.mark(producer, partition, [round_.sweeps[partition][0].name], SweepPhase.TAKEN, taken)
            crashpoint("L2")
        for offset in taken:
            del queue.flying[offset]
        round_.sent += len(taken)
        self.brought_back += len(taken)
        return True

    @staticmethod
    def _passed(queue: Queue, offset: int) -> bool:
        """Whether a record has gone back, because its time has come or by a sweep."""
        return offset < queue.next or offset in queue.swept.taken

    def _meant(
        self, queue: Queue, round_: _Pass, partition: TopicPartition, record: Record
    ) -> tuple[bytes | None, Sweep] | None:
        """The value with which a record goes back, and because of what; None: it stays."""
        if self._passed(queue, record.offset) or self._keeper.had_gone_back(source_of(record)):
            return None
        try:
            unit = decode(MailUnit, record.value or b"")
        except UndecodableError:
            return None
        now = self._clock()
        for sweep in round_.sweeps[partition]:
            if record.timestamp > sweep.settled_at or not fits(sweep.scope, unit):
                continue
            if not sweep.at_once or unit.due_at <= now:
                return record.value, sweep
            if unit.attempt > 1:
                return encode(replace(unit, due_at=now)), sweep
            # Never tried and not due: whoever sent it wants it later.
        return None


def source_of(record: Record) -> str:
    """Where a record stands, as the header ``SOURCE`` says it."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def _landed(flown: asyncio.Future[None], sent: asyncio.Future[Any]) -> None:
    if sent.cancelled() or flown.done():
        return
    fault = sent.exception()
    if fault is None:
        flown.set_result(None)
    else:
        flown.set_exception(fault)
