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

    def part(self, shards: int) -> Pace:
        """What one of ``shards`` equal parts of a route may do; at least one connection, or nothing would ever be sent.

        A suspension is everybody's.
        """
        if shards == 1 or (self.per_minute is None and self.connections is None):
            return self
        rate = None if self.per_minute is None else self.per_minute / shards
        connections = None if self.connections is None else max(1, self.connections // shards)
        return Pace(rate, connections, self.suspended_until, self.reason)


UNLIMITED = Pace()


class PaceView(Protocol):
    """Whoever knows the pace in force: the book that follows mail.pace, or a test."""

    def pace(self, pool: str, provider: str) -> Pace:
        """The pace in force for a pool and provider; ``UNLIMITED`` where none was decided. Costs a microsecond."""
        ...
