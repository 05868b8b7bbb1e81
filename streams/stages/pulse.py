"""Knows whether this process has stood still for so long that another may own its partitions by now.

A process that was stopped (SIGSTOP, a frozen machine) and goes on does not notice: its sockets still hold the replies, and the
group has given its partitions away. It must not finish what it began. Nothing can be taken back that is already in the far
side's hands; that is what the ``committing`` mark is for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from depesche.analytics.log.client import HEARTBEAT_MS, SESSION_MS
from depesche.schemas.errors import Outage

LONGEST_STILLNESS = (SESSION_MS - HEARTBEAT_MS) / 1000 - 1.0
"""Seconds: the broker gives up a member one session after its last heartbeat, which may have been a whole interval ago."""
_BEAT_SECONDS = 0.5


class StoodStillError(Outage):
    """The process was stopped for so long that its partitions may be another's."""

    code = "stood_still"
    title = "A worker stood still and was ended"


class Pulse:
    """A beat in the event loop. Once a beat was missed for too long, ``alive`` is False for good."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._missed = 0.0

    @property
    def alive(self) -> bool:
        """Whether the process has run without a long gap; asked right before anything that cannot be undone."""
        gap = self._clock() - self._last
        if gap > LONGEST_STILLNESS:
            self._missed = max(self._missed, gap)
        return self._missed == 0.0

    def beat(self) -> None:
        """The loop turns.

        Raises:
            StoodStillError: it had not turned for too long.
        """
        if not self.alive:
            raise StoodStillError(f"the event loop stood still for {self._missed:.1f} s")
        self._last = self._clock()

    async def run(self) -> None:
        """Beat until cancelled.

        Raises:
            StoodStillError: see ``beat``.
        """
        self._last = self._clock()
        while True:
            self.beat()
            await asyncio.sleep(_BEAT_SECONDS)
