"""A decision about the pace as people and programs are shown it, the same on the command line and over REST."""

from __future__ import annotations

from typing import Any

from depesche.analytics.queries.results import rfc3339
from depesche.schemas.records import PaceState
from depesche.schemas.reply_classes import CLASS_MEANING, ReplyClass


def in_force(state: PaceState, now: int) -> str:
    """What a decision means now (milliseconds since 1970 UTC): ``suspended``, ``limited`` or ``free``."""
    if state.suspended_until is not None and now < state.suspended_until:
        return "suspended"
    return "limited" if state.ends_at is not None and now < state.ends_at else "free"


def row_of(state: PaceState, now: int) -> dict[str, Any]:
    """Everything that a decision says; times in RFC 3339."""
    return {
        "pool": state.pool,
        "provider": state.provider,
        "state": in_force(state, now),
        "per_minute": state.per_minute,
        "connections": state.connections,
        "suspended_until": rfc3339(state.suspended_until) if state.suspended_until else None,
        "ends_at": rfc3339(state.ends_at) if state.ends_at else None,
        "since": rfc3339(state.at),
        "action": state.action.value,
        "reason": state.reason,
        "meaning": meaning_of(state.reason),
        "explanation": state.explanation,
        "achieved_per_minute": state.achieved,
        "refused_share": state.refused_share,
        "decision_id": state.decision_id,
        "causes": [
            {
                "event_id": cause.event_id,
                "unit_id": cause.unit_id,
                "reply_class": cause.reply_class,
                "code": cause.code,
                "count": cause.count,
            }
            for cause in state.causes
        ],
    }


def meaning_of(reason: str) -> str:
    """The sentence of a reply class; empty where there is none."""
    return CLASS_MEANING[ReplyClass(reason)].english if reason in set(ReplyClass) else ""
