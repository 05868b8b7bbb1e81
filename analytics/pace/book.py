"""The pace in force, followed in memory: what couriers ask before each attempt.

What is decided holds for all couriers together. A route (pool, provider, shard) is owned by one courier, and whoever asks takes
an equal part of rate and connections for each of the provider's shards (``Pace.part``), so no courier need know of another.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from depesche.analytics.log.client import full_name, reader
from depesche.schemas.codec import decode
from depesche.schemas.errors import LogUnavailableError, UndecodableError
from depesche.schemas.pace import UNLIMITED, Pace
from depesche.schemas.records import PaceState
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import PACE

log = structlog.get_logger(__name__)

START_SECONDS = 30.0


class PaceBook:
    """Follows mail.pace; a ``PaceView``."""

    def __init__(self, settings: Settings, clock: Clock = now_ms) -> None:
        """Prepare to follow."""
        self._settings = settings
        self._clock = clock
        self._states: dict[tuple[str, str], PaceState] = {}
        self._paces: dict[tuple[str, str], tuple[int, Pace]] = {}
        self._partition = TopicPartition(full_name(settings.kafka, PACE.name), 0)
        self._consumer: AIOKafkaConsumer | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read to the end, then go on following in the background.

        Raises:
            LogUnavailableError: it could not be read within half a minute.
        """
        consumer = self._consumer = reader(self._settings, "pace-book")
        await consumer.start()
        consumer.assign([self._partition])
        await consumer.seek_to_beginning(self._partition)
        end = (await consumer.end_offsets([self._partition]))[self._partition]
        try:
            async with asyncio.timeout(START_SECONDS):
                while await consumer.position(self._partition) < end:
                    self._take_all(await consumer.getmany(timeout_ms=500))
        except TimeoutError as fault:
            raise LogUnavailableError(f"{PACE.name} was not read up to {end}") from fault
        self._following = asyncio.create_task(self._follow(consumer), name="pace book")

    async def stop(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError, KafkaError):
                await self._following
        if self._consumer is not None:
            await self._consumer.stop()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            self._take_all(await consumer.getmany(timeout_ms=1000))

    def _take_all(self, batches: dict[TopicPartition, list[ConsumerRecord[bytes, bytes | None]]]) -> None:
        for record in batches.get(self._partition, []):
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
