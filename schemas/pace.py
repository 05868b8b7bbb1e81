"""How fast a pool may send to a provider now: the word between the pace fold, which decides, and the couriers, who obey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pace:
    """What is allowed for one pool and provider beyond what the shaping file says; the stricter of the two holds.

    Attributes:
        per_minute: attempts a minute over all couriers; None: no limit of its own.
        connections: connections over all couriers; None: no limit of its own.
        suspended_until: nobody tries before, in milliseconds since 1970 UTC; 0: not suspended.
        reason: the class of the answers that led to it, as ``rate_limited``; empty where nothing is limited.
    """

    per_minute: float | None = None
    connections: int | None = None
    suspended_until: int = 0
    reason: str = ""


UNLIMITED = Pace()


class PaceView(Protocol):
    """Whoever knows the pace in force: the book that follows mail.pace, or a test."""

    def pace(self, pool: str, provider: str) -> Pace:
        """The pace in force for a pool and provider; ``UNLIMITED`` where none was decided. Costs a microsecond."""
        ...
