"""The courier stage: takes signed units from mail.outbound and carries each to its host, once as far as anybody can.

What a record is, is decided before anything is done with it (``AttemptMemory.standing``): new, a repetition of what has ended, or
an attempt of ours that died between the final dot and its reply. The last is the only one that may lead to a second copy, and
each is counted. Invariant of the laboratory: copies - 1 <= ambiguous attempts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from typing import ClassVar

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.controls.book import ControlBook
from depesche.analytics.log import client
from depesche.schemas.codec import decode
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import ContentLostError, UndecodableError
from depesche.schemas.records import AttemptPhase, MailUnit, UnitEnvelope
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTBOUND
from depesche.streams.mail.attempt import Finding, Scribe
from depesche.streams.mail.attempt_memory import Known
from depesche.streams.mail.ladder import until
from depesche.streams.runner.parts import until_one_ends
from depesche.streams.runner.runner import Limits, Runner
from depesche.streams.runner.stage import Flight, Stage
from depesche.streams.stages.attempt_log import AttemptLog
from depesche.streams.stages.attempt_recall import AttemptRecall
from depesche.streams.stages.connections import connections
from depesche.streams.stages.content_budget import ContentBudget
from depesche.streams.stages.courier import Gear
from depesche.streams.stages.dispatch import Dispatch
from depesche.streams.stages.errand import Errand
from depesche.streams.stages.hand import Hand
from depesche.streams.stages.memories import Memories
from depesche.streams.stages.pulse import Pulse
from depesche.streams.stages.recorder import Recorder, outcome_partitions, place, sealing
from depesche.streams.stages.shaping_watch import ShapingWatch
from depesche.streams.stages.suppression_check import SuppressionCheck, SuppressionTools
from depesche.streams.stages.terms import Guidance
from depesche.streams.stages.tls_sessions import TLSTally
from depesche.streams.wire.destinations import Destinations, destinations
from depesche.streams.wire.dns import Hosts, Resolver

log = structlog.get_logger(__name__)

_TIDY_SECONDS = 1.0
_CARRY_SECONDS = 15.0
"""A record whose errand takes longer is carried forward, so that a crash repeats little."""
_EARLY_MS = 200
"""A unit that is due so soon is due."""
_SPAN = 200_000
_DRAIN_SECONDS = 10.0


class DeliverStage(Stage):
    """See the module. Made and run by ``Deliver``."""

    name: ClassVar[str] = "deliver"
    topics: ClassVar[tuple[str, ...]] = (OUTBOUND.name,)

    def __init__(
        self, settings: Settings, keyring: Keyring, recall: AttemptRecall, where: Destinations, clock: Clock = now_ms
    ) -> None:
        """Prepare; ``equip`` must follow.

        Args:
            settings: topic names and time scale.
            keyring: opens envelopes.
            recall: reads attempts back.
            where: finds hosts, and what their domains ask of TLS.
            clock: the time in milliseconds.
        """
        self.ambiguous = 0
        self._settings = settings
        self._keyring = keyring
        self._where = where
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._errands: dict[str, Errand] = {}
        self._memories = Memories(settings, recall)
        self._resolving: dict[str, list[Errand]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def equip(self, gear: Gear, committed: Callable[[], dict[TopicPartition, int]]) -> None:
        """Give it its couriers' gear, and who knows what is committed."""
        self._gear = gear
        self._dispatch = Dispatch(gear, self._clock)
        self._committed = committed
        gear.recorder.on_end = self._ended

    # What the runner calls.

    async def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See ``Stage``: nothing is sent before what was sent is known."""
        self._dispatch.abandon()
        self._errands = {key: errand for key, errand in self._errands.items() if errand.live}
        await self._memories.renew(sorted(partition.partition for partition in partitions), self._gear.marks)

    def take(self, flight: Flight) -> None:
        """See ``Stage``."""
        record = flight.record
        if record.value is None:
            raise UndecodableError("a unit without a value")
        if self._gear.hand.postpones(flight, self.take):
            return
        unit = decode(MailUnit, record.value)
        flight.tenant, flight.unit_id = unit.tenant, unit.unit_id
        crashpoint("D1")
        running = self._errands.get(unit.unit_id)
        if running is not None and running.live:
            self._meet(running, unit, flight)
            return
        now = self._loop.time()
        errand = Errand(
            flight.tracker,
            flight,
            unit,
            UnitEnvelope(mail_from="", recipient=""),
            record.partition,
            record.offset,
            now,
            now,
        )
        self._begin(errand)

    def _meet(self, running: Errand, unit: MailUnit, flight: Flight) -> None:
        """Another record of a unit that is under way: its copy, a repetition, or already the next attempt."""
        if unit.attempt > running.unit.attempt:
            running.follower = flight
        elif unit.attempt < running.unit.attempt:
            flight.done()
        elif running.flight is None:
            running.flight = flight
        elif running.stage == "settling":
            # What is written down names the first record; this one will be passed over.
            flight.done()
        else:
            self._gear.recorder.move(running, flight.record.offset, flight)

    def _begin(self, errand: Errand) -> None:
        memory, unit = self._memories.of(errand.partition), errand.unit
        standing = memory.standing(unit.unit_id, unit.attempt, errand.offset)
        if standing == "stale" and errand.flight is not None:
            errand.flight.done()
            return
        self._errands[unit.unit_id] = errand
        try:
            self._open(errand)
        except (ContentLostError, UndecodableError) as fault:
            if standing == "new":
                self._gear.recorder.fail(errand, fault.code, fault)
                return
        self._go_on(errand, standing, memory.known(unit.unit_id))

    def _open(self, errand: Errand) -> None:
        unit = errand.unit
        key = self._keyring.key(unit.key_id)
        errand.envelope = decode(UnitEnvelope, key.open(unit.sealed_envelope, b"unit|" + unit.unit_id.encode()))

    def _go_on(self, errand: Errand, standing: str, known: Known | None) -> None:
        recorder = self._gear.recorder
        on_the_ladder = self._memories.on_the_ladder(errand.partition)
        if standing == "told" and known is not None and known.event is not None:
            recorder.tell_again(errand, known.event, on_the_ladder)
        elif standing == "ambiguous":
            log.warning("attempt_ambiguous", unit_id=errand.unit.unit_id, attempt=errand.unit.attempt)
            text = "A courier ended between the final dot and its reply."
            recorder.settle(errand, Finding("dot", text=text, ambiguous=True, recipient=errand.recipient))
        elif standing == "rerouted":
            self._gear.hand.tell_again(errand, on_the_ladder)
        elif standing == "parked" and place(errand.unit, errand.offset) in on_the_ladder:
            recorder.leave(errand, AttemptPhase.PARKED)
        elif standing == "parked":
            self._dispatch.park(errand)
        else:
            self._send_off(errand)

    def _send_off(self, errand: Errand) -> None:
        unit, now = errand.unit, self._clock()
        if self._gear.check.unfit(errand) or self._gear.hand.meets(errand):
            return
        if now >= unit.expires_at:
            self._gear.recorder.expire(errand, "")
        elif unit.due_at > now + _EARLY_MS:
            self._gear.recorder.park(errand, until(unit.due_at, now, self._settings.deliver.time_scale), "scheduled")
        elif not self._gear.check.meets(errand):
            hosts = self._where.known_hosts(unit.recipient_domain)
            if hosts is not None:
                self._admit(errand, hosts)
            else:
                self._resolve(errand)

    def _resolve(self, errand: Errand) -> None:
        domain = errand.unit.recipient_domain
        waiting = self._resolving.get(domain)
        if waiting is not None:
            waiting.append(errand)
            return
        self._resolving[domain] = [errand]
        task = asyncio.ensure_future(self._resolved(domain))
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    async def _resolved(self, domain: str) -> None:
        try:
            hosts = await self._where.mail_hosts(domain)
        finally:
            waiting = self._resolving.pop(domain)
        for errand in waiting:
            if errand.live:
                self._admit(errand, hosts)

    def _admit(self, errand: Errand, hosts: Hosts) -> None:
        if hosts.verdict == "found":
            self._dispatch.add(errand, hosts)
            return
        errand.begun = self._loop.time()
        finding = Finding("dns", 0, hosts.enhanced, hosts.reason, recipient=errand.recipient)
        self._gear.recorder.settle(errand, finding)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if isinstance(fault, Exception):
            self._gear.end(fault)

    # The end of errands.

    def _ended(self, errand: Errand, phase: AttemptPhase) -> None:
        unit = errand.unit
        if self._errands.get(unit.unit_id) is errand:
            del self._errands[unit.unit_id]
        if phase is AttemptPhase.AMBIGUOUS:
            self.ambiguous += 1
        if errand.live:
            known = Known(unit.attempt, phase, errand.offset, settled=True)
            self._memories.learn(errand.partition, unit.unit_id, known)
        if errand.follower is not None and errand.follower.live:
            self.take(errand.follower)

    async def work(self) -> None:
        """See ``Stage``."""
        gear = self._gear
        await until_one_ends(
            gear.marks.work(),
            gear.recorder.work(),
            gear.pulse.run(),
            gear.hand.watch(),
            gear.sessions.work(),
            self._tidy_often(),
        )

    async def _tidy_often(self) -> None:
        while True:
            await asyncio.sleep(_TIDY_SECONDS)
            self._dispatch.tidy()
            self._gear.hand.sweep(self._dispatch)
            now = self._loop.time()
            for errand in self._errands.values():
                if now - errand.carried_at > _CARRY_SECONDS and errand.stage != "settling" and errand.live:
                    errand.carried_at = now
                    self._gear.recorder.carry_forward(errand)
            await self._memories.move_low_waters(self._committed(), self._gear.marks)

    def waiting(self) -> str | None:
        """See ``Stage``."""
        return "the log does not acknowledge" if self._gear.marks.stalled else None

    async def stop(self) -> None:
        """End everything that is under way; what has no dot yet is not sent."""
        for task in self._tasks:
            task.cancel()
        self._gear.hand.stop()
        self._gear.check.stop()
        await self._dispatch.stop()
        await self._gear.sessions.flush()


class Deliver:
    """The courier service (``schemas.service.Service``)."""

    name = "deliver"

    def __init__(
        self,
        settings: Settings,
        keyring: Keyring,
        archive_reader: ArchiveReader,
        member: str,
        resolver: Resolver | None = None,
        controls: ControlBook | None = None,
        suppression: SuppressionTools | None = None,
        guidance: Guidance | None = None,
    ) -> None:
        """Prepare to run.

        Args:
            settings: everything that can be set.
            keyring: opens envelopes, seals events.
            archive_reader: where the content lies.
            member: name that this worker keeps over restarts; no other live worker has it.
            resolver: finds hosts; default: one of its own.
            controls: the operator's orders; default: none are ever given.
            suppression: who must not be written to; default: nobody.
            guidance: how to send to whom; default: what the shaping files say.
        """
        self._settings = settings
        self._keyring = keyring
        self._archive = archive_reader
        self._member = member
        self._resolver = resolver
        self._controls = controls or ControlBook(settings)
        self._suppression = suppression
        self._guidance = guidance or Guidance(ShapingWatch(settings).of)

    async def run(self, ready: Callable[[], None]) -> None:
        """See ``Service``. Raises what made it impossible to go on."""
        settings = self._settings
        producer = client.producer(settings, f"deliver-{self._member}", linger_ms=10)
        recall = AttemptRecall(settings, DeliverStage.name)
        where = destinations(settings, self._resolver)
        async with AsyncExitStack() as open_:
            # All are stopped, also when the service is stopped or fails while they start.
            parts = (producer, recall)
            for part in parts:
                open_.push_async_callback(part.stop)
            if self._resolver is None:
                open_.push_async_callback(where.close)
            for part in parts:
                await part.start()
            stage = DeliverStage(settings, self._keyring, recall, where)
            limits = Limits(in_flight=settings.deliver.in_flight, span=_SPAN, drain_seconds=_DRAIN_SECONDS)
            runner = Runner(settings, stage, producer, self._member, limits)
            gear = await self._gear(producer, runner.end)
            stage.equip(gear, lambda: dict(runner.assignment.committed))
            open_.push_async_callback(stage.stop)
            await runner.run(ready)

    async def _gear(self, producer: AIOKafkaProducer, end: Callable[[Exception], None]) -> Gear:
        settings, worker = self._settings, f"deliver-{self._member}"
        deliver, archive, guidance, budget = settings.deliver, self._archive, self._guidance, ContentBudget()
        marks = AttemptLog(settings, producer, worker)
        scribe = Scribe(deliver, worker, sealing(self._keyring), shapes=guidance.shapes)
        recorder = Recorder(settings, marks, producer, scribe, await outcome_partitions(settings))
        sessions = TLSTally(settings, producer, worker)
        ways = connections(settings, sessions, guidance.own, guidance.warming)
        hand = Hand(self._controls, recorder, end, deliver.time_scale)
        check = SuppressionCheck(self._suppression, recorder, end, worker)
        return Gear(deliver, ways, archive, budget, marks, recorder, Pulse(), hand, end, sessions, check, guidance)
