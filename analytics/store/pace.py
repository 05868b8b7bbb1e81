"""When the sink writes: at once when it is quiet, seldom enough under load.

An insert costs ClickHouse some 15 ms of CPU per table however few rows it has, and three tables are written. Events that
come alone are written alone, so that a mail is seen at once; in a steady stream writing takes about a twentieth of the time.
"""

from __future__ import annotations

SHARE = 0.06
"""How much of the time may go into writing, in the long run."""
CREDIT_SECONDS = 3.0
"""How much of that may be spent in advance: the few writes that a lone mail's events need."""
QUIET_SECONDS = 0.005
"""So long nothing more may come for it to be quiet: one mail's events are written together."""


class FlushPace:
    """Decides when what is held is written. All times are monotonic seconds."""

    def __init__(self, longest_seconds: float) -> None:
        """``longest_seconds``: nothing is held for longer, whatever it costs."""
        self._longest = longest_seconds
        self._oldest: float | None = None
        self._earned_at = 0.0

    def came(self, now: float) -> None:
        """Something was added to what is held."""
        if self._oldest is None:
            self._oldest = now

    def flushed(self, now: float, took: float) -> None:
        """All that was held is written, which took so many seconds."""
        self._oldest = None
        self._earned_at = max(self._earned_at, now) + took / SHARE

    def due(self, now: float, *, quiet: bool) -> bool:
        """Whether to write now; ``quiet``: nothing came just now."""
        if self._oldest is None:
            return False
        return now - self._oldest >= self._longest or (quiet and now >= self._affordable_at())

    def wait(self, now: float) -> float:
        """Seconds to wait for more before asking ``due`` again; only while something is held."""
        last = (self._oldest if self._oldest is not None else now) + self._longest
        return max(QUIET_SECONDS, min(self._affordable_at(), last) - now)

    def _affordable_at(self) -> float:
        return self._earned_at - CREDIT_SECONDS
