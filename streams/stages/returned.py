"""What the stage ``returns`` says about a unit: one event for each kind of report, as a pure value.

Its id is made of the unit, the type and the class of the report, not of the place it was read from: far sides repeat themselves,
and the second report that says the same is the same fact. Its sequence lies beyond those of the unit's way, so that it annotates
what has ended and is no second end.
"""

from __future__ import annotations

from dataclasses import dataclass

from depesche.analytics.archive.keyring import DataKey
from depesche.analytics.units.lookup import KnownUnit
from depesche.schemas.codec import encode
from depesche.schemas.identity import event_id, person_key
from depesche.schemas.records import MailEvent, Personal, ReturnedDetail, ReturnedMail
from depesche.schemas.vocabulary import ANNOTATIONS_FROM
from depesche.streams.mail.classify import default_rules
from depesche.streams.mail.returns.meaning import Fact

MAX_WORDS = 2_000


def id_of(unit_id: str, fact: Fact) -> str:
    """The id of the event; the same whenever the same is reported of the same unit."""
    return event_id(unit_id, fact.type.value, 0, f"returned/{fact.report.verdict.reply_class.value}")


@dataclass(frozen=True, slots=True)
class Pen:
    """How an event is written.

    Attributes:
        key: seals what is personal; today's key of the unit's tenant.
        pepper: behind the keys of persons; empty where suppression is per customer.
        worker: who says so.
    """

    key: DataKey
    pepper: bytes
    worker: str


def event_of(unit: KnownUnit, fact: Fact, mail: ReturnedMail, place: str, pen: Pen) -> MailEvent:
    """The event.

    Args:
        unit: what it is about.
        fact: what happened.
        mail: the returned mail that says so.
        place: where its record stands, as topic/partition/offset.
        pen: seals and signs.
    """
    id_ = id_of(unit.unit_id, fact)
    words = fact.report.reply.text[:MAX_WORDS] or None
    personal = Personal(recipient=unit.recipient or None, reply_text=words)
    return MailEvent(
        event_id=id_,
        type=fact.type,
        unit_id=unit.unit_id,
        job_id=unit.job_id,
        tenant=unit.tenant,
        account=unit.account,
        recipient_key=unit.recipient_key,
        occurred_at=mail.received_at,
        sequence=max(ANNOTATIONS_FROM, unit.last_sequence + 1),
        attempt=unit.last_attempt,
        cause_id=unit.final_event or None,
        worker=pen.worker,
        provider=unit.provider,
        sender_domain=unit.sender_domain,
        recipient_domain=unit.recipient_domain,
        person_key=person_key(pen.pepper, unit.recipient) if pen.pepper and unit.recipient else None,
        key_id=pen.key.id,
        sealed_personal=pen.key.seal(encode(personal), b"event|" + id_.encode()),
        detail=_detail(fact, mail, place),
    )


def _detail(fact: Fact, mail: ReturnedMail, place: str) -> ReturnedDetail:
    report = fact.report
    return ReturnedDetail(
        source=report.source.value,
        place=place,
        code=report.reply.code,
        enhanced_code=report.reply.enhanced,
        reply_class=report.verdict.reply_class.value,
        kind=report.verdict.kind.value,
        rule=report.verdict.rule,
        rules_version=default_rules().version,
        suppress=report.verdict.suppress,
        feedback_type=report.feedback_type,
        reporter=report.reply.host,
        content=mail.content,
    )
