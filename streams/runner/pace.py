"""How long to wait before the next poll: not at all when it is quiet, a few milliseconds under load.

Each poll and each fetch costs the same whether it brings one record or twenty, so under load fewer and larger ones save a
tenth of a message's CPU (reference: 0.1-0.2 ms) for at most 12 ms of latency; a lone mail must not wait for company.
"""

from __future__ import annotations

_LONGEST = 0.012
_FULL_RATE = 100.0
"""Records per second from which on the longest pause is right; below, the pause shrinks in proportion."""
_MEMORY = 0.5
"""Seconds over which the rate is taken."""


class Pace:
    """The recent rate of records, and the pause that goes with it."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._last: float | None = None

    def pause(self, count: int, now: float) -> float:
        """Seconds to wait after a poll that brought ``count`` records at ``now`` (monotonic seconds)."""
        if self._last is None:
            self._last = now
            return 0.0
        elapsed = max(now - self._last, 1e-6)
        self._last = now
        weight = min(1.0, elapsed / _MEMORY)
        self._rate += (count / elapsed - self._rate) * weight
        if not count:
            return 0.0
        return _LONGEST * min(1.0, self._rate / _FULL_RATE)
