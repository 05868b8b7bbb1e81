"""Faust's Kafka transport, with its way back to the committed offsets made whole.

When Faust has restored its tables, it opens the source partitions, seeks to the committed offsets and then lets the flow of
messages begin, which empties the agents' queues. Three things go wrong in between, and a worker that is killed and started
again loses records by each of them (found by killing; tests/contract/test_faust_contract.py holds the first):

- aiokafka's ``seek_to_committed`` leaves a partition alone that has no committed offset or stands at 0.
- The fetcher is running already. What it brings between the opening of the partitions and the beginning of the flow lies in
  the queues that are then emptied, and the position is behind it.
- A fetch that began before the seek can bring its records after it, later ones before earlier ones; to a fold with a
  watermark the earlier ones are then old.

So here the flow is stopped first, a fetch under way is waited for and its records are dropped, then every partition is set to
where it must go on: behind what is committed, or at its beginning. Nothing is taken from the log before Faust lets it flow.

The consumer also asks the broker to gather records for a moment, as the batch sink does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

FETCH_WAIT_MS: Final = 250
FETCH_ENOUGH: Final = 1 << 16
"""Nobody waits for a fold by the millisecond: records come by tens, which saves requests, wake-ups and changelog writes."""


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Lets the broker gather records; Faust has no setting for that."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_min_bytes, consumer._fetch_max_wait_ms = FETCH_ENOUGH, FETCH_WAIT_MS
        return consumer


class Consumer(driver.Consumer):
    """Takes nothing from the log while it goes back, and goes back in every partition."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._taking = asyncio.Lock()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        async with self._taking:
            return await super()._getmany(active_partitions, timeout)

    def committed(self) -> Mapping[TopicPartition, int]:
        """The offsets that this worker has committed, as far as it knows."""
        return {
            TopicPartition(*place): offset for place, offset in self._committed_offset.items() if offset is not None
        }

    async def perform_seek(self) -> None:
        """Every partition to where it must go on. Faust's callers start the flow again themselves."""
        self.stop_flow()
        async with self._taking:
            await super().perform_seek()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Every partition to its committed offset, or to its beginning when there is none; returns what is committed."""
        committed = await super().seek_to_committed()
        changelogs = self.app.tables.changelog_topics
        fresh = [place for place in self.assignment() if place.topic not in changelogs and not committed.get(place)]
        if fresh:
            await self.seek_wait(await self.earliest_offsets(*fresh))
        return committed


class Transport(driver.Transport):
    """The transport with that consumer."""

    Consumer = Consumer
