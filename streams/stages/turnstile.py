"""Lets couriers of a route pass one by one at the rate in force; who must wait is woken when it is his turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from depesche.streams.mail.bucket import Bucket


class Turnstile:
    """The rate of one route. Without a limit it costs a fraction of a microsecond."""

    def __init__(self, per_second: float | None, clock: Callable[[], float]) -> None:
        """Prepare.

        Args:
            per_second: attempts a second; None: no limit.
            clock: monotonic seconds, the loop's.
        """
        self._clock = clock
        self._bucket = Bucket(per_second, clock())
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @property
    def interval(self) -> float:
        """Seconds between two passes; 0 without a limit."""
        return 1.0 / self._bucket.per_second if self._bucket.per_second else 0.0

    def set_rate(self, per_second: float | None) -> None:
        """The rate from now on."""
        if per_second != self._bucket.per_second:
            self._bucket.set_rate(per_second, self._clock())
            self._again()

    def hold(self) -> None:
        """The next passes one interval from now, whatever had been saved up."""
        self._bucket.drain(self._clock())
        self._again()

    def passes(self) -> bool:
        """Whether one may pass now; then he has."""
        return not self._waiting and self._bucket.take(self._clock())

    async def turn(self) -> None:
        """Wait for one's turn, in the order of coming; then one has passed."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._arm()
        try:
            await waiting
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def _again(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._waiting:
            wait = self._bucket.wait(self._clock())
            self._timer = asyncio.get_running_loop().call_later(wait, self._release)

    def _release(self) -> None:
        self._timer = None
        while self._waiting and self._bucket.take(self._clock()):
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
        self._arm()
