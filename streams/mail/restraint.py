"""What a route holds itself to because of the answers it got just now: a lower rate, or nothing for a while. Pure.

This is the reflex of one courier process; the pace that all of them learn is a fold of the log and comes later. A host that
says "too much" is believed: from then on the route sends four fifths of what the host took in the last minute, and a little more
every ten seconds, until it is told again or nothing is left of the limit. Twenty a minute are found with the first answer, not by
halving.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from depesche.schemas.reply_classes import ReplyClass
from depesche.streams.mail.reply import Judgement
from depesche.streams.mail.shaping.shape import SuspendRule

_MINUTE = 60.0
_SLICES = 6
_LESS = 0.8
_MORE = 1.1
_LEAST_PER_MINUTE = 6.0
_LIFTED_AFTER = 36
"""Raises without another such answer after which nothing is left of a limit: six minutes, and thirty times the rate."""
_ONE_BURST_SECONDS = 5.0
"""Answers within so long after a limit was set belong to what was under way, and do not lower it again."""
_IN_A_ROW = 3
"""So many refusals for the rate without a mail taken in between are meant for us; a single one may be one mailbox's."""


class Restraint:
    """The reflexes of one route. Times are monotonic seconds."""

    def __init__(self, time_scale: float = 1.0) -> None:
        """``time_scale`` multiplies every time, as it does the ladder's."""
        self.suspended_until = 0.0
        self.reason = ""
        self._scale = time_scale
        self._taken: deque[tuple[int, int]] = deque()
        self._slow: tuple[float, float] = (0.0, 0.0)
        self._limit: float | None = None
        self._limited_at = 0.0
        self._in_a_row = 0
        self._seen: dict[SuspendRule, deque[float]] = {}

    def taken(self, now: float) -> None:
        """A host took a mail."""
        self._in_a_row = 0
        number = int(now / self._slice)
        if self._taken and self._taken[-1][0] == number:
            self._taken[-1] = (number, self._taken[-1][1] + 1)
        else:
            self._taken.append((number, 1))
            self._forget(number)

    def refused(self, judgement: Judgement, code: int, rules: Sequence[SuspendRule], now: float) -> bool:
        """A host refused; whether what holds has changed by it."""
        before = (self.suspended_until, self._limit, self._slow)
        rule = judgement.shaping
        actions = rule.actions if rule is not None else frozenset()
        if rule is not None and "suspend" in actions:
            self._suspend(now + rule.seconds * self._scale, rule.name)
        if rule is not None and "slow" in actions:
            self._slow_down(rule.factor, now + rule.seconds * self._scale, now, rule.name)
        if not actions:
            self._by_itself(judgement, code, now)
        for suspend in rules:
            if judgement.reply_class in suspend.classes:
                self._count(suspend, judgement, now)
        return before != (self.suspended_until, self._limit, self._slow)

    def suspended(self, now: float) -> bool:
        """Whether nobody may try."""
        return now < self.suspended_until

    def resume(self) -> None:
        """Somebody wants it tried now, whatever happened before."""
        self.suspended_until = 0.0

    def per_minute(self, now: float) -> float | None:
        """Attempts a minute it allows itself now (a minute of the scaled clock); None: no limit of its own."""
        limits = [self._slow[0]] if now < self._slow[1] else []
        if self._limit is not None:
            raises = int((now - self._limited_at) / self._slice)
            if raises >= _LIFTED_AFTER:
                self._limit = None
            else:
                limits.append(self._limit * _MORE**raises)
        return min(limits) if limits else None

    @property
    def _slice(self) -> float:
        return _MINUTE / _SLICES * self._scale

    def _by_itself(self, judgement: Judgement, code: int, now: float) -> None:
        """No rule says what to do about it: what everybody would do."""
        if code == 421 or (judgement.reply_class == ReplyClass.RATE_LIMITED and code // 100 == 4):
            self._in_a_row += 1
            if self._in_a_row >= _IN_A_ROW or (code == 421 and judgement.reply_class == ReplyClass.RATE_LIMITED):
                self._lower(now, judgement.reply_class)

    def _lower(self, now: float, reason: str) -> None:
        if self._limit is not None and now - self._limited_at < _ONE_BURST_SECONDS * self._scale:
            return
        self._limit = max(_LEAST_PER_MINUTE, _LESS * self._last_minute(now))
        self._limited_at = now
        self.reason = reason

    def _slow_down(self, factor: float, until: float, now: float, reason: str) -> None:
        if now < self._slow[1] and now - self._limited_at < _ONE_BURST_SECONDS * self._scale:
            return
        present = self._slow[0] if now < self._slow[1] else self._last_minute(now)
        self._slow = (max(_LEAST_PER_MINUTE, factor * present), until)
        self._limited_at = now
        self.reason = reason

    def _suspend(self, until: float, reason: str) -> None:
        if until > self.suspended_until:
            self.suspended_until, self.reason = until, reason

    def _count(self, rule: SuspendRule, judgement: Judgement, now: float) -> None:
        seen = self._seen.setdefault(rule, deque(maxlen=rule.after))
        seen.append(now)
        if len(seen) == rule.after and now - seen[0] <= rule.within * self._scale:
            self._suspend(now + rule.seconds * self._scale, judgement.reply_class)
            seen.clear()

    def _last_minute(self, now: float) -> float:
        self._forget(int(now / self._slice))
        return float(sum(count for _, count in self._taken))

    def _forget(self, number: int) -> None:
        while self._taken and self._taken[0][0] <= number - _SLICES:
            self._taken.popleft()
