"""Suppression as a pure fold: from what happened to a recipient's mail, and what people asked for, to whether to write again.

Facts come from two topics whose order against one another nobody knows. So the facts of each are kept apart (a ``ground`` has
one origin) and only joined by their times: whatever way the two are interleaved, the same facts give the same record. That is
what makes a replay equal to the living fold to the last field. A record that holds a fact knows its offset, so that it is
taken once however often it is read. What counts as a fact: ``suppression_facts.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from depesche.schemas.records import (
    EventType,
    MailEvent,
    Suppression,
    SuppressionAction,
    SuppressionEvidence,
    SuppressionGround,
    SuppressionReason,
    SuppressionRequest,
    SuppressionState,
    SuppressionWatermark,
)
from depesche.streams.mail.suppression_facts import Fact, Policy, fact_of

Origin = Literal["outcomes", "requests"]

DAY_MS: Final = 86_400_000
KEPT_EVIDENCE: Final = 3
"""So many facts of a ground are kept: as many as can be needed."""
VAGUE_NEEDED: Final = 3
"""So many hard bounces suppress even if none of them is firm (mission D5: at the latest after three)."""
FORGET_MS: Final = DAY_MS
"""How long what has ended is kept, so that a fact that is read again is still known."""
_STRICTNESS: Final = tuple(SuppressionReason)


def ground_name(origin: str, reason: SuppressionReason, days: int) -> str:
    """How a ground is named in ``Suppression.ground`` and in a request that renews it."""
    return f"{origin}/{reason.value}/{days}"


# The fold.


def after_outcome(
    held: Suppression | None, event: MailEvent, policy: Policy, partition: int, offset: int
) -> Suppression | None:
    """What is known of a recipient after an outcome; None: nothing changes.

    Args:
        held: what is known before.
        event: the outcome.
        policy: in force.
        partition, offset: where the outcome stands in mail.outcomes.
    """
    if _known(held, "outcomes", partition, offset):
        return None
    fact = fact_of(event, policy)
    if fact is None:
        return None
    before = held or _nothing(event.recipient_key, event.tenant)
    if any(one.event_id == event.event_id for ground in before.grounds for one in ground.evidence):
        return None
    after = replace(
        before,
        person_key=event.person_key or before.person_key,
        recipient_domain=event.recipient_domain or before.recipient_domain,
        grounds=_with_fact(before.grounds, "outcomes", fact),
    )
    return _concluded(after, policy, event.occurred_at, "outcomes", partition, offset)


def after_request(
    held: Suppression | None, request: SuppressionRequest, policy: Policy, partition: int, offset: int
) -> Suppression | None:
    """What is known of a recipient after a request for it (``sweep`` is none); None: nothing changes.

    Args:
        held: what is known before.
        request: what is asked.
        policy: in force.
        partition, offset: where the request stands in mail.suppressions.requests.
    """
    if _known(held, "requests", partition, offset):
        return None
    before = held or _nothing(request.recipient_key, request.tenant)
    change = _CHANGES.get(request.action)
    if change is None:
        return None
    after = change(before, request)
    named = replace(
        after,
        person_key=request.person_key or before.person_key,
        recipient_domain=request.recipient_domain or before.recipient_domain,
    )
    return _concluded(named, policy, request.at, "requests", partition, offset)


def forgettable(held: Suppression, at: int) -> bool:
    """Whether an entry has ended so long before ``at`` (milliseconds since 1970 UTC) that it may be forgotten."""
    ends = [held.changed_at]
    if held.state is SuppressionState.ACTIVE:
        if held.until is None:
            return False
        ends.append(held.until)
    ends += [
        evidence.at + ground.days * DAY_MS
        for ground in held.grounds
        for evidence in ground.evidence
        if evidence.at > (held.lifted_at or 0)
    ]
    return max(ends) + FORGET_MS <= at


def _add(held: Suppression, request: SuppressionRequest) -> Suppression:
    evidence = SuppressionEvidence(
        event_id=request.request_id,
        type=EventType.UNKNOWN,
        at=request.at,
        by=request.by,
        note=request.note,
        key_id=request.key_id,
        sealed_personal=request.sealed_personal,
    )
    return replace(held, grounds=_with_fact(held.grounds, "requests", Fact(request.reason, request.days, evidence)))


def _lift(held: Suppression, request: SuppressionRequest) -> Suppression:
    """Requests before this one end by their order, outcomes before it by their time."""
    grounds = tuple(
        replace(ground, renewed_at=None, blocked=0) for ground in held.grounds if ground.origin == "outcomes"
    )
    later = request.at >= (held.lifted_at or 0)
    return replace(
        held,
        grounds=tuple(ground for ground in grounds if ground.evidence),
        lifted_at=max(request.at, held.lifted_at or 0),
        lifted_by=request.by if later else held.lifted_by,
        lifted_note=request.note if later else held.lifted_note,
    )


def _blocked(held: Suppression, request: SuppressionRequest) -> Suppression:
    origin, _, rest = request.ground.partition("/")
    reason, _, days = rest.partition("/")
    if origin not in ("outcomes", "requests") or reason not in _REASONS or not days.isdigit():
        return held
    ground = _found(held.grounds, origin, SuppressionReason(reason), int(days))
    last = ground.renewed_at or 0
    unbroken = last and (not ground.days or request.at <= last + ground.days * DAY_MS)
    renewed = replace(ground, renewed_at=max(last, request.at), blocked=ground.blocked + 1 if unbroken else 1)
    return replace(held, grounds=_put(held.grounds, renewed))


_REASONS: Final = frozenset(reason.value for reason in SuppressionReason)
_CHANGES: Final[Mapping[SuppressionAction, Callable[[Suppression, SuppressionRequest], Suppression]]] = {
    SuppressionAction.ADD: _add,
    SuppressionAction.LIFT: _lift,
    SuppressionAction.BLOCKED: _blocked,
}


def _nothing(recipient_key: str, tenant: str) -> Suppression:
    return Suppression(recipient_key=recipient_key, tenant=tenant, changed_at=0)


def _known(held: Suppression | None, origin: Origin, partition: int, offset: int) -> bool:
    marks = held.watermarks if held is not None else ()
    return any(m.origin == origin and m.partition == partition and offset <= m.last for m in marks)


def _found(
    grounds: tuple[SuppressionGround, ...], origin: str, reason: SuppressionReason, days: int
) -> SuppressionGround:
    for ground in grounds:
        if (ground.origin, ground.reason, ground.days) == (origin, reason, days):
            return ground
    return SuppressionGround(origin=origin, reason=reason, days=days)


def _put(grounds: tuple[SuppressionGround, ...], changed: SuppressionGround) -> tuple[SuppressionGround, ...]:
    """The grounds with one of them changed or new, in the order of their names."""
    names = {ground_name(g.origin, g.reason, g.days): g for g in grounds}
    names[ground_name(changed.origin, changed.reason, changed.days)] = changed
    return tuple(names[name] for name in sorted(names))


def _with_fact(grounds: tuple[SuppressionGround, ...], origin: Origin, fact: Fact) -> tuple[SuppressionGround, ...]:
    ground = _found(grounds, origin, fact.reason, fact.days)
    bare = tuple(replace(one, key_id="", sealed_personal=b"") for one in ground.evidence)
    last = max((one.at for one in bare), default=None)
    at = fact.evidence.at
    unbroken = last is not None and (not ground.days or at <= last + ground.days * DAY_MS)
    since = min(ground.since, at) if unbroken and ground.since is not None else at
    evidence = (*bare, fact.evidence)[-KEPT_EVIDENCE:]
    return _put(grounds, replace(ground, since=since, evidence=evidence))


# What the facts mean together.


def _concluded(facts: Suppression, policy: Policy, at: int, origin: Origin, partition: int, offset: int) -> Suppression:
    marks = {(m.origin, m.partition): m for m in facts.watermarks}
    held = marks.get((origin, partition))
    first = held.first if held else offset
    marks[origin, partition] = SuppressionWatermark(origin=origin, partition=partition, first=first, last=offset)
    moved = replace(
        facts, changed_at=max(facts.changed_at, at), watermarks=tuple(marks[name] for name in sorted(marks))
    )
    return concluded(moved, policy)


def concluded(facts: Suppression, policy: Policy) -> Suppression:
    """The record with its conclusion: made of its facts and the policy alone, whatever the time is now."""
    lifted = facts.lifted_at or 0
    views = [view for view in (_View.of(ground, lifted) for ground in facts.grounds) if view is not None]
    hard = sum(view.hard for view in views)
    plain = replace(
        facts,
        state=SuppressionState.LIFTED if facts.lifted_at and not hard else SuppressionState.PENDING,
        reason=SuppressionReason.UNKNOWN,
        ground="",
        reply_class="",
        since=None,
        until=None,
        renewed_at=None,
        blocked=0,
        hard_bounces=min(hard, KEPT_EVIDENCE),
        policy=policy.fingerprint,
    )
    strictest = max((view for view in views if view.suffices(policy)), key=_View.strictness, default=None)
    if strictest is None:
        return plain
    ground = strictest.ground
    return replace(
        plain,
        state=SuppressionState.ACTIVE,
        reason=ground.reason,
        ground=ground_name(ground.origin, ground.reason, ground.days),
        reply_class=strictest.live[-1].reply_class,
        since=strictest.since,
        until=strictest.until,
        renewed_at=ground.renewed_at,
        blocked=ground.blocked if strictest.renewed else 0,
    )


@dataclass(frozen=True, slots=True)
class _View:
    """A ground with the facts of it that still count: after the last lifting, and within one lifetime of the youngest."""

    ground: SuppressionGround
    live: tuple[SuppressionEvidence, ...]
    since: int

    @classmethod
    def of(cls, ground: SuppressionGround, lifted: int) -> _View | None:
        after = [one for one in ground.evidence if ground.origin == "requests" or one.at > lifted]
        if not after:
            return None
        youngest = max(one.at for one in after)
        live = tuple(one for one in after if not ground.days or one.at > youngest - ground.days * DAY_MS)
        since = ground.since if ground.since is not None and ground.since > lifted else min(one.at for one in live)
        return cls(ground, live, since)

    @property
    def hard(self) -> int:
        return sum(one.hard for one in self.live)

    @property
    def renewed(self) -> bool:
        return self.ground.renewed_at is not None and self.ground.renewed_at >= self.since

    @property
    def until(self) -> int | None:
        if not self.ground.days:
            return None
        youngest = max(one.at for one in self.live)
        return max(youngest, self.ground.renewed_at or 0) + self.ground.days * DAY_MS

    def suffices(self, policy: Policy) -> bool:
        firm = sum(one.hard and one.firm for one in self.live)
        return firm >= policy.hard_bounces or self.hard >= VAGUE_NEEDED or self.hard < len(self.live)

    def strictness(self) -> tuple[bool, int, int, str]:
        until = self.until
        return until is None, until or 0, _STRICTNESS.index(self.ground.reason), self.ground.origin
