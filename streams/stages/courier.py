"""A courier: one task with one connection, that carries one unit after the other of its lane."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from depesche.analytics.archive.reader import ArchiveReader
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import ContentLostError
from depesche.schemas.records import AttemptPhase
from depesche.schemas.settings import DeliverSettings
from depesche.streams.mail.reply import Judgement
from depesche.streams.runner.guard import is_infrastructure
from depesche.streams.stages.attempt_log import AttemptLog
from depesche.streams.stages.connections import NO_ROOM, Connections
from depesche.streams.stages.content_budget import ContentBudget
from depesche.streams.stages.errand import Errand
from depesche.streams.stages.hand import Hand
from depesche.streams.stages.lane import Lane
from depesche.streams.stages.pulse import Pulse
from depesche.streams.stages.recorder import Recorder
from depesche.streams.stages.suppression_check import SuppressionCheck
from depesche.streams.stages.terms import Guidance, RouteTerms
from depesche.streams.stages.tls_sessions import TLSTally
from depesche.streams.wire.smtp import Answer, SMTPConnection
from depesche.streams.wire.smtp_encode import Envelope, UnsendableError, content

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gear:
    """What couriers share.

    Attributes:
        settings: waits and limits.
        connections: opens them.
        archive: where the content lies.
        budget: how much content may be in memory.
        marks: where attempts are written ahead.
        recorder: where they end.
        pulse: whether we still are who we think.
        hand: what the operator has ordered.
        end: ends the process with a fault that is nobody's mail's.
        sessions: counts how connections ended with regard to TLS.
        check: who must not be written to.
        guidance: how to send to whom.
    """

    settings: DeliverSettings
    connections: Connections
    archive: ArchiveReader
    budget: ContentBudget
    marks: AttemptLog
    recorder: Recorder
    pulse: Pulse
    hand: Hand
    end: Callable[[Exception], None]
    sessions: TLSTally
    check: SuppressionCheck
    guidance: Guidance


class Base(Protocol):
    """Where couriers come from and go to: the route."""

    def left(self, courier: Courier) -> None:
        """The courier has ended."""
        ...

    def not_opened(self, courier: Courier, errand: Errand, answer: Answer) -> None:
        """No connection could be had for the errand; the courier ends."""
        ...

    def no_room(self, courier: Courier, errand: Errand) -> None:
        """No own address may send the errand today; the courier ends."""
        ...

    def learn(self, judgement: Judgement | None, code: int) -> None:
        """An attempt ended like this, with this reply code."""
        ...

    @property
    def suspended(self) -> bool:
        """Whether nobody may try the route now."""
        ...

    @property
    def terms(self) -> RouteTerms:
        """What holds for the route."""
        ...

    def should_leave(self, courier: Courier) -> bool:
        """Whether another lane of the route needs the connection more."""
        ...


class Courier:
    """Carries units until its lane is empty for a while, its connection was refused, or its base needs its place."""

    def __init__(self, lane: Lane, base: Base, gear: Gear) -> None:
        self.lane = lane
        self.errand: Errand | None = None
        self._base = base
        self._gear = gear
        self._loop = asyncio.get_running_loop()
        self._connection: SMTPConnection | None = None
        self._called: asyncio.Future[bool] | None = None
        self.task = asyncio.ensure_future(self._run())
        self.task.add_done_callback(self._ended)

    @property
    def connected(self) -> bool:
        """Whether it has a connection."""
        return self._connection is not None

    def call(self, *, leave: bool = False) -> None:
        """Wake an idle courier: there is work, or it has to leave."""
        if self._called is not None and not self._called.done():
            self._called.set_result(leave)

    async def _run(self) -> None:
        try:
            while (errand := await self._next()) is not None:
                self.errand = errand
                self.lane.under_way += 1
                try:
                    stays = await self._guarded(errand)
                finally:
                    self.lane.under_way -= 1
                    self.errand = None
                if not stays or self._base.should_leave(self):
                    return
        finally:
            if self._connection is not None:
                self._connection.quit()
            self._base.left(self)

    def _ended(self, task: asyncio.Task[None]) -> None:
        fault = None if task.cancelled() else task.exception()
        if isinstance(fault, Exception):
            self._gear.end(fault)

    async def _next(self) -> Errand | None:
        """The next unit of the lane when it may go; None when none came for a while, or none may go."""
        lane, base = self.lane, self._base
        while not base.suspended:
            if not lane.queue:
                if self._connection is None or await self._idle():
                    # Nobody calls in between, but work may have come in the very moment in which the time was up.
                    return lane.queue.pop() if lane.queue and base.terms.turnstile.passes() else None
            elif base.terms.turnstile.passes():
                return lane.queue.pop()
            else:
                await base.terms.turnstile.turn()
                if lane.queue and not base.suspended:
                    return lane.queue.pop()
        return None

    async def _idle(self) -> bool:
        """Wait for a call; whether it is time to leave."""
        self._called = self._loop.create_future()
        self.lane.idle.append(self)
        try:
            async with asyncio.timeout(self._gear.settings.idle_seconds):
                return await self._called
        except TimeoutError:
            return True
        finally:
            self._called = None
            if self in self.lane.idle:
                self.lane.idle.remove(self)

    async def _guarded(self, errand: Errand) -> bool:
        try:
            return await self._carry(errand)
        except (ContentLostError, UnsendableError) as fault:
            self._gear.recorder.fail(errand, fault.code, fault)
        except Exception as fault:  # The guard: a bug that one mail wakes must end that mail and not the courier.
            if is_infrastructure(fault):
                self._gear.end(fault)
                return False
            log.error("errand_failed", unit_id=errand.unit.unit_id, cause=type(fault).__name__)
            self._gear.recorder.fail(errand, "internal_error", fault)
        self._hang_up()
        return True

    async def _carry(self, errand: Errand) -> bool:
        """Carry one unit; whether the courier stays."""
        gear, unit = self._gear, errand.unit
        await gear.marks.healthy()
        await gear.budget.take(unit.route, unit.size)
        try:
            if not self._may_go_on(errand):
                return False
            if gear.hand.meets(errand):
                return True
            errand.stage, errand.begun = "under way", self._loop.time()
            body = self._content(errand)
            gear.marks.note(errand.partition, errand.mark(AttemptPhase.STARTED))
            crashpoint("D2")
            answer = await self._attempt(errand, body)
        finally:
            gear.budget.give_back(unit.route, unit.size)
        if not self._may_go_on(errand):
            return False
        if answer is NO_ROOM:
            self._base.no_room(self, errand)
            return False
        if self._connection is None and answer.step in ("connect", "banner", "ehlo", "starttls"):
            self._base.not_opened(self, errand, answer)
            return False
        self.lane.moved(self._loop.time())
        if answer.delivered:
            crashpoint("D6")
        self._base.learn(gear.recorder.settle(errand, errand.finding(answer, self._loop.time())), answer.code)
        return True

    def _content(self, errand: Errand) -> bytes:
        unit = errand.unit
        parts = [self._gear.archive.get(ref) for ref in unit.content]
        if sum(map(len, parts)) != unit.size:
            raise ContentLostError(f"the content has {sum(map(len, parts))} bytes, not {unit.size}")
        if unit.signature:
            parts.insert(0, unit.signature)
        return content(parts, leading_dots=unit.leading_dots)

    async def _attempt(self, errand: Errand, body: bytes) -> Answer:
        unit = errand.unit
        envelope = Envelope(
            errand.envelope.mail_from,
            errand.envelope.recipient,
            unit.size + len(unit.signature),
            unit.eight_bit,
            unit.smtputf8,
        )
        before_dot: Callable[[], Awaitable[bool]] = partial(self._before_dot, errand)
        while True:
            connection = await self._connected()
            if isinstance(connection, Answer):
                return connection
            answer = await connection.send(envelope, body, before_dot)
            if not connection.usable:
                self._hang_up()
            # A kept connection that had died says nothing about the mail; a new one cannot be stale.
            if not answer.stale:
                return answer

    async def _connected(self) -> SMTPConnection | Answer:
        connection, terms, ways = self._connection, self._base.terms, self._gear.connections
        if connection is not None:
            has_more = connection.usable and connection.sent < terms.shape.messages_per_connection
            if has_more and ways.may_go_on(connection, terms.pool, terms.provider):
                return connection
            self._hang_up()
        opened = await ways.open(self.lane.hosts, self.lane.tls, terms.pool, terms.provider)
        if isinstance(opened, SMTPConnection):
            self._connection = opened
        return opened

    async def _before_dot(self, errand: Errand) -> bool:
        """Write down that the dot may go out; it must not when that cannot be, or when the unit is another's by now."""
        if not self._may_go_on(errand):
            return False
        errand.phase = AttemptPhase.COMMITTING
        mark = errand.mark(AttemptPhase.COMMITTING)
        await asyncio.shield(self._gear.marks.append(errand.partition, mark))
        crashpoint("D4")
        return self._may_go_on(errand)

    def _may_go_on(self, errand: Errand) -> bool:
        return errand.live and self._gear.pulse.alive

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.quit()
