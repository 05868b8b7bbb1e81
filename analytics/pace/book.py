"""The pace in force, followed in memory: what couriers ask before each attempt.

What is decided holds for all couriers together. A route (pool, provider, shard) is owned by one courier, and whoever asks takes
an equal part of rate and connections for each of the provider's shards (``Pace.part``), so no courier need know of another.
"""

from __future__ import annotations

import structlog
from aiokafka.structs import ConsumerRecord

from depesche.analytics.log.follower import Follower
from depesche.schemas.codec import decode
from depesche.schemas.errors import UndecodableError
from depesche.schemas.pace import UNLIMITED, Pace
from depesche.schemas.records import PaceState
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import PACE

log = structlog.get_logger(__name__)


class PaceBook(Follower):
    """Follows mail.pace; a ``PaceView``."""

    def __init__(self, settings: Settings, clock: Clock = now_ms) -> None:
        """Prepare to follow."""
        super().__init__(settings, PACE, self._read)
        self._clock = clock
        self._states: dict[tuple[str, str], PaceState] = {}
        self._paces: dict[tuple[str, str], tuple[int, Pace]] = {}

    def _read(self, record: ConsumerRecord[bytes, bytes | None]) -> None:
        try:
            if record.value is not None:
                self.apply(decode(PaceState, record.value))
        except UndecodableError as fault:
            log.error("pace_unreadable", offset=record.offset, cause=str(fault))

    def apply(self, state: PaceState) -> None:
        """Take in a decision; it replaces the one before."""
        pair = state.pool, state.provider
        self._states[pair] = state
        pace = Pace(state.per_minute, state.connections, state.suspended_until or 0, state.reason)
        ends_at = max(state.ends_at or 0, state.suspended_until or 0)
        if ends_at:
            self._paces[pair] = ends_at, pace
        else:
            self._paces.pop(pair, None)

    def pace(self, pool: str, provider: str) -> Pace:
        """See ``PaceView``: a decision whose time is over limits nothing."""
        held = self._paces.get((pool, provider))
        if held is None or self._clock() >= held[0]:
            return UNLIMITED
        return held[1]

    def states(self) -> list[PaceState]:
        """The newest decision of each pool and provider, whether or not it still limits anything; by name."""
        return [self._states[pair] for pair in sorted(self._states)]
