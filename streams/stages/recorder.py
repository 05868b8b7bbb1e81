"""Tells the log how an errand ended, in the one order that leaves each unit one end, whatever dies in between.

First the attempt's own end, with the event that will tell it, to mail.attempts; when that is acknowledged, the event to
mail.outcomes and a unit that is tried again to its rung of the ladder; when those are, the offset may be committed. Killed before
the first, nobody was told anything and the attempt counts as ambiguous; killed later, the successor finds the very event and
tells it again, byte for byte. The other order, event first, could tell two different ends of one attempt.

While the log cannot be reached everything waits here, in memory; producers try for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.log import meters
from depesche.analytics.log.client import full_name
from depesche.analytics.log.topics import partition_counts
from depesche.schemas import cloudevents
from depesche.schemas.codec import encode, event_from
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import SetupError
from depesche.schemas.records import AttemptPhase, CancelledDetail, EventType, MailEvent, MailUnit, Personal
from depesche.schemas.reply_classes import ReplyClass
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ATTEMPTS, EVENTS, NOW, OUTBOUND, OUTCOME_TYPES, OUTCOMES, RETRY, partition_of
from depesche.streams.mail.attempt import Conclusion, Dropping, Finding, Scribe, Seal, next_form, rerouted_form
from depesche.streams.mail.ladder import NextTry, rung_of
from depesche.streams.mail.reply import Judgement
from depesche.streams.mail.route import with_pool
from depesche.streams.runner.stage import Flight
from depesche.streams.stages.attempt_log import AttemptLog
from depesche.streams.stages.errand import Errand

Ended = Callable[[Errand, AttemptPhase], None]
WHY = "why"
"""Header of a unit on the ladder that waits there for another reason than a reply."""


@dataclass(slots=True)
class _Telling:
    """What is still to be said about an errand whose end is written down."""

    errand: Errand
    phase: AttemptPhase
    event: MailEvent | None
    event_bytes: bytes
    next_unit: MailUnit | None
    next_try: NextTry | None
    fault: Exception | None = None
    why: str = ""
    unacknowledged: int = 0


class Recorder:
    """The way of all errands back into the log."""

    def __init__(
        self,
        settings: Settings,
        log: AttemptLog,
        producer: AIOKafkaProducer,
        scribe: Scribe,
        partitions: int,
        clock: Clock = now_ms,
    ) -> None:
        """Prepare to record.

        Args:
            settings: topic names.
            log: takes the marks.
            producer: a started producer for events and units.
            scribe: writes the conclusions.
            partitions: partitions of mail.outcomes, and of mail.events.
            clock: the time in milliseconds.
        """
        self.on_end: Ended = lambda errand, phase: None
        self._kafka = settings.kafka
        self._deliver = settings.deliver
        self._log = log
        self._producer = producer
        self._scribe = scribe
        self._partitions = partitions
        self._clock = clock
        self._told: deque[_Telling] = deque()
        self._wanted = asyncio.Event()
        self._fault: BaseException | None = None

    # What errands come to.

    def settle(self, errand: Errand, finding: Finding) -> Judgement | None:
        """An attempt ended with ``finding``; gives what that was taken to mean."""
        conclusion = self._scribe.conclude(errand.unit, finding, self._clock())
        if conclusion.judgement is not None and conclusion.judgement.reply_class == ReplyClass.UNCLASSIFIED:
            meters.count("mail_replies_unclassified_total", provider=errand.unit.provider)
        phase = AttemptPhase.AMBIGUOUS if finding.ambiguous else AttemptPhase.FINISHED
        self._write_down(errand, phase, conclusion)
        return conclusion.judgement

    def fail(self, errand: Errand, code: str, fault: Exception) -> None:
        """A unit cannot be processed for the reason ``code``: it ends as failed, and its record is buried with ``fault``."""
        event = self._scribe.failed(errand.unit, code, "deliver", errand.recipient, self._clock())
        self._write_down(errand, AttemptPhase.FINISHED, Conclusion(event), fault)

    def cancel(self, errand: Errand, detail: CancelledDetail) -> None:
        """A unit ends as cancelled, by the order that ``detail`` names."""
        event = self._scribe.cancelled(errand.unit, detail, errand.recipient, self._clock())
        self._write_down(errand, AttemptPhase.FINISHED, Conclusion(event))

    def drop(self, errand: Errand, dropping: Dropping) -> None:
        """A unit ends as dropped, because its recipient is not to be written to."""
        event = self._scribe.dropped(errand.unit, dropping, errand.recipient, self._clock())
        self._write_down(errand, AttemptPhase.FINISHED, Conclusion(event))

    def expire(self, errand: Errand, reason: str) -> None:
        """A unit has no time left to be tried again; ``reason`` is told as if it were a reply."""
        self.settle(errand, Finding("", 0, "4.4.7", reason, recipient=errand.recipient))

    def park(self, errand: Errand, next_try: NextTry, why: str = "") -> None:
        """A unit was not tried and waits on the ladder; that is no attempt and no event.

        Args:
            errand: the unit.
            next_try: where it waits, and until when.
            why: for the operator who looks into the queue, such as ``suspended`` and the order's id.
        """
        errand.stage = "settling"
        telling = _Telling(errand, AttemptPhase.PARKED, None, b"", errand.unit, next_try, why=why)
        written = self._log.append(errand.partition, errand.mark(AttemptPhase.PARKED))
        written.add_done_callback(partial(self._written_down, telling))

    def reroute(self, errand: Errand, pool: str, on_the_ladder: set[str] | None = None) -> None:
        """A unit goes on by another pool, as its next attempt; this one ends here without an event.

        Args:
            errand: the unit.
            pool: the pool that takes it.
            on_the_ladder: ``place`` of each unit that is known to be there already; given where its end is written down.
        """
        errand.stage = "settling"
        unit = rerouted_form(errand.unit, with_pool(errand.unit.route, pool))
        telling = _Telling(errand, AttemptPhase.REROUTED, None, b"", unit, NextTry(NOW, self._clock()), why="rerouted")
        if on_the_ladder is None:
            written = self._log.append(errand.partition, errand.mark(AttemptPhase.REROUTED))
            written.add_done_callback(partial(self._written_down, telling))
        elif place(unit, errand.offset) in on_the_ladder:
            self.leave(errand, AttemptPhase.REROUTED)
        else:
            self._tell_next(telling)

    def tell_again(self, errand: Errand, event_bytes: bytes, on_the_ladder: set[str]) -> None:
        """The attempt ended before a crash, with the event ``event_bytes``; what follows may be missing.

        Args:
            errand: its unit, read again.
            event_bytes: the event as it was written down.
            on_the_ladder: ``place`` of each unit that is known to be there already.
        """
        errand.stage = "settling"
        event = event_from(event_bytes)
        telling = _Telling(errand, AttemptPhase.FINISHED, event, event_bytes, None, None)
        if event.type is EventType.DEFERRED:
            unit = next_form(errand.unit, event)
            if place(unit, errand.offset) not in on_the_ladder:
                rung = rung_of(unit.due_at - event.occurred_at, self._deliver.time_scale)
                telling.next_unit, telling.next_try = unit, NextTry(rung, unit.due_at)
        self._tell_next(telling)

    # Records that stand for an errand.

    def carry_forward(self, errand: Errand) -> None:
        """Write a younger copy of the record of an errand that takes long, so that its offset holds up nobody.

        The committed offset is the lowest unfinished one. One far side that takes ten minutes for a reply would let a crash
        repeat ten minutes of everybody's records. The copy is recognised when it comes: the errand is under way.
        """
        if errand.flight is not None and not errand.carrying:
            errand.carrying = True
            sending = asyncio.ensure_future(self._carry(errand, errand.flight))
            sending.add_done_callback(self._note_fault)

    async def _carry(self, errand: Errand, flight: Flight) -> None:
        record = flight.record
        topic = full_name(self._kafka, OUTBOUND.name)
        sent = await self._producer.send(
            topic, record.value, key=record.key, partition=errand.partition, headers=list(record.headers)
        )
        copy = await sent
        errand.carrying = False
        if errand.live and errand.stage != "settling" and errand.flight is flight:
            self.move(errand, copy.offset, None)

    def move(self, errand: Errand, offset: int, flight: Flight | None) -> None:
        """From now on the record at ``offset`` stands for the errand; the one before is finished.

        Not at once: the new place must be as well known in mail.attempts as the old one was.
        """
        before, errand.flight, errand.offset = errand.flight, flight, offset
        written = self._log.append(errand.partition, errand.mark(errand.phase))
        if before is not None:
            written.add_done_callback(partial(_finish, before))

    # The order of telling.

    def _write_down(
        self, errand: Errand, phase: AttemptPhase, conclusion: Conclusion, fault: Exception | None = None
    ) -> None:
        errand.stage = "settling"
        event = conclusion.event
        event_bytes = encode(event)
        telling = _Telling(errand, phase, event, event_bytes, conclusion.next_unit, conclusion.next_try, fault)
        written = self._log.append(errand.partition, errand.mark(phase, event.type.value, event_bytes), soon=True)
        written.add_done_callback(partial(self._written_down, telling))

    def _written_down(self, telling: _Telling, written: asyncio.Future[None]) -> None:
        if not written.cancelled() and written.exception() is None and telling.errand.live:
            self._tell_next(telling)

    def _tell_next(self, telling: _Telling) -> None:
        self._told.append(telling)
        self._wanted.set()

    async def work(self) -> None:
        """Tell until cancelled.

        Raises:
            KafkaError: the log refuses for good.
        """
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._fault is not None:
                raise self._fault
            while self._told:
                telling = self._told.popleft()
                if telling.errand.live:
                    await self._tell(telling)

    async def _tell(self, telling: _Telling) -> None:
        event, unit = telling.event, telling.next_unit
        futures: list[asyncio.Future[Any]] = []
        if event is not None:
            topic = OUTCOMES if event.type.value in OUTCOME_TYPES else EVENTS
            futures.append(
                await self._producer.send(
                    full_name(self._kafka, topic.name),
                    telling.event_bytes,
                    key=event.recipient_key.encode(),
                    partition=partition_of(event.recipient_key, self._partitions),
                    headers=cloudevents.of_event(event),
                )
            )
        if unit is not None and telling.next_try is not None:
            futures.append(
                await self._producer.send(
                    full_name(self._kafka, RETRY[telling.next_try.rung].name),
                    encode(unit),
                    key=unit.route.encode(),
                    partition=telling.errand.partition,
                    headers=_ladder_headers(telling, unit, telling.next_try),
                )
            )
        telling.unacknowledged = len(futures)
        for sent in futures:
            sent.add_done_callback(partial(self._acknowledged, telling))

    def _acknowledged(self, telling: _Telling, sent: asyncio.Future[Any]) -> None:
        if self._note_fault(sent):
            return
        telling.unacknowledged -= 1
        if not telling.unacknowledged:
            self._end(telling)

    def _end(self, telling: _Telling) -> None:
        if telling.event is not None:
            crashpoint("D7")
        self.leave(telling.errand, telling.phase, telling.fault)

    def leave(self, errand: Errand, phase: AttemptPhase, fault: Exception | None = None) -> None:
        """All that follows from the errand is in the log: its record is finished, or buried with ``fault``."""
        flight, errand.flight = errand.flight, None
        if flight is not None and fault is not None:
            flight.fail(fault)
        elif flight is not None:
            flight.done()
        self.on_end(errand, phase)

    def _note_fault(self, sent: asyncio.Future[Any]) -> bool:
        """Whether sending failed for good; then ``work`` ends the process, and nothing is committed past it."""
        if sent.cancelled():
            return True
        fault = sent.exception()
        if fault is not None:
            self._fault = fault
            self._wanted.set()
        return fault is not None


def place(unit: MailUnit, offset: int) -> str:
    """Names one stay of a unit on the ladder: before which attempt, and where in mail.outbound it had stood.

    A unit may wait before the same attempt more than once; without the offset an earlier stay would pass for a later one
    that a kill prevented, and the unit would be lost.
    """
    return f"{unit.unit_id}/{unit.attempt}/{offset}"


def _ladder_headers(telling: _Telling, unit: MailUnit, next_try: NextTry) -> list[tuple[str, bytes]]:
    why = [(WHY, telling.why.encode())] if telling.why else []
    return [("due", b"%d" % next_try.due_at), ("unit", place(unit, telling.errand.offset).encode()), *why]


def _finish(flight: Flight, written: asyncio.Future[None]) -> None:
    if not written.cancelled() and written.exception() is None:
        flight.done()


async def outcome_partitions(settings: Settings) -> int:
    """How many partitions mail.outcomes has.

    Raises:
        SetupError: a topic is missing, or one that follows mail.outbound partition by partition has fewer of them.
    """
    followers = (ATTEMPTS, *RETRY.values())
    counts = await partition_counts(settings, OUTBOUND, OUTCOMES, *followers)
    short = [topic.name for topic in followers if counts[topic.name] < counts[OUTBOUND.name]]
    if short:
        raise SetupError(
            f"{', '.join(short)}: fewer partitions than {OUTBOUND.name}",
            fix=f"Add partitions, so that each of them has {counts[OUTBOUND.name]}.",
        )
    return counts[OUTCOMES.name]


def sealing(keyring: Keyring) -> Seal:
    """Seals the personal fields of events with today's key of their tenant."""

    def seal(tenant: str, event_id: str, personal: Personal) -> tuple[str, bytes]:
        key = keyring.today(tenant)
        return key.id, key.seal(encode(personal), b"event|" + event_id.encode())

    return seal
