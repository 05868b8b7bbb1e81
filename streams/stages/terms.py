"""What holds for a route now: the shape from the files, the pace that all couriers keep, and the route's own restraint.

The stricter of the three counts, always. Shape and pace are for a provider as a whole and are divided by its shards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from depesche.schemas.pace import PaceView
from depesche.schemas.service import Clock
from depesche.streams.mail.reply import Judgement
from depesche.streams.mail.restraint import Restraint
from depesche.streams.mail.shaping.shape import Shape
from depesche.streams.stages.connections import OwnAddresses
from depesche.streams.stages.turnstile import Turnstile
from depesche.streams.stages.warming import Warming

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Guidance:
    """How to send to whom, as it is now.

    Attributes:
        shapes: the shape of a provider.
        pace: the pace that all couriers keep; None: none is kept.
        own: the own addresses of an egress pool; None: what the settings say.
        warming: which own addresses may send how much today; None: all may as much as they like.
    """

    shapes: Callable[[str], Shape]
    pace: PaceView | None = None
    own: OwnAddresses | None = None
    warming: Warming | None = None


class RouteTerms:
    """The terms of one route.

    Attributes:
        shape: what the shaping files say about its provider.
        turnstile: lets couriers pass at the rate in force.
        connections: how many couriers the route may have.
        pool: the egress pool it leaves from.
        provider: the mailbox provider it leads to.
    """

    def __init__(
        self,
        route: str,
        guidance: Guidance,
        time_scale: float,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        """Prepare, and look once.

        Args:
            route: ``pool/provider/shard``.
            guidance: shapes and pace.
            time_scale: multiplies the minutes of rates and every suspension, as it does the ladder's delays.
            clock: milliseconds since 1970 UTC.
            monotonic: monotonic seconds.
        """
        self._route = route
        self.pool, self.provider, _ = route.split("/")
        self._guidance = guidance
        self._scale = time_scale
        self._clock = clock
        self._monotonic = monotonic
        self._restraint = Restraint(time_scale)
        self._paced_until = 0.0
        self._pace_reason = ""
        self.turnstile = Turnstile(None, monotonic)
        self.refresh()

    def refresh(self) -> None:
        """Take in what files, pace and time have changed; called every second."""
        now = self._monotonic()
        shape = self.shape = self._guidance.shapes(self.provider)
        own = self._restraint.per_minute(now)
        limits = [limit for limit in (self._scaled(shape.per_minute, shape.shards), self._scaled(own, 1)) if limit]
        connections = shape.connections
        if self._guidance.pace is not None:
            pace = self._guidance.pace.pace(self.pool, self.provider)
            self._paced_until = now + (pace.suspended_until - self._clock()) / 1000 if pace.suspended_until else 0.0
            self._pace_reason = pace.reason
            connections = min(connections, pace.connections if pace.connections is not None else connections)
            if pace.per_minute is not None:
                limits.append(max(pace.per_minute, 0.01) / 60 / shape.shards)
        self.connections = max(1, connections // shape.shards)
        self.turnstile.set_rate(min(limits) if limits else None)

    def _scaled(self, per_minute: float | None, shards: int) -> float | None:
        return per_minute / 60 / self._scale / shards if per_minute is not None else None

    def suspended_for(self, now: float) -> float:
        """Seconds for which nobody may try this route; 0 when it is open."""
        return max(0.0, self._restraint.suspended_until - now, self._paced_until - now)

    @property
    def reason(self) -> str:
        """Why the route is held back, as the class of the answers or the name of a rule; empty when nothing was heard."""
        return self._restraint.reason or self._pace_reason

    def reopen(self) -> None:
        """Somebody wants it tried now: what the route held itself to is over, what all couriers keep is not."""
        self._restraint.resume()

    def learn(self, judgement: Judgement, code: int) -> bool:
        """An attempt ended like this; whether the terms have become stricter by it."""
        now = self._monotonic()
        if judgement.verdict == "delivered":
            self._restraint.taken(now)
            return False
        if not code or not self._restraint.refused(judgement, code, self.shape.suspends, now):
            return False
        self.refresh()
        self.turnstile.hold()
        log.warning(
            "route_restrained",
            route=self._route,
            reason=self.reason,
            per_minute=round(60 / self.turnstile.interval, 2) if self.turnstile.interval else None,
            suspended_seconds=round(self.suspended_for(now), 1),
        )
        return True
