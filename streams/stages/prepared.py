"""What prepare says about a job: its events and its units, as pure values from the job, the verdicts and a time.

Everything here is deterministic in its ids, so that a job that is prepared twice says the same facts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from depesche.analytics.archive.keyring import DataKey
from depesche.analytics.controls.orders import Traits
from depesche.analytics.directory.pools import pool_name
from depesche.schemas.codec import encode
from depesche.schemas.identity import event_id, recipient_key, unit_id
from depesche.schemas.records import (
    AcceptedDetail,
    DroppedDetail,
    EventType,
    FailedDetail,
    Job,
    JobEnvelope,
    JobMessage,
    JobRecipient,
    MailEvent,
    MailUnit,
    Personal,
    ScannedDetail,
    SenderDomain,
    SignedDetail,
    UnitEnvelope,
)
from depesche.schemas.values import Address
from depesche.streams.mail.front import Front
from depesche.streams.mail.route import route_of, shard_of
from depesche.streams.mail.screen import Drop

SEQUENCE = {
    EventType.ACCEPTED: 10,
    EventType.DROPPED: 20,
    EventType.SCANNED: 20,
    EventType.SIGNED: 40,
    EventType.FAILED: 90,
}
FIRST_ATTEMPT = 1
ATTEMPT_SEQUENCE = 100
Detail = AcceptedDetail | DroppedDetail | ScannedDetail | SignedDetail | FailedDetail


@dataclass(frozen=True, slots=True)
class JobOpened:
    """A job with its envelope, and what is needed to speak about its units.

    Attributes:
        key: seals what is personal; today's key of the tenant.
        secret: the tenant's secret behind the recipient keys.
        worker: who says so.
        providers: mailbox provider of each recipient domain; one that is missing is its own.
        person: names a person for all customers by an address; gives None where suppression is per customer.
    """

    job: Job
    envelope: JobEnvelope
    key: DataKey
    secret: bytes
    worker: str
    providers: Mapping[str, str] = field(default_factory=dict)
    person: Callable[[str], str | None] = lambda _: None


class UnitStory:
    """One recipient of the job, and what can be said about it."""

    def __init__(self, opened: JobOpened, number: int, verdict: Address | Drop) -> None:
        self.recipient: JobRecipient = opened.envelope.recipients[number]
        self.message: JobMessage = opened.job.messages[self.recipient.message]
        self.number = number
        self.unit_id = unit_id(opened.job.job_id, number)
        self.verdict = verdict
        self.recipient_key = recipient_key(opened.secret, self.recipient.address)
        self.person_key = opened.person(self.recipient.address)
        self._opened = opened
        self.domain = verdict.domain if isinstance(verdict, Address) else ""
        self.provider = opened.providers.get(self.domain, self.domain)

    @property
    def named(self) -> tuple[str, str, str | None]:
        """How the suppression list names the recipient: customer number, key, and key of the person."""
        return self._opened.job.tenant, self.recipient_key, self.person_key

    def traits(self, sender: SenderDomain) -> Traits:
        """What an operator's order can be about."""
        job = self._opened.job
        route = route_of(self.provider, sender.pool)
        return Traits(job.tenant, job.account, job.campaign_id, self.provider, self.domain, job.sender_domain, route)

    def accepted(self) -> MailEvent:
        """We have taken it; the one event that carries who and what."""
        job, envelope = self._opened.job, self._opened.envelope
        detail = AcceptedDetail(
            interface=job.interface,
            message_id=self.message.message_id,
            size=self.message.size,
            body_sha256=self.message.body_sha256,
            content=self.message.content,
            block=self.recipient.block,
            reference_job=job.reference_job,
            cost_center=job.cost_center,
            campaign_id=job.campaign_id,
            reference=self.recipient.reference,
            expires_at=job.expires_at,
        )
        personal = Personal(
            recipient=self.recipient.address,
            mail_from=envelope.mail_from,
            header_from=envelope.header_from,
            subject=envelope.subject,
            client=envelope.client,
        )
        return self._event(EventType.ACCEPTED, job.received_at, detail, personal)

    def dropped(self, drop: Drop, now: int, engine: str | None = None) -> MailEvent:
        """It will not be sent."""
        finding = Personal(finding=drop.explanation)
        event = self._event(EventType.DROPPED, now, DroppedDetail(reason=drop.reason, engine=engine), finding)
        return replace(event, cause_id=drop.cause_id)

    def scanned(self, engines: tuple[str, ...], millis: int, now: int) -> MailEvent:
        """All engines passed it."""
        return self._event(EventType.SCANNED, now, ScannedDetail(engines=engines, millis=millis))

    def signed(self, selector: str, algorithm: str, now: int) -> MailEvent:
        """It carries our signature."""
        domain = self._opened.job.sender_domain
        return self._event(EventType.SIGNED, now, SignedDetail(domain=domain, selector=selector, algorithm=algorithm))

    def failed(self, code: str, now: int) -> MailEvent:
        """We cannot process it."""
        return self._event(EventType.FAILED, now, FailedDetail(code=code, stage="prepare"))

    def unit(self, front: Front, sender: SenderDomain, shards: int = 1) -> MailUnit:
        """The unit on its way out, by one of its provider's ``shards``; ``front`` is what only this copy has.

        Raises:
            AssertionError: the unit was dropped, which is a bug of ours.
        """
        assert isinstance(self.verdict, Address)
        job, key = self._opened.job, self._opened.key
        envelope = UnitEnvelope(mail_from=front.mail_from, recipient=str(self.verdict))
        return MailUnit(
            unit_id=self.unit_id,
            job_id=job.job_id,
            tenant=job.tenant,
            account=job.account,
            recipient_key=self.recipient_key,
            route=route_of(self.provider, pool_name(sender.pool), shard_of(self.recipient_key, shards)),
            provider=self.provider,
            sender_domain=job.sender_domain,
            recipient_domain=self.domain,
            accepted_at=job.received_at,
            expires_at=job.expires_at,
            due_at=job.received_at,
            attempt=FIRST_ATTEMPT,
            sequence=ATTEMPT_SEQUENCE + FIRST_ATTEMPT,
            content=self.message.content,
            header_size=self.message.header_size,
            size=self.message.size,
            signature=front.lines,
            leading_dots=self.message.leading_dots,
            eight_bit=self.message.eight_bit,
            smtputf8=job.smtputf8 or self.verdict.needs_smtputf8,
            campaign_id=job.campaign_id,
            tls=sender.tls,
            person_key=self.person_key,
            traceparent=job.traceparent,
            key_id=key.id,
            sealed_envelope=key.seal(encode(envelope), b"unit|" + self.unit_id.encode()),
        )

    def _event(self, type_: EventType, occurred_at: int, detail: Detail, personal: Personal | None = None) -> MailEvent:
        job, key = self._opened.job, self._opened.key
        id_ = event_id(self.unit_id, type_.value, 0)
        return MailEvent(
            event_id=id_,
            type=type_,
            unit_id=self.unit_id,
            job_id=job.job_id,
            tenant=job.tenant,
            account=job.account,
            recipient_key=self.recipient_key,
            occurred_at=occurred_at,
            sequence=SEQUENCE[type_],
            attempt=0,
            worker=self._opened.worker,
            provider=self.provider,
            sender_domain=job.sender_domain,
            recipient_domain=self.domain,
            person_key=self.person_key,
            key_id=key.id if personal else "",
            sealed_personal=key.seal(encode(personal), b"event|" + id_.encode()) if personal else b"",
            detail=detail,
        )
