"""Writes attempts ahead: marks of all units under way go to mail.attempts together, as one record at a time (group commit).

While one record is on its way to the log, the marks that come meanwhile make the next; so a mark waits for one round trip, and
at a thousand mails a second a record holds a dozen of them. Order within the partition makes it enough to wait for the last
mark of a step: once ``committing`` is acknowledged, so is the ``started`` before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer

from depesche.analytics.log.client import full_name
from depesche.schemas.codec import encode
from depesche.schemas.records import AttemptMark, AttemptMarks
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ATTEMPTS

_MOST_BYTES = 200_000
_MARK_BYTES = 120
_GROUPS_PER_SPAN = 256
SOON_SECONDS = 0.01
STALLED_SECONDS = 2.0
"""A log that takes longer than this to acknowledge gets no new attempts to write down."""


@dataclass(slots=True)
class _Group:
    """The marks of one record."""

    acknowledged: asyncio.Future[None]
    marks: list[AttemptMark] = field(default_factory=list)
    size: int = 0


@dataclass(slots=True)
class _Span:
    """A stretch of mail.attempts: where it begins, how many records, the highest offset in mail.outbound it speaks of."""

    first: int
    records: int
    highest: int


class _Partition:
    """What is on its way to one partition."""

    def __init__(self) -> None:
        self.waiting: deque[_Group] = deque()
        self.flying = False
        self.spans: deque[_Span] = deque()


class AttemptLog:
    """The writing side of mail.attempts for one courier process."""

    def __init__(
        self,
        settings: Settings,
        producer: AIOKafkaProducer,
        worker: str,
        clock: Clock = now_ms,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        """Prepare to write.

        Args:
            settings: the topic's full name.
            producer: a started producer; its linger is the least time between two requests.
            worker: who writes.
            clock: the time in milliseconds.
            monotonic: seconds; default: the running loop's.
        """
        self._topic = full_name(settings.kafka, ATTEMPTS.name)
        self._producer = producer
        self._worker = worker
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._monotonic = monotonic or self._loop.time
        self._partitions: dict[int, _Partition] = {}
        self._wanted = asyncio.Event()
        self._landing = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._fault: BaseException | None = None
        self._sent_at: deque[float] = deque()
        self.records = 0

    def note(self, partition: int, mark: AttemptMark) -> None:
        """Have ``mark`` written with whatever is written next; nobody waits for it."""
        self._group(partition).marks.append(mark)

    def append(self, partition: int, mark: AttemptMark, *, soon: bool = False) -> asyncio.Future[None]:
        """Have ``mark`` written now, or soon where nobody's connection waits for it. The future is done when it is acknowledged.

        The future is shared: await it through ``asyncio.shield``. While the log cannot be reached it stays open.
        """
        group = self._group(partition)
        group.marks.append(mark)
        group.size += _MARK_BYTES + len(mark.event or b"")
        if not soon:
            self._wanted.set()
        elif self._soon is None:
            self._soon = self._loop.call_later(SOON_SECONDS, self._now)
        return group.acknowledged

    def _now(self) -> None:
        self._soon = None
        self._wanted.set()

    @property
    def stalled(self) -> bool:
        """Whether the log has not acknowledged for so long that nothing new should be begun."""
        return bool(self._sent_at) and self._monotonic() - self._sent_at[0] > STALLED_SECONDS

    async def healthy(self) -> None:
        """Wait while ``stalled``."""
        while self.stalled:
            self._landing.clear()
            await self._landing.wait()

    async def work(self) -> None:
        """Write until cancelled.

        Raises:
            KafkaError: the log refuses for good.
        """
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._fault is not None:
                raise self._fault
            for number, partition in list(self._partitions.items()):
                if not partition.flying and partition.waiting and partition.waiting[0].size:
                    await self._send(number, partition)

    async def _send(self, number: int, partition: _Partition) -> None:
        group = partition.waiting.popleft()
        partition.flying = True
        self._sent_at.append(self._monotonic())
        self.records += 1
        record = AttemptMarks(worker=self._worker, occurred_at=self._clock(), marks=tuple(group.marks))
        sent = await self._producer.send(self._topic, encode(record), partition=number)
        sent.add_done_callback(partial(self._landed, partition, group))

    def _landed(self, partition: _Partition, group: _Group, sent: asyncio.Future[Any]) -> None:
        partition.flying = False
        self._sent_at.popleft()
        self._wanted.set()
        self._landing.set()
        if sent.cancelled():
            return
        fault = sent.exception()
        if fault is not None:
            # Nobody may go on with an attempt that is not written down; ``work`` ends the process.
            self._fault = fault
            return
        self._remember(partition, sent.result().offset, max(mark.offset for mark in group.marks))
        if not group.acknowledged.done():
            group.acknowledged.set_result(None)

    def _group(self, number: int) -> _Group:
        partition = self._partitions.get(number)
        if partition is None:
            partition = self._partitions[number] = _Partition()
        if not partition.waiting or partition.waiting[-1].size > _MOST_BYTES:
            partition.waiting.append(_Group(self._loop.create_future()))
        return partition.waiting[-1]

    # The low-water mark: from where a successor has to read.

    def read_before(self, number: int, offset: int, highest: int) -> None:
        """A record at ``offset``, read back when the partition was taken over, speaks of units up to ``highest``."""
        self._group(number)
        self._remember(self._partitions[number], offset, highest)

    def low_water(self, number: int, needed_from: int) -> int | None:
        """The offset of mail.attempts below which nothing speaks of units at or above ``needed_from`` in mail.outbound.

        None when nothing is known of the partition.
        """
        partition = self._partitions.get(number)
        if partition is None or not partition.spans:
            return None
        spans = partition.spans
        while len(spans) > 1 and spans[0].highest < needed_from:
            spans.popleft()
        return spans[0].first

    def forget(self, numbers: Collection[int]) -> None:
        """The partitions are another's; what waits for them is not written any more."""
        for number in numbers:
            self._partitions.pop(number, None)

    @staticmethod
    def _remember(partition: _Partition, offset: int, highest: int) -> None:
        spans = partition.spans
        if not spans or spans[-1].records >= _GROUPS_PER_SPAN:
            spans.append(_Span(offset, 0, highest))
        span = spans[-1]
        span.records += 1
        span.highest = max(span.highest, highest)
