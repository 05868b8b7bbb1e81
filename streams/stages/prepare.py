"""Prepare: from an accepted job to signed units on their way out.

Four functions in one worker that say four facts (accepted, scanned, signed, or dropped), because a hop between topics costs
more than each of them: expand the job to its recipients, screen, scan, sign. Scanning comes before signing, and infected
content never gets a signature of ours. A job is one decision: a virus in one message discards all of it (mission C1).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.archive.return_keys import return_keys
from depesche.analytics.controls.book import ControlBook
from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.things import OwnedDomain, SigningKey
from depesche.analytics.log.client import full_name, producer
from depesche.analytics.log.topics import partition_counts
from depesche.analytics.suppressions.standing import SUPPRESSION_REASONS
from depesche.schemas import cloudevents
from depesche.schemas.codec import decode, encode
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import ContentLostError, TooLargeError, UndecodableError
from depesche.schemas.records import DropReason, Job, JobEnvelope, JobMessage, MailEvent, MailUnit, SenderDomain
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import (
    EVENTS,
    JOBS,
    KEYED_JOBS,
    OUTBOUND,
    OUTCOME_TYPES,
    OUTCOMES,
    partition_of,
    route_partition,
)
from depesche.schemas.values import Address
from depesche.streams.mail.dkim import Signer
from depesche.streams.mail.front import Front, Fronts, ReturnPath
from depesche.streams.mail.screen import Drop, Sender, role_recipients_of, screen_recipient, screen_sender
from depesche.streams.runner.guard import guarded_await
from depesche.streams.runner.runner import Limits, Runner
from depesche.streams.runner.stage import Flight, Stage
from depesche.streams.runner.turns import Turns
from depesche.streams.stages.budget import Budget
from depesche.streams.stages.hand import CANCEL, ORDER
from depesche.streams.stages.prepared import JobOpened, UnitStory
from depesche.streams.stages.routing import Routing
from depesche.streams.stages.sent_before import SentBefore
from depesche.streams.stages.suppression_check import SUPPRESSED, SuppressionTools
from depesche.streams.wire.engines import engines_of
from depesche.streams.wire.scanning import Finding, Scanners

HELD_BYTES = 128 << 20
"""Content of all jobs under way together."""
IN_FLIGHT = 256
SLICES_PER_TURN = 64
SLICES_BESIDE_COURIERS = 6
"""Few of them slow down preparing, many the couriers in the same loop; see decision 51."""

Sent = asyncio.Future[object]
NOTHING = Front("", b"")
"""In front of a unit that is not fit to be sent."""


@dataclass(frozen=True, slots=True)
class Gear:
    """What the stage works with.

    Attributes:
        keyring: opens jobs, seals what is personal.
        archive: where the content lies.
        directory: customers, accounts, domains and keys.
        scanners: the engines every message must pass.
        out: a started producer for events and units.
        routing: finds the provider of a domain.
        controls: the operator's orders; what is to be dropped is neither scanned nor signed.
        suppression: who must not be written to; None: nobody.
    """

    keyring: Keyring
    archive: ArchiveReader
    directory: Directory
    scanners: Scanners
    out: AIOKafkaProducer
    routing: Routing
    controls: ControlBook
    suppression: SuppressionTools | None = None


class Preparation(Stage):
    """The stage."""

    name = "prepare"
    topics = (JOBS.name, KEYED_JOBS.name)

    def __init__(
        self, settings: Settings, gear: Gear, worker: str, clock: Clock = now_ms, slices: int = SLICES_PER_TURN
    ) -> None:
        """``slices``: how many mails are prepared in a turn of the loop."""
        self._settings = settings
        self._keyring = gear.keyring
        self._archive = gear.archive
        self._directory = gear.directory
        self._scanners = gear.scanners
        self._producer = gear.out
        self._routing = gear.routing
        self._controls = gear.controls
        self._suppression = gear.suppression
        self._worker = worker
        self._clock = clock
        self._budget = Budget(HELD_BYTES)
        self._turns = Turns(slices)
        self._return_path = ReturnPath(return_keys(gear.keyring), settings.returns.domain)
        self._signers: dict[str, tuple[tuple[SigningKey, ...], tuple[Signer, ...]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._partitions: dict[str, int] = {}
        self._sent_before = SentBefore(settings, 0)

    async def start(self) -> None:
        """Learn how many partitions there are to write to."""
        self._partitions = await partition_counts(self._settings, EVENTS, OUTCOMES, OUTBOUND)
        self._sent_before = SentBefore(self._settings, self._partitions[OUTBOUND.name])

    async def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See ``Stage``: whoever had the partitions before may have sent what is not committed."""
        self._sent_before.forget()

    def take(self, flight: Flight) -> None:
        """Begin with a job."""
        if flight.record.value is None:
            raise UndecodableError("a job without a value")
        job = decode(Job, flight.record.value)
        flight.tenant, flight.unit_id = job.tenant, job.job_id
        crashpoint("P1")
        task = asyncio.create_task(guarded_await(flight, self._prepare(flight, job)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def waiting(self) -> str | None:
        """See ``Stage.waiting``."""
        return self._scanners.waiting

    async def _prepare(self, flight: Flight, job: Job) -> None:
        if self._directory.customer(job.tenant) is None or not self._directory.signing_keys(job.sender_domain):
            # The door may have known the newest record of the directory before we did.
            await self._directory.catch_up()
        async with self._turns:
            opened = self._opened(job)
            domain = self._directory.domain(job.sender_domain)
            verdicts = self._screened(opened, domain)
        domains = {verdict.domain for verdict in verdicts if isinstance(verdict, Address)}
        opened = replace(opened, providers=await self._routing.providers_of(domains))
        stories = [UnitStory(opened, number, verdict) for number, verdict in enumerate(verdicts)]
        said = [await self._say(story.accepted()) for story in stories]
        live = [story for story in stories if isinstance(story.verdict, Address)]
        gone = await self._sent_before.of(flight.record)
        for story in stories:
            if isinstance(story.verdict, Drop):
                drop = await self._with_cause(story, story.verdict)
                said.append(await self._say(story.dropped(drop, self._clock())))
        live = [story for story in live if story.unit_id not in gone]
        if domain is not None:
            live = await self._without_dropped(live, domain.value, said)
            live = await self._without_suppressed(live, domain.value, said)
        fault = await self._sent_out(opened, domain, live, said) if live and domain else None
        for sent in said:
            await sent
        if fault is not None:
            # The units have their final state; the dead letter is for the operator.
            raise fault
        crashpoint("P3")
        flight.done()

    async def _without_dropped(self, live: list[UnitStory], sender: SenderDomain, said: list[Sent]) -> list[UnitStory]:
        """Pass on, unsigned and unscanned, what an order drops; gives the rest.

        Not an event from here: a job can be prepared twice, with an order given in between. Only the couriers know what became
        of a unit, so they say how it ended (``hand``).
        """
        rest: list[UnitStory] = []
        for story in live:
            order = self._controls.dropping(story.traits(sender))
            if order is None:
                rest.append(story)
            else:
                marks = [(CANCEL, order.control.control_id.encode()), (ORDER, b"%d" % order.offset)]
                said.append(await self._send(story.unit(NOTHING, sender), marks))
        return rest

    async def _without_suppressed(
        self, live: list[UnitStory], sender: SenderDomain, said: list[Sent]
    ) -> list[UnitStory]:
        """Pass on, unsigned and unscanned, what is suppressed, for the same reason as in ``_without_dropped``; gives the rest."""
        rest: list[UnitStory] = []
        for story in live:
            entry = self._suppression.book.blocking(*story.named) if self._suppression is not None else None
            if entry is None:
                rest.append(story)
            else:
                said.append(await self._send(story.unit(NOTHING, sender), [(SUPPRESSED, encode(entry))]))
        return rest

    async def _with_cause(self, story: UnitStory, drop: Drop) -> Drop:
        """With what the suppression list knows about it, if a door refused the recipient because of the list."""
        if self._suppression is None or drop.reason not in SUPPRESSION_REASONS:
            return drop
        tenant, key, person = story.named
        book = self._suppression.book
        entry = book.blocking(tenant, key, person) or book.entry(tenant, key)
        if entry is None:
            return drop
        await self._suppression.requests.blocked(entry, story.unit_id, self._clock(), self._worker)
        told = self._suppression.dropping(entry, tenant)
        return Drop(drop.reason, told.finding, told.cause_id)

    async def _sent_out(
        self, opened: JobOpened, domain: OwnedDomain | None, live: list[UnitStory], said: list[Sent]
    ) -> ContentLostError | TooLargeError | None:
        """Scan, sign and send the units out; gives the fault that made it impossible."""
        size = sum(message.size for message in opened.job.messages)
        try:
            async with self._budget.of(size):
                headers = await self._passed(opened, live, said)
        except (ContentLostError, TooLargeError) as fault:
            said += [await self._say(story.failed(fault.code, self._clock())) for story in live]
            return fault
        crashpoint("P2")
        if headers is None or domain is None:
            return None
        keys, signers = self._signing(opened.job.sender_domain)
        now = self._clock()
        fronts = Fronts(opened.job, opened.envelope.mail_from, headers, signers, self._return_path, now // 1000)
        for story in live:
            async with self._turns:
                for key in keys:
                    said.append(await self._say(story.signed(key.selector, key.algorithm, now)))
                front = fronts.of(story.recipient.message, story.number)
                shards = self._routing.shards(story.provider)
                said.append(await self._send(story.unit(front, domain.value, shards)))
        return None

    async def _passed(self, opened: JobOpened, live: list[UnitStory], said: list[Sent]) -> dict[int, bytes] | None:
        """Scan every message that somebody would get; their headers by index, or nothing if one is infected."""
        began = time.monotonic()
        headers: dict[int, bytes] = {}
        for index in sorted({story.recipient.message for story in live}):
            content = self._content(opened.job.messages[index])
            found = await self._scanners.verdict(content)
            if found is not None:
                said += [await self._say(self._infected(story, found)) for story in live]
                return None
            headers[index] = content[: opened.job.messages[index].header_size]
        millis, now = round((time.monotonic() - began) * 1000), self._clock()
        said += [await self._say(story.scanned(self._scanners.versions, millis, now)) for story in live]
        return headers

    def _infected(self, story: UnitStory, found: Finding) -> MailEvent:
        return story.dropped(Drop(DropReason.VIRUS_DETECTED, found.name), self._clock(), found.engine)

    def _opened(self, job: Job) -> JobOpened:
        sealed = self._keyring.key(job.key_id).open(job.sealed_envelope, b"job|" + job.job_id.encode())
        secret = self._directory.recipient_secret(job.tenant)
        opened = JobOpened(job, decode(JobEnvelope, sealed), self._keyring.today(job.tenant), secret, self._worker)
        return opened if self._suppression is None else replace(opened, person=self._suppression.book.person)

    def _screened(self, opened: JobOpened, domain: OwnedDomain | None) -> list[Address | Drop]:
        job = opened.job
        found = self._directory.book.account(job.account)
        account = found[1] if found else None
        objection = screen_sender(
            Sender(job.tenant, job.account, self._directory.customer(job.tenant), account, domain)
        )
        if objection is None and not self._directory.signing_keys(job.sender_domain):
            objection = Drop(DropReason.FORBIDDEN_SENDER, "the sender domain has no active DKIM key")
        roles = role_recipients_of(account)
        return [objection or screen_recipient(recipient, roles) for recipient in opened.envelope.recipients]

    def _signing(self, domain: str) -> tuple[tuple[SigningKey, ...], tuple[Signer, ...]]:
        keys = self._directory.signing_keys(domain)
        kept = self._signers.get(domain)
        if kept is None or kept[0] is not keys:
            kept = (keys, tuple(Signer(key.selector, domain, key.private_key) for key in keys))
            self._signers[domain] = kept
        return kept

    def _content(self, message: JobMessage) -> bytes:
        if len(message.content) == 1:
            return self._archive.get(message.content[0])
        return b"".join(self._archive.get(ref) for ref in message.content)

    async def _say(self, event: MailEvent) -> Sent:
        topic = OUTCOMES if event.type.value in OUTCOME_TYPES else EVENTS
        sent: Sent = await self._producer.send(
            full_name(self._settings.kafka, topic.name),
            encode(event),
            key=event.recipient_key.encode(),
            partition=partition_of(event.recipient_key, self._partitions[topic.name]),
            headers=cloudevents.of_event(event),
        )
        return sent

    async def _send(self, unit: MailUnit, marks: Sequence[tuple[str, bytes]] = ()) -> Sent:
        named = cloudevents.headers(unit.unit_id, "email.unit", unit.unit_id, unit.accepted_at, unit.traceparent)
        sent: Sent = await self._producer.send(
            full_name(self._settings.kafka, OUTBOUND.name),
            encode(unit),
            key=unit.route.encode(),
            partition=route_partition(unit.route, self._partitions[OUTBOUND.name]),
            headers=[*named, *marks],
        )
        return sent


@dataclass(frozen=True, slots=True)
class Barriers:
    """What may keep a unit from going out.

    Attributes:
        controls: the operator's orders.
        suppression: who must not be written to; None: nobody.
    """

    controls: ControlBook
    suppression: SuppressionTools | None = None


class Prepare:
    """The stage as a service, with its own producer and scanners."""

    name = "prepare"

    def __init__(
        self,
        settings: Settings,
        keyring: Keyring,
        archive: ArchiveReader,
        directory: Directory,
        member: str,
        routing: Routing,
        barriers: Barriers | None = None,
        *,
        beside_couriers: bool = False,
    ) -> None:
        """Prepare to run.

        Args:
            settings, keyring, archive, directory, routing: see ``Gear``.
            member: name that this worker keeps over restarts; no other live worker has it.
            barriers: what may keep a unit here; default: nothing.
            beside_couriers: whether couriers share the loop, which must then get their turns.
        """
        self._slices = SLICES_BESIDE_COURIERS if beside_couriers else SLICES_PER_TURN
        self._settings = settings
        self._keyring = keyring
        self._archive = archive
        self._directory = directory
        self._member = member
        self._routing = routing
        self._barriers = barriers or Barriers(ControlBook(settings))

    async def run(self, ready: Callable[[], None]) -> None:
        """See ``schemas.service.Service``."""
        engines = engines_of(self._settings.scan)
        out = producer(self._settings, f"prepare-{self._member}", linger_ms=10)
        await out.start()
        try:
            gear = Gear(
                self._keyring,
                self._archive,
                self._directory,
                Scanners(engines),
                out,
                self._routing,
                self._barriers.controls,
                self._barriers.suppression,
            )
            stage = Preparation(self._settings, gear, f"prepare-{self._member}", slices=self._slices)
            await stage.start()
            await Runner(self._settings, stage, out, self._member, Limits(in_flight=IN_FLIGHT)).run(ready)
        finally:
            await out.stop()
