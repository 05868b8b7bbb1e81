"""What a stage offers to the runner, and what it gets for each record.

A stage takes a record, starts whatever has to be done, and says at some later time that the record is done. Nothing here is
awaited per record and no task is made per record: at a thousand mails a second that alone would cost a tenth of a core.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar, Protocol, TypeAlias

from aiokafka.structs import ConsumerRecord, TopicPartition

from depesche.streams.runner.tracker import CompletionTracker

Record: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"


class Owner(Protocol):
    """Who is told how a flight ends: the runner."""

    def finished(self, flight: Flight) -> None:
        """The record is done."""
        ...

    def failed(self, flight: Flight, fault: Exception) -> None:
        """The record could not be decided, or nothing can be done at all just now."""
        ...


class Flight:
    """One record on its way through a stage, from ``Stage.take`` until ``done`` or ``fail``.

    Attributes:
        record: what was read.
        tenant, unit_id: whom it is about, once the stage knows; for the dead letter, should there be one.
    """

    __slots__ = ("_owner", "record", "tenant", "tracker", "unit_id")

    def __init__(self, record: Record, tracker: CompletionTracker, owner: Owner) -> None:
        self.record = record
        self.tracker = tracker
        self.tenant: str | None = None
        self.unit_id: str | None = None
        self._owner = owner

    @property
    def live(self) -> bool:
        """Whether the record's partition is still ours; if not, its new owner does the work again."""
        return not self.tracker.closed

    @property
    def partition(self) -> TopicPartition:
        """Where the record stands."""
        return TopicPartition(self.record.topic, self.record.partition)

    def done(self) -> None:
        """All that follows from the record is acknowledged: its offset may be committed.

        Raises:
            KeyError: said twice, which is a bug of ours.
        """
        self._owner.finished(self)

    def fail(self, fault: Exception) -> None:
        """Give the record up.

        An infrastructure fault (``guard.is_infrastructure``) ends the process, so that nothing is committed past the
        record. Anything else is the record's own fault: it is buried in ``mail.dead`` and then done.
        """
        self._owner.failed(self, fault)


class Stage(ABC):
    """A stage of the workshop. Attributes: ``name`` (also its consumer group) and the ``topics`` it reads."""

    name: ClassVar[str]
    topics: ClassVar[tuple[str, ...]]

    @abstractmethod
    def take(self, flight: Flight) -> None:
        """Begin with a record. Must not block; whatever it raises counts as ``flight.fail``."""

    async def work(self) -> None:
        """The stage's own long-running part; runs beside the loop until everything in flight has ended.

        If it raises, the process ends.
        """
        await asyncio.Event().wait()

    async def assigned(self, partitions: Collection[TopicPartition]) -> None:  # noqa: B027 - many have nothing to do here
        """Partitions were given to us; no record of them is handed over before this returns."""

    def revoked(self, partitions: Collection[TopicPartition]) -> None:  # noqa: B027 - many have nothing to do here
        """Partitions are about to be taken from us: begin nothing new on them. What ends soon still counts."""

    def waiting(self) -> str | None:
        """Why nothing moves although there is work, when that is as it should be (a scanner is down); else None."""
        return None
