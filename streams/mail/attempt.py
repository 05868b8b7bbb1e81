"""One attempt, from what the far side did to what the log says and what becomes of the unit. Pure: no wire, no log, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from depesche.schemas.identity import event_id
from depesche.schemas.records import (
    AttemptDetail,
    CancelledDetail,
    DroppedDetail,
    DropReason,
    EventType,
    FailedDetail,
    MailEvent,
    MailUnit,
    Personal,
)
from depesche.schemas.settings import DeliverSettings
from depesche.streams.mail.ladder import NextTry, after_attempt
from depesche.streams.mail.reply import Answered, Judge, Judgement, queue_id
from depesche.streams.mail.route import pool_of
from depesche.streams.mail.shaping.shape import Shape

Seal: TypeAlias = Callable[[str, str, Personal], tuple[str, bytes]]
"""Seals the personal fields of an event: tenant and event id to key id and sealed bytes."""


_NO_TLS = "4.7.5"


@dataclass(frozen=True, slots=True)
class Finding:
    """What an attempt found out there.

    Attributes:
        step, code, enhanced, text, ambiguous, transcript: the answer, see ``wire.smtp.Answer``.
        host, remote_ip, source_ip, tls: with whom and how, as far as it came.
        millis: how long it took.
        recipient: envelope recipient, None where it can no longer be read.
        tls_policy: what was asked of TLS and by whom; empty: what the unit asks.
        note: what a check of ours found, instead of an attempt.
    """

    step: str
    code: int = 0
    enhanced: str = ""
    text: str = ""
    ambiguous: bool = False
    transcript: str = ""
    host: str = ""
    remote_ip: str = ""
    source_ip: str = ""
    tls: str = ""
    millis: int = 0
    recipient: str | None = None
    tls_policy: str = ""
    note: str = ""

    @property
    def answered(self) -> Answered:
        """The part of it that decides."""
        return Answered(self.step, self.code, self.enhanced, self.text, self.host, self.tls, self.ambiguous)


@dataclass(frozen=True, slots=True)
class Dropping:
    """Why a unit is not sent after all.

    Attributes:
        reason: as the log tells it.
        finding: when and why, for support staff; personal.
        cause_id: the event that led to it; None where it is not the customer's own.
    """

    reason: DropReason
    finding: str
    cause_id: str | None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What an attempt leads to: an event and why, and for a unit that is tried again its next form and where it waits."""

    event: MailEvent
    judgement: Judgement | None = None
    next_unit: MailUnit | None = None
    next_try: NextTry | None = None


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes conclusions: knows the policy, who speaks, and how to seal."""

    settings: DeliverSettings
    worker: str
    seal: Seal
    judge: Judge = field(default_factory=Judge)
    shapes: Callable[[str], Shape] | None = None
    """The shape of a provider as it is now; None: what the settings say."""

    def conclude(self, unit: MailUnit, finding: Finding, now: int) -> Conclusion:
        """What ``finding`` means for ``unit`` at ``now`` (milliseconds since 1970 UTC)."""
        shape = self.shapes(unit.provider) if self.shapes is not None else None
        finding = _with_last_reply(unit, finding)
        judgement = self.judge.judge(finding.answered, shape)
        next_try = None
        if judgement.verdict == "delivered":
            kind = EventType.DELIVERED
        elif judgement.verdict == "bounced":
            kind = EventType.BOUNCED
        elif finding.ambiguous and self.settings.after_ambiguity == "hold":
            # Not sent twice and perhaps not at all: final, and the detail says that nobody knows.
            kind = EventType.FAILED
        else:
            ladder = shape.ladder if shape is not None else self.settings.ladder
            expires_at = _given_up_at(unit, shape, self.settings.time_scale)
            next_try = after_attempt(ladder, unit.attempt, now, expires_at, self.settings.time_scale)
            kind = EventType.DEFERRED if next_try else EventType.EXPIRED
        detail = AttemptDetail(
            host=finding.host,
            remote_ip=finding.remote_ip,
            source_ip=finding.source_ip,
            tls=finding.tls,
            code=finding.code,
            enhanced_code=judgement.enhanced,
            step=finding.step,
            reply_class=judgement.reply_class,
            kind=judgement.kind,
            queue_id=queue_id(finding.text) if kind is EventType.DELIVERED else "",
            millis=finding.millis,
            next_attempt_at=next_try.due_at if next_try else None,
            ambiguous=finding.ambiguous,
            rule=judgement.rule,
            rules_version=judgement.rules_version,
            pool=pool_of(unit.route),
            tls_policy=finding.tls_policy or unit.tls,
        )
        event = self._event(unit, kind, detail, finding, now)
        if next_try is None:
            return Conclusion(event, judgement)
        return Conclusion(event, judgement, next_form(unit, event), next_try)

    def failed(self, unit: MailUnit, code: str, stage: str, recipient: str | None, now: int) -> MailEvent:
        """The final event of a unit that we cannot process, for the reason ``code`` of the error tree."""
        finding = Finding("", recipient=recipient)
        return self._event(unit, EventType.FAILED, FailedDetail(code=code, stage=stage), finding, now)

    def cancelled(self, unit: MailUnit, detail: CancelledDetail, recipient: str | None, now: int) -> MailEvent:
        """The final event of a unit that an operator's order dropped."""
        return self._event(unit, EventType.CANCELLED, detail, Finding("", recipient=recipient), now)

    def dropped(self, unit: MailUnit, dropping: Dropping, recipient: str | None, now: int) -> MailEvent:
        """The final event of a unit that is not sent after all."""
        finding = Finding("", recipient=recipient, note=dropping.finding)
        event = self._event(unit, EventType.DROPPED, DroppedDetail(reason=dropping.reason), finding, now)
        return replace(event, cause_id=dropping.cause_id)

    def _event(
        self,
        unit: MailUnit,
        kind: EventType,
        detail: AttemptDetail | CancelledDetail | DroppedDetail | FailedDetail,
        finding: Finding,
        now: int,
    ) -> MailEvent:
        id_ = event_id(unit.unit_id, kind.value, unit.attempt)
        personal = Personal(
            recipient=finding.recipient,
            reply_text=finding.text or None,
            transcript=finding.transcript or None,
            finding=finding.note or None,
        )
        key_id, sealed = self.seal(unit.tenant, id_, personal)
        return MailEvent(
            event_id=id_,
            type=kind,
            unit_id=unit.unit_id,
            job_id=unit.job_id,
            tenant=unit.tenant,
            account=unit.account,
            recipient_key=unit.recipient_key,
            occurred_at=now,
            sequence=unit.sequence,
            attempt=unit.attempt,
            worker=self.worker,
            provider=unit.provider,
            sender_domain=unit.sender_domain,
            recipient_domain=unit.recipient_domain,
            person_key=unit.person_key,
            key_id=key_id,
            sealed_personal=sealed,
            detail=detail,
        )


