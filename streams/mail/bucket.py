"""A token bucket: so many a second, spread evenly, never more than a second's worth at once. Pure: the time is an argument."""

from __future__ import annotations


class Bucket:
    """Tokens that come in evenly; each take costs one."""

    def __init__(self, per_second: float | None, now: float) -> None:
        """Start with one token, so that the first goes at once; ``per_second`` None: no limit."""
        self.per_second = per_second
        self._tokens = 1.0
        self._at = now

    def set_rate(self, per_second: float | None, now: float) -> None:
        """From now on tokens come at this rate; what has come stays, up to a second's worth."""
        self._fill(now)
        self.per_second = per_second
        self._tokens = min(self._tokens, self._most)

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        if self.per_second is None:
            return True
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0 when there is one."""
        if self.per_second is None:
            return 0.0
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self.per_second)

    def drain(self, now: float) -> None:
        """Take all that has come: the next goes one interval from now."""
        self._fill(now)
        self._tokens = 0.0

    @property
    def _most(self) -> float:
        return max(1.0, self.per_second or 0.0)

    def _fill(self, now: float) -> None:
        if self.per_second is not None:
            # A hair more than exact, or the last token of a wait is forever a rounding away.
            self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self.per_second + 1e-9)
        self._at = now
