"""Mails told for tests: the records that doors, workshop and couriers write to the log, sealed and keyed as they do it."""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from aiokafka import AIOKafkaProducer

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.log.client import full_name
from depesche.schemas import cloudevents, topics
from depesche.schemas.codec import encode
from depesche.schemas.identity import event_id, job_of, new_job_id, recipient_key, unit_id
from depesche.schemas.records import (
    AcceptedDetail,
    ArchiveRef,
    AttemptDetail,
    AttemptMark,
    AttemptMarks,
    AttemptPhase,
    EventType,
    Interface,
    Job,
    JobEnvelope,
    JobMessage,
    JobRecipient,
    MailEvent,
    MailUnit,
    Personal,
    RecipientKind,
    ReturnedDetail,
    ScannedDetail,
    SignedDetail,
)
from depesche.schemas.settings import Settings

SECRET = b"a secret of the tests"
_CODES = {"delivered": 250, "deferred": 451, "bounced": 550, "expired": 451}


@dataclass
class Mail:
    """One unit and what is said about it."""

    keyring: Keyring
    recipient: str = "ada@example.org"
    tenant: str = "4711"
    account: str = "main"
    sender: str = "shop@shop.example"
    subject: str = "Your order has shipped"
    accepted_at: int = 0
    message_id: str = ""
    campaign: str | None = None
    reference: str | None = None
    size: int = 10_240
    content: tuple[ArchiveRef, ...] = ()
    number: int = 0
    job_id: str = ""
    told: list[MailEvent] = field(default_factory=list)
    marks: list[AttemptMark] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.job_id = self.job_id or new_job_id(self.accepted_at or None)
        self.accepted_at = int(self.job_id.replace("-", "")[:12], 16)
        self.message_id = self.message_id or f"{secrets.token_hex(8)}@shop.example"
        self.key_id = self.keyring.today(self.tenant).id

    @property
    def unit_id(self) -> str:
        return unit_id(self.job_id, self.number)

    @property
    def domain(self) -> str:
        return self.recipient.rpartition("@")[2].lower()

    def event(self, kind: str, sequence: int, attempt: int = 0, **more: object) -> MailEvent:
        """Tell one step; ``more`` are fields of the event."""
        personal = more.pop("personal", None)
        unit = self.unit_id
        id_ = event_id(unit, kind, attempt)
        sealed = b""
        if isinstance(personal, Personal):
            sealed = self.keyring.key(self.key_id).seal(encode(personal), b"event|" + id_.encode())
        made = MailEvent(
            event_id=id_,
            type=EventType(kind),
            unit_id=unit,
            job_id=job_of(unit),
            tenant=self.tenant,
            account=self.account,
            recipient_key=recipient_key(SECRET, self.recipient),
            occurred_at=self.accepted_at + sequence * 10,
            sequence=sequence,
            attempt=attempt,
            worker="tests-0",
            sender_domain=self.sender.rpartition("@")[2].lower(),
            recipient_domain=self.domain,
            provider=self.domain if attempt else "",
            key_id=self.key_id if sealed else "",
            sealed_personal=sealed,
        )
        made = replace(made, **more)  # type: ignore[arg-type]
        self.told.append(made)
        return made

    def accepted(self) -> "Mail":
        personal = Personal(
            recipient=self.recipient,
            mail_from=self.sender,
            header_from=self.sender,
            subject=self.subject,
            client="192.0.2.1",
        )
        detail = AcceptedDetail(
            interface=Interface.SMTP,
            message_id=self.message_id,
            size=self.size,
            body_sha256=b"\0" * 32,
            content=self.content,
            block=0,
            campaign_id=self.campaign,
            reference=self.reference,
            expires_at=self.accepted_at + 172_800_000,
        )
        self.event("accepted", 10, personal=personal, detail=detail)
        return self

    def prepared(self) -> "Mail":
        self.accepted()
        self.event("scanned", 20, detail=ScannedDetail(engines=("clamav/1", "yara/1"), millis=3))
        self.event("signed", 40, detail=SignedDetail(domain="shop.example", selector="s", algorithm="rsa-sha256"))
        return self

    def answered(
        self, kind: str, attempt: int = 1, code: int | None = None, text: str = "ok", remote_ip: str = "192.0.2.7"
    ) -> "Mail":
        """Tell an attempt's outcome, with its marks."""
        detail = AttemptDetail(
            host=f"mx.{self.domain}",
            remote_ip=remote_ip,
            source_ip="192.0.2.1",
            tls="TLSv1.3/TLS_AES_256_GCM_SHA384",
            code=_CODES.get(kind, 0) if code is None else code,
            enhanced_code="2.0.0" if kind == "delivered" else "5.1.1" if kind == "bounced" else "4.2.0",
            step="dot",
            reply_class="accepted" if kind == "delivered" else "recipient_unknown" if kind == "bounced" else "later",
            kind={"delivered": "", "bounced": "hard"}.get(kind, "soft"),
            queue_id="",
            millis=12,
        )
        personal = Personal(recipient=self.recipient, reply_text=text, transcript="S: 220 mx\nC: EHLO us\n")
        self.event(kind, 100 + attempt, attempt, personal=personal, detail=detail)
        for phase in (AttemptPhase.STARTED, AttemptPhase.COMMITTING, AttemptPhase.FINISHED):
            outcome = kind if phase is AttemptPhase.FINISHED else None
            self.marks.append(
                AttemptMark(unit_id=self.unit_id, tenant=self.tenant, attempt=attempt, phase=phase, outcome=outcome)
            )
        return self

    def came_back(self, reply_class: str = "recipient_unknown", place: str = "mail.returns/0/0") -> "Mail":
        """Tell a late bounce, as the stage ``returns`` does."""
        detail = ReturnedDetail(
            source="dsn",
            place=place,
            code=550,
            enhanced_code="5.1.1",
            reply_class=reply_class,
            kind="hard",
            suppress=True,
        )
        personal = Personal(recipient=self.recipient, reply_text="550 5.1.1 no longer here")
        last = max(event.sequence for event in self.told)
        self.event("bounced", max(100_000, last + 1), 1, personal=personal, detail=detail)
        id_ = event_id(self.unit_id, "bounced", 0, f"returned/{reply_class}")
        sealed = self.keyring.key(self.key_id).seal(encode(personal), b"event|" + id_.encode())
        self.told[-1] = replace(self.told[-1], event_id=id_, sealed_personal=sealed)
        return self

    def job(self, *others: "Mail") -> Job:
        """The job of this unit and of ``others``, which have the same job id."""
        envelope = JobEnvelope(
            mail_from=self.sender,
            header_from=self.sender,
            subject=self.subject,
            client="192.0.2.1",
            recipients=tuple(
                JobRecipient(address=mail.recipient, message=0, block=0, kind=RecipientKind.TO)
                for mail in (self, *others)
            ),
        )
        key = self.keyring.key(self.key_id)
        message = JobMessage(
            content=self.content,
            header_size=100,
            size=self.size,
            body_sha256=b"\0" * 32,
            message_id=self.message_id,
            leading_dots=False,
            eight_bit=False,
        )
        return Job(
            job_id=self.job_id,
            tenant=self.tenant,
            account=self.account,
            interface=Interface.SMTP,
            received_at=self.accepted_at,
            expires_at=self.accepted_at + 172_800_000,
            sender_domain="shop.example",
            messages=(message,),
            smtputf8=False,
            key_id=self.key_id,
            sealed_envelope=key.seal(encode(envelope), b"job|" + self.job_id.encode()),
        )

    def unit(self, attempt: int = 1) -> MailUnit:
        """The unit on its way out."""
        return MailUnit(
            unit_id=self.unit_id,
            job_id=self.job_id,
            tenant=self.tenant,
            account=self.account,
            recipient_key=recipient_key(SECRET, self.recipient),
            route=f"default/{self.domain}/0",
            provider=self.domain,
            sender_domain="shop.example",
            recipient_domain=self.domain,
            accepted_at=self.accepted_at,
            expires_at=self.accepted_at + 172_800_000,
            due_at=self.accepted_at,
            attempt=attempt,
            sequence=100 + attempt,
            content=self.content,
            header_size=100,
            size=self.size,
            signature=b"",
            leading_dots=False,
            eight_bit=False,
            smtputf8=False,
            key_id=self.key_id,
            sealed_envelope=b"",
        )