def _with_last_reply(unit: MailUnit, finding: Finding) -> Finding:
    """A unit whose time is up without a last attempt ends for what stopped it before, where that was a lack of TLS."""
    last = (unit.last_reply or "").rpartition(" ")[2]
    if finding.step or finding.ambiguous or last != _NO_TLS:
        return finding
    return replace(finding, enhanced=_NO_TLS)


def _given_up_at(unit: MailUnit, shape: Shape | None, time_scale: float) -> int:
    """When delivery is given up: as the job says, or sooner where the provider's block does."""
    if shape is None or shape.lifetime is None:
        return unit.expires_at
    return min(unit.expires_at, unit.accepted_at + round(shape.lifetime * 1000 * time_scale))


def next_form(unit: MailUnit, deferred: MailEvent) -> MailUnit:
    """The unit as it waits after the event ``deferred``: made of unit and event alone, so that a repetition gives the same."""
    detail = deferred.detail
    assert isinstance(detail, AttemptDetail)
    assert detail.next_attempt_at is not None
    return replace(
        unit,
        attempt=unit.attempt + 1,
        sequence=unit.sequence + 1,
        due_at=detail.next_attempt_at,
        last_reply=f"{detail.code or ''} {detail.enhanced_code}".strip(),
    )


def rerouted_form(unit: MailUnit, route: str) -> MailUnit:
    """The unit as it goes on by ``route``: as its next attempt, so that no courier takes it for a repetition of this one."""
    return replace(unit, route=route, attempt=unit.attempt + 1, sequence=unit.sequence + 1)
