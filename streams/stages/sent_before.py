"""Which units a killed predecessor had already sent out, so that a job which is prepared twice sends none of them twice.

A job is prepared again when its worker died before it could commit. Its events repeat under the same ids and count once. A unit
must not repeat: what it is sent out *as* depends on what is true now, the provider that DNS tells, the shards, the domain's pool,
an operator's order. A second record on another route would meet a courier that knows nothing of the first, and that would be a
second copy which nobody counts (design section 5, promise 3). So before the first job of a partition is sent out, the end of
mail.outbound is read once, from the time of that job on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set

from aiokafka.structs import TopicPartition

from depesche.analytics.log.client import full_name
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTBOUND
from depesche.streams.runner.stage import Record
from depesche.streams.stages.trail import header, written_since

SLACK_MS = 10_000
"""By so much the clocks of a door and of a worker may differ."""
_UNIT = "ce_id"


class SentBefore:
    """Unit ids by partition of the jobs; read on first use, forgotten when the partitions change hands."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        """``partitions`` is how many mail.outbound has."""
        self._settings = settings
        name = full_name(settings.kafka, OUTBOUND.name)
        self._outbound = [TopicPartition(name, number) for number in range(partitions)]
        self._known: dict[tuple[str, int], asyncio.Future[set[str]]] = {}

    def forget(self) -> None:
        """Another worker may have sent units meanwhile: look again."""
        self._known = {}

    async def of(self, record: Record) -> Set[str]:
        """The units that stood in mail.outbound when the first job of this partition was taken, as far back as that job.

        Raises:
            KafkaError: the log does not answer; nothing may be sent before it does.
        """
        place = (record.topic, record.partition)
        reading = self._known.get(place)
        if reading is None:
            since = max(0, record.timestamp - SLACK_MS)
            reading = self._known[place] = asyncio.ensure_future(
                written_since(self._settings, self._outbound, since, lambda sent: header(sent, _UNIT))
            )
        return await asyncio.shield(reading)
