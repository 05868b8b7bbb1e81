"""The one agent on mail.outcomes: reads each outcome once and hands it to every fold.

A pass through a Faust agent costs more than most folds do, so there is one agent for all of them and not one agent each. It
does what every fold needs: decode, pass over an event that stands in the log twice because a courier said it again after a
kill (``recent``), and leave the process at once when something is wrong with us, because Faust acknowledges an event whose
agent raised. What a fold must do itself is to recognise the events that its table already holds (``Fold.take``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import faust
import structlog

from depesche.analytics.log.client import full_name
from depesche.schemas.codec import event_from
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import MailEvent
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTCOMES
from depesche.streams.agents.app import die
from depesche.streams.agents.recent import RecentEvents, read_back

log = structlog.get_logger(__name__)


class Fold(Protocol):
    """State from outcomes."""

    async def take(self, event: MailEvent, partition: int, offset: int) -> None:
        """Count one outcome in. Called in the order of each partition; never twice in a row, but again after a kill.

        Faust's changelog runs ahead of its committed offsets, so a fold sees events again whose effect its table already
        holds. Every table value therefore carries the offset it was last changed by, and the fold skips what is not newer.

        Args:
            event: the outcome.
            partition, offset: where it stands in mail.outcomes.

        Raises:
            Exception: it could not be counted; the process ends before the event is acknowledged.
        """
        ...


@runtime_checkable
class Beginning(Protocol):
    """A fold that must know where a partition begins, because what it does depends on the records before."""

    async def begin(self, partition: int, offset: int) -> None:
        """The next outcome of ``partition`` is the one at ``offset``: just started, or the partition has come back."""
        ...


class Outcomes:
    """The agent. ``processed`` counts the events that it was given, repetitions included."""

    def __init__(self, app: faust.App, settings: Settings, folds: Sequence[Fold]) -> None:
        """Register with ``app``; every event goes to the ``folds`` in their order."""
        self.processed = 0
        self._settings = settings
        self._folds = tuple(folds)
        self._source = full_name(settings.kafka, OUTCOMES.name)
        self._next: dict[int, int] = {}
        self._recent: dict[int, RecentEvents] = {}
        source = app.topic(self._source, value_serializer="raw", key_serializer="raw")
        app.agent(source, name="outcomes", concurrency=1)(self._listen)

    async def _listen(self, stream: Any) -> None:
        async for event in stream.events():
            try:
                await self._take(event.value, event.message.partition, event.message.offset)
            except UndecodableError as fault:
                # The sink buries the same record with its bytes; passing over it here is all that is left to do.
                log.error(
                    "outcome_unreadable",
                    partition=event.message.partition,
                    offset=event.message.offset,
                    cause=str(fault),
                )
            except Exception as fault:  # Anything else is ours: leave before Faust acknowledges the event.
                die("an outcome could not be taken", fault)

    async def _take(self, value: bytes, partition: int, offset: int) -> None:
        if self._next.get(partition) != offset:
            # Just started, or the partition has come back: what stands before this record decides what is a repetition.
            self._recent[partition] = await read_back(self._settings, self._source, partition, offset)
            for fold in self._folds:
                if isinstance(fold, Beginning):
                    await fold.begin(partition, offset)
        self._next[partition] = offset + 1
        event = event_from(value)
        self.processed += 1
        if self._recent[partition].seen(event.event_id):
            return
        for fold in self._folds:
            await fold.take(event, partition, offset)
