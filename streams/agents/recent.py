"""Which events were seen lately, so that an event that was written twice counts once.

A courier that dies between saying an outcome and committing says it again after its restart, under the same event id.
Readers deduplicate by it (design section 3). A fold needs no table for that: whether an event is a repetition is decided by
the records that stand shortly before it in its partition, and those can be read back after a restart.
"""

from __future__ import annotations

from collections import deque

from aiokafka import TopicPartition

from depesche.analytics.log.client import reader
from depesche.schemas.settings import Settings

WINDOW = 50_000
"""Records to look back. A stage repeats at most the span that its runner allows (20,000 by default)."""
_ID_HEADER = "ce_id"


class RecentEvents:
    """The event ids of the last records of one partition."""

    def __init__(self, window: int = WINDOW) -> None:
        self._order: deque[str] = deque()
        self._known: dict[str, int] = {}
        self._window = window

    def seen(self, event_id: str) -> bool:
        """Whether the event stands within the window already; it does from now on."""
        repeated = event_id in self._known
        self._known[event_id] = self._known.get(event_id, 0) + 1
        self._order.append(event_id)
        if len(self._order) > self._window:
            oldest = self._order.popleft()
            self._known[oldest] -= 1
            if not self._known[oldest]:
                del self._known[oldest]
        return repeated


async def read_back(settings: Settings, topic: str, partition: int, offset: int, window: int = WINDOW) -> RecentEvents:
    """The events that stand before ``offset``, by their CloudEvents header.

    Args:
        settings: where the log is.
        topic: its full name.
        partition: of it.
        offset: where the caller goes on.
        window: how many records to look back.
    """
    recent = RecentEvents(window)
    place = TopicPartition(topic, partition)
    consumer = reader(settings, "recent-events")
    await consumer.start()
    try:
        consumer.assign([place])
        begin = (await consumer.beginning_offsets([place]))[place]
        consumer.seek(place, max(begin, offset - window))
        while await consumer.position(place) < offset:
            for record in (await consumer.getmany(timeout_ms=1000)).get(place, []):
                if record.offset < offset:
                    recent.seen(dict(record.headers).get(_ID_HEADER, b"").decode())
        return recent
    finally:
        await consumer.stop()
