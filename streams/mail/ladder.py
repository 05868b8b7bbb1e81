"""The ladder: when to try again, and when to give up (RFC 5321 4.5.4.1).

Each rung is a topic with one constant delay, so that waiting is a queue and costs the same whatever its length. A unit that was
tried and not taken climbs by the number of its attempts; one that was never tried because its route had no room waits by its
age, so that a hundred thousand units for a dead provider come back a few times each and not every minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from depesche.schemas.topics import RETRIES


@dataclass(frozen=True, slots=True)
class NextTry:
    """Where a unit waits, and until when (milliseconds since 1970 UTC)."""

    rung: str
    due_at: int


def delay_ms(rung: str, time_scale: float) -> int:
    """How long a unit waits on ``rung``, in milliseconds.

    Raises:
        KeyError: there is no such rung.
    """
    return max(1, round(RETRIES[rung] * 1000 * time_scale))


def rung_of(delay: int, time_scale: float = 1.0) -> str:
    """The rung on which a unit waits ``delay`` milliseconds, or nearly."""
    return min(RETRIES, key=lambda rung: abs(delay_ms(rung, time_scale) - delay))


def after_attempt(
    ladder: Sequence[str], attempt: int, now: int, expires_at: int, time_scale: float = 1.0
) -> NextTry | None:
    """The next try after attempt number ``attempt`` (from 1) failed for now; None when it would come too late.

    Args:
        ladder: the rung after each attempt; the last one repeats.
        attempt: number of the attempt that failed.
        now: milliseconds since 1970 UTC.
        expires_at: when delivery is given up.
        time_scale: multiplies all delays.
    """
    rung = ladder[min(attempt, len(ladder)) - 1]
    due_at = now + delay_ms(rung, time_scale)
    return NextTry(rung, due_at) if due_at <= expires_at else None


def without_attempt(accepted_at: int, now: int, expires_at: int, time_scale: float = 1.0) -> NextTry | None:
    """The next try of a unit whose route had no room: the longest rung up to a quarter of its age, the first at least.

    None when even the first rung would come too late.
    """
    quarter = (now - accepted_at) / 4
    rungs = sorted(RETRIES, key=lambda rung: RETRIES[rung])
    rung = next((rung for rung in reversed(rungs) if delay_ms(rung, time_scale) <= quarter), rungs[0])
    for shorter in reversed(rungs[: rungs.index(rung) + 1]):
        due_at = now + delay_ms(shorter, time_scale)
        if due_at <= expires_at:
            return NextTry(shorter, due_at)
    return None


def until(due_at: int, now: int, time_scale: float = 1.0) -> NextTry:
    """The rung for a unit that must not be tried before ``due_at``: the longest that is not too long, else the first.

    Longer waits are hops on the ladder: the unit comes back, and asks again.
    """
    rungs = sorted(RETRIES, key=lambda rung: RETRIES[rung])
    fitting = [rung for rung in rungs if now + delay_ms(rung, time_scale) <= due_at]
    rung = fitting[-1] if fitting else rungs[0]
    return NextTry(rung, min(due_at, now + delay_ms(rung, time_scale)))
