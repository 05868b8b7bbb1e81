"""The hallway behind both doors: check, archive, publish with full acknowledgement, then and only then say yes.

Design section 5.1. The order cannot lose: the content is durable in the archive before the job record exists, and the
record is acknowledged by all in-sync replicas before the caller hears a yes. What dies in between leaves an entry of the
archive that nobody refers to, which the audit tells from a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.directory.directory import Directory
from depesche.analytics.log.client import acknowledged, full_name
from depesche.api.idempotency import COUNT_HEADER, IdempotencyIndex, Remembered
from depesche.api.log_watch import watch_log
from depesche.api.submission import Content, Receipt, Submission
from depesche.schemas import cloudevents
from depesche.schemas.canonical import body_sha256
from depesche.schemas.codec import encode
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import ForbiddenSenderError, InvalidRequestError, LogUnavailableError, OverloadError
from depesche.schemas.identity import new_job_id
from depesche.schemas.records import ArchiveRef, Job, JobEnvelope, JobMessage
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import JOBS, KEYED_JOBS, job_partition, partition_of

log = structlog.get_logger(__name__)

HOUR_MS = 3_600_000


class Archive(Protocol):
    """The part of the archive that the hallway needs."""

    async def put(self, tenant: str, contents: list[bytes]) -> list[ArchiveRef]:
        """Store contents durably; one reference each."""
        ...


class Hallway:
    """Accepts submissions. ``ready`` tells the doors whether to greet at all."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        keyring: Keyring,
        archive: Archive,
        producer: AIOKafkaProducer,
        index: IdempotencyIndex,
        clock: Clock = now_ms,
    ) -> None:
        self.ready = False
        self._settings = settings
        self._directory = directory
        self._keyring = keyring
        self._archive = archive
        self._producer = producer
        self._index = index
        self._clock = clock
        self._partitions: dict[str, int] = {}
        self._probing: asyncio.Task[None] | None = None
        self._accepting: set[asyncio.Task[Receipt]] = set()

    async def start(self) -> None:
        """Learn the log's shape and begin to watch whether it can be written."""
        for topic in (JOBS, KEYED_JOBS):
            name = full_name(self._settings.kafka, topic.name)
            self._partitions[topic.name] = len(await self._producer.partitions_for(name))
        self.ready = True
        self._probing = asyncio.create_task(watch_log(self._producer, self), name="log-watch")

    async def stop(self) -> None:
        """Let what is being accepted end, then stop."""
        if self._accepting:
            await asyncio.wait(self._accepting, timeout=self._settings.kafka.deadline_seconds)
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing

    async def submit(self, submission: Submission) -> Receipt:
        """Take a job for good.

        The work goes on when the caller is cancelled (its client hung up): a record is then whole or absent, never half.

        Raises:
            Outage: nothing was promised; 451 or 503. After ``LogUnavailableError`` the record may still appear.
            Refusal: the sender is not registered (any more), or the idempotency key belongs to another request.
        """
        if not self.ready:
            raise LogUnavailableError("the log cannot be written just now")
        self._check(submission)
        task = asyncio.ensure_future(
            self._once(submission) if submission.idempotency_key else self._accept(submission, None)
        )
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        return await asyncio.shield(task)

    def _check(self, submission: Submission) -> None:
        if not submission.recipients or not submission.messages:
            raise InvalidRequestError("no recipient or no message")
        if self._directory.sender_domain(submission.sender_domain, submission.tenant, submission.account) is None:
            raise ForbiddenSenderError(f"{submission.sender_domain} is not registered for {submission.account}")

    async def _once(self, submission: Submission) -> Receipt:
        assert submission.idempotency_key is not None
        scoped = self._index.scoped(submission.account, submission.idempotency_key)
        known = self._index.find(scoped, submission.fingerprint or "")
        if known is not None:
            return Receipt(known.job_id, known.received_at, known.units, replayed=True)
        if not self._index.begin(scoped):
            raise OverloadError("same key still running", public="A request with this Idempotency-Key is still running")
        accepted: Remembered | None = None
        try:
            receipt = await self._accept(submission, scoped)
            accepted = Remembered(receipt.job_id, receipt.received_at, receipt.units, submission.fingerprint or "")
            return receipt
        finally:
            self._index.end(scoped, accepted)

    async def _accept(self, submission: Submission, scoped_key: str | None) -> Receipt:
        received_at = self._clock()
        job_id = new_job_id(received_at)
        crashpoint("A1")
        messages = await self._archived(submission)
        crashpoint("A2")
        job = self._job(submission, job_id, received_at, messages, scoped_key)
        await self._publish(job, len(submission.recipients))
        crashpoint("A4")
        return Receipt(job_id, received_at, len(submission.recipients))

    async def _archived(self, submission: Submission) -> tuple[JobMessage, ...]:
        """Store every distinct part once."""
        places: dict[int, int] = {}
        parts: list[bytes] = []
        for message in submission.messages:
            for part in message.parts:
                if id(part) not in places:
                    places[id(part)] = len(parts)
                    parts.append(part)
        refs = await self._archive.put(submission.tenant, parts)
        hashes: dict[int, bytes] = {}
        return tuple(
            _described(message, tuple(refs[places[id(part)]] for part in message.parts), hashes)
            for message in submission.messages
        )

    def _job(
        self,
        submission: Submission,
        job_id: str,
        received_at: int,
        messages: tuple[JobMessage, ...],
        scoped_key: str | None,
    ) -> Job:
        envelope = JobEnvelope(
            mail_from=submission.mail_from,
            header_from=submission.header_from,
            subject=submission.subject[:998],
            client=submission.client,
            recipients=submission.recipients,
            notification=submission.notification,
        )
        key = self._keyring.today(submission.tenant)
        return Job(
            job_id=job_id,
            tenant=submission.tenant,
            account=submission.account,
            interface=submission.interface,
            received_at=received_at,
            expires_at=submission.expires_at or received_at + self._lifetime_ms(submission.account),
            sender_domain=submission.sender_domain,
            messages=messages,
            smtputf8=submission.smtputf8,
            reference_job=submission.reference_job,
            cost_center=submission.cost_center,
            campaign_id=submission.campaign_id,
            idempotency_key=scoped_key,
            fingerprint=submission.fingerprint,
            key_id=key.id,
            sealed_envelope=key.seal(encode(envelope), b"job|" + job_id.encode()),
        )

    def _lifetime_ms(self, account_id: str) -> int:
        found = self._directory.book.account(account_id)
        hours = found[1].expiry_hours if found and found[1].expiry_hours else self._settings.deliver.lifetime_hours
        return int(hours * HOUR_MS)

    async def _publish(self, job: Job, units: int) -> None:
        topic = KEYED_JOBS if job.idempotency_key else JOBS
        count = self._partitions[topic.name]
        partition = (
            partition_of(job.idempotency_key, count) if job.idempotency_key else job_partition(job.job_id, count)
        )
        headers = cloudevents.headers(job.job_id, "email.job", job.job_id, job.received_at)
        try:
            sent = await self._producer.send(
                full_name(self._settings.kafka, topic.name),
                encode(job),
                key=(job.idempotency_key or job.job_id).encode(),
                partition=partition,
                headers=[*headers, (COUNT_HEADER, str(units).encode())],
            )
            crashpoint("A3")
            await acknowledged(sent, self._settings.kafka.deadline_seconds)
        except LogUnavailableError:
            self.ready = False
            log.warning("accept_ambiguous", job_id=job.job_id)
            raise
        except KafkaError as fault:
            self.ready = False
            raise LogUnavailableError(f"the log refused the job: {type(fault).__name__}") from fault


def _described(message: Content, refs: tuple[ArchiveRef, ...], hashes: dict[int, bytes]) -> JobMessage:
    last = message.parts[-1]
    if len(message.parts) == 2 and len(message.parts[0]) == message.header_size:
        # A body shared by many messages is hashed once.
        digest = hashes.get(id(last)) or hashes.setdefault(id(last), body_sha256(last))
    else:
        digest = body_sha256(b"".join(message.parts)[message.header_size :])
    return JobMessage(
        content=refs,
        header_size=message.header_size,
        size=sum(map(len, message.parts)),
        body_sha256=digest,
        message_id=message.message_id,
        leading_dots=_leading_dots(message),
        eight_bit=not all(part.isascii() for part in message.parts),
    )


def _leading_dots(message: Content) -> bool:
    if message.leading_dots is not None:
        return message.leading_dots
    return any(part.startswith(b".") or b"\n." in part for part in message.parts)