class Log:
    """Writes told mails to the log."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self.settings = settings
        self.producer = producer

    async def send(
        self, topic: str, value: bytes | None, partition: int, headers: cloudevents.Headers | None = None
    ) -> int:
        """Write one record; gives its offset."""
        sent = await self.producer.send_and_wait(
            full_name(self.settings.kafka, topic), value, key=b"k", partition=partition, headers=headers or []
        )
        return int(sent.offset)

    async def events(self, events: Iterable[MailEvent]) -> None:
        """Write events where they belong, all at once."""
        count = self.settings.kafka.partitions
        waiting = []
        for event in events:
            topic = topics.OUTCOMES if event.type.value in topics.OUTCOME_TYPES else topics.EVENTS
            waiting.append(
                self.send(
                    topic.name,
                    encode(event),
                    topics.partition_of(event.recipient_key, count),
                    cloudevents.of_event(event),
                )
            )
        await asyncio.gather(*waiting)

    async def mails(self, mails: Sequence[Mail]) -> None:
        """Write everything about these mails, causes before their effects: jobs, events, units, attempts, outcomes."""
        count = self.settings.kafka.partitions
        jobs: dict[str, list[Mail]] = {}
        for mail in mails:
            jobs.setdefault(mail.job_id, []).append(mail)
        for job_id, units in jobs.items():
            job = units[0].job(*units[1:])
            headers = [("units", str(len(units)).encode())]
            await self.send(topics.JOBS.name, encode(job), topics.job_partition(job_id, count), headers)
        told = [event for mail in mails for event in mail.told]
        await self.events(event for event in told if event.type.value not in topics.OUTCOME_TYPES)
        for mail in mails:
            if mail.marks or any(event.type is EventType.SIGNED for event in mail.told):
                unit = mail.unit()
                partition = topics.route_partition(unit.route, count)
                await self.send(topics.OUTBOUND.name, encode(unit), partition)
                if mail.marks:
                    marks = AttemptMarks(worker="tests-0", occurred_at=mail.accepted_at, marks=tuple(mail.marks))
                    await self.send(topics.ATTEMPTS.name, encode(marks), partition)
        await self.events(event for event in told if event.type.value in topics.OUTCOME_TYPES)
