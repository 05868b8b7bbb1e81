"""A lane: the units that wait for one set of hosts, and what is known of how fast it moves.

The rule by which one slow provider holds up nobody else: a unit may wait in its lane only as long as waiting is shorter than the
first rung of the ladder. In a lane that stands, or that backs off, it does not wait at all. So what a slow lane keeps is at most
what it can send in that time, and a unit moved to the ladder loses nothing by it. That costs one hop per unit and rung, spread
by the unit's age (``ladder.without_attempt``); nothing spins.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from depesche.schemas.records import MailUnit
from depesche.streams.mail.shaping.shape import Shape
from depesche.streams.mail.tls_policy import Asked
from depesche.streams.stages.errand import Errand
from depesche.streams.stages.fair_queue import FairQueue
from depesche.streams.wire.dns import Hosts

if TYPE_CHECKING:
    from depesche.streams.stages.courier import Courier

STILL_SECONDS = 2.0
"""A lane with work in which nothing ended for so long counts as standing."""
_FIRST_GUESS = 0.01
_MEMORY_SECONDS = 10.0
"""How far back the speed of a lane is looked at. One halt of a second is no new speed."""
_BACK_OFF_SECONDS = 15.0
_LONGEST_BACK_OFF = 600.0
_FEWER_SECONDS = 60.0


def asked_tls(unit: MailUnit, shape: Shape) -> Asked:
    """What is asked of TLS: the stricter of unit and shape. A word that is not known here is taken for the stricter one."""
    return "may" if unit.tls == "may" and shape.tls == "may" else "must"


def lane_key(tls: Asked, hosts: Hosts) -> str:
    """Names a lane: units with the same key may follow each other on one connection."""
    return f"{tls} {hosts.key}"


class Lane:
    """One set of hosts within a route, under one TLS policy: what must be encrypted never shares a connection with what may be.

    Attributes:
        key: see ``lane_key``.
        hosts: who they are, as last resolved.
        tls: what its units ask of TLS.
        queue: units that wait, tenants in turn.
        idle: couriers with a connection and nothing to do.
        couriers: how many couriers it has.
        under_way: how many of them are in a transaction or opening.
        gap: seconds between two units that the rate in force leaves at least.
    """

    def __init__(self, key: str, hosts: Hosts, now: float, tls: Asked = "may") -> None:
        self.key = key
        self.hosts = hosts
        self.tls = tls
        self.queue = FairQueue()
        self.idle: list[Courier] = []
        self.couriers = 0
        self.under_way = 0
        self.gap = 0.0
        self.last_answer = self.last_enhanced = ""
        # A first guess that weighs as much as one second.
        self._spent, self._ended = 1.0, 1.0 / _FIRST_GUESS
        self._moved = now
        self._failures = 0
        self._closed_until = 0.0
        self._fewer: tuple[int, float] = (0, 0.0)

    def add(self, errand: Errand, now: float) -> None:
        """A unit begins to wait."""
        if not self.queue and not self.under_way:
            # The lane was empty: it did not stand, it had nothing to do.
            self._moved = now
        self.queue.append(errand)

    def moved(self, now: float) -> None:
        """A transaction ended, however it did."""
        passed = min(now - self._moved, 60.0)
        kept = math.exp(-passed / _MEMORY_SECONDS)
        self._spent = self._spent * kept + passed
        self._ended = self._ended * kept + 1
        self._moved = now
        self._failures = 0

    def wait_expected(self, now: float, tenant: str) -> float:
        """Seconds that a unit of this tenant which came now would wait."""
        still = now - self._moved
        usual = self._spent / self._ended
        interval = max(usual, still) if still > self._patience else usual
        return self.queue.before(tenant) * max(interval, self.gap)

    def stands(self, now: float) -> bool:
        """Whether there is work and nothing ended for longer than the rate in force explains."""
        return bool(self.under_way or self.queue) and now - self._moved > self._patience

    @property
    def _patience(self) -> float:
        return max(STILL_SECONDS, 3 * self.gap)

    def closed(self, now: float) -> bool:
        """Whether the lane backs off."""
        return now < self._closed_until

    def limit(self, now: float) -> int:
        """How many couriers it may have for reasons of its own: one probe after failures, fewer after a 421."""
        if self._failures:
            return 1
        fewer, until = self._fewer
        return fewer if now < until else 1_000_000

    def refused_one_more(self, open_: int, now: float) -> None:
        """The hosts refused a connection while ``open_`` others stand: that many are enough for now."""
        self._fewer = (max(1, open_), now + _FEWER_SECONDS)

    def back_off(self, now: float, time_scale: float) -> float:
        """No connection could be opened and none stands; gives the seconds for which nobody tries."""
        self._failures += 1
        seconds = min(_LONGEST_BACK_OFF, _BACK_OFF_SECONDS * 2.0 ** (self._failures - 1))
        # Spread, so that lanes that failed together do not come back together.
        seconds *= random.uniform(0.8, 1.2) * time_scale  # noqa: S311 - keeps no secret
        self._closed_until = now + seconds
        return seconds

    def reopen(self) -> None:
        """Somebody wants it tried now, whatever happened before."""
        self._closed_until = 0.0

    @property
    def empty(self) -> bool:
        """Whether it can be forgotten, but for what it remembers of failures."""
        return not (self.queue or self.couriers)

    def forgettable(self, now: float) -> bool:
        """Whether nothing waits, works, or needs to be remembered."""
        return self.empty and now - max(self._moved, self._closed_until, self._fewer[1]) > _FEWER_SECONDS
