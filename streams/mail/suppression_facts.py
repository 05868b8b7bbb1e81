"""What of an outcome speaks against writing to its recipient again: the policy, and facts read by it.

Hard are only the classes that say that an address is dead; a refusal of kind ``block`` says something about us and never
suppresses, whatever its code ("5xx is hard" is the mistake to avoid).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from depesche.schemas.records import (
    AttemptDetail,
    EventType,
    MailEvent,
    ReturnedDetail,
    SuppressionEvidence,
    SuppressionReason,
)
from depesche.schemas.reply_classes import Kind, ReplyClass
from depesche.schemas.settings import SuppressionSettings
from depesche.streams.mail.classify import default_rules

MOST_SEALED: Final = 4096
"""Octets of sealed personal fields that are kept; more is left out."""
_BOUNCES: Final = frozenset({EventType.BOUNCED, EventType.EXPIRED})
_UNTIL_LIFTED: Final = {
    EventType.COMPLAINED: SuppressionReason.COMPLAINED,
    EventType.UNSUBSCRIBED: SuppressionReason.UNSUBSCRIBED,
}
_NO_COMPLAINT: Final = frozenset({ReplyClass.AUTH_REPORT.value, ReplyClass.NOT_SPAM.value, ReplyClass.AUTO_REPLY.value})
_NOT_FIRM: Final = ("code:", "phase:", "none")
"""What a hard class was read from that does not show by itself that an address is dead."""


FOLDED: Final = _BOUNCES | _UNTIL_LIFTED.keys()
"""Types of outcomes that may hold a fact; all others are passed over."""


@dataclass(frozen=True, slots=True)
class Policy:
    """After which answers a recipient is suppressed, and for how long.

    Attributes:
        lifetimes: days by reply class; what is not in it does not suppress, except a hard class, which has the longest.
        hard_bounces: how many firm hard bounces are needed.
        fingerprint: names this policy and the version of the reply rules.
    """

    lifetimes: Mapping[str, int]
    hard_bounces: int
    fingerprint: str

    @classmethod
    def of(cls, settings: SuppressionSettings) -> Policy:
        """The policy in the settings."""
        lifetimes = {name: int(days) for name, _, days in (entry.partition("=") for entry in settings.lifetimes)}
        text = f"{sorted(lifetimes.items())}|{settings.hard_bounces}|{default_rules().version}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return cls(lifetimes, settings.hard_bounces, digest)

    def days(self, reply_class: str, *, hard: bool) -> int | None:
        """How long an answer of this class suppresses; None: not at all."""
        days = self.lifetimes.get(reply_class)
        return max(self.lifetimes.values(), default=None) if days is None and hard else days


@dataclass(frozen=True, slots=True)
class Fact:
    """One reason not to write to a recipient.

    Attributes:
        reason: what it is.
        days: how long it counts; 0: until lifted.
        evidence: where it comes from.
    """

    reason: SuppressionReason
    days: int
    evidence: SuppressionEvidence


def fact_of(event: MailEvent, policy: Policy) -> Fact | None:
    """Why an outcome speaks against writing to its recipient again; None: it does not."""
    if event.type in _UNTIL_LIFTED:
        if isinstance(event.detail, ReturnedDetail) and event.detail.reply_class in _NO_COMPLAINT:
            return None
        return Fact(_UNTIL_LIFTED[event.type], 0, _evidence(event, hard=False, firm=True))
    if event.type in _BOUNCES:
        return _fact_of_bounce(event, policy)
    return None


def _fact_of_bounce(event: MailEvent, policy: Policy) -> Fact | None:
    detail = event.detail
    if not isinstance(detail, AttemptDetail | ReturnedDetail) or detail.kind == Kind.BLOCK:
        return None
    hard = detail.kind == Kind.HARD
    days = policy.days(detail.reply_class, hard=hard)
    if days is None:
        return None
    # A host that said "unknown" only for now, until our time was up, is not as firm as one that said it for good.
    by_answer = event.type is EventType.BOUNCED and _is_firm(detail.rule)
    firm = detail.suppress if isinstance(detail, ReturnedDetail) else by_answer
    reason = SuppressionReason.TEMPORARY if days <= 1 and not hard else SuppressionReason.BOUNCED
    return Fact(reason, days, _evidence(event, hard=hard, firm=firm))


def _is_firm(rule: str) -> bool:
    """Whether what a class was read from (``AttemptDetail.rule``) is clear enough; as in ``classify``, for a single answer."""
    name = rule.removeprefix("words:")
    if name != rule:
        return name not in _vague_rules()
    return not rule.startswith(_NOT_FIRM) and not (rule.startswith("enhanced:") and rule.endswith(".0"))


@cache
def _vague_rules() -> frozenset[str]:
    return frozenset(rule.name for rule in default_rules().rules if rule.vague)


def _evidence(event: MailEvent, *, hard: bool, firm: bool) -> SuppressionEvidence:
    detail = event.detail
    host = detail.host if isinstance(detail, AttemptDetail) else ""
    if isinstance(detail, ReturnedDetail):
        host = detail.reporter
    answered = detail if isinstance(detail, AttemptDetail | ReturnedDetail) else None
    kept = len(event.sealed_personal) <= MOST_SEALED
    return SuppressionEvidence(
        event_id=event.event_id,
        type=event.type,
        unit_id=event.unit_id,
        at=event.occurred_at,
        hard=hard,
        firm=firm,
        reply_class=answered.reply_class if answered else "",
        code=answered.code if answered else 0,
        enhanced_code=answered.enhanced_code if answered else "",
        host=host,
        key_id=event.key_id if kept else "",
        sealed_personal=event.sealed_personal if kept else b"",
    )
