"""What is known of the attempts in the partitions that a courier process owns: read back when they come, dropped when they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.structs import TopicPartition

from depesche.analytics.log.client import full_name
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RETRY
from depesche.streams.mail.attempt_memory import WINDOW, AttemptMemory, Known
from depesche.streams.stages.attempt_log import AttemptLog
from depesche.streams.stages.attempt_recall import AttemptRecall, Recalled
from depesche.streams.stages.trail import header, written_since

_SLACK_MS = 2_000
"""How far the clocks of broker and couriers may be apart."""


class Memories:
    """The memory of each partition that is ours now."""

    def __init__(self, settings: Settings, recall: AttemptRecall) -> None:
        """Prepare; nothing is known before ``renew``.

        Args:
            settings: where the log is.
            recall: reads attempts back.
        """
        self._settings = settings
        self._recall = recall
        self._memories: dict[int, AttemptMemory] = {}
        self._on_the_ladder: dict[int, set[str]] = {}

    async def renew(self, numbers: Sequence[int], marks: AttemptLog) -> None:
        """Forget what is no longer ours, and read back all that is; until then nothing may be sent.

        Args:
            numbers: the partitions that are ours now.
            marks: where attempts are written; told what was read.
        """
        marks.forget([number for number in self._memories if number not in numbers])
        self._memories, self._on_the_ladder = {}, {}
        if not numbers:
            return
        recalled = await self._recall.recall(numbers, marks)
        self._memories = {number: found.memory for number, found in recalled.items()}
        self._on_the_ladder = {number: await self._passed_on(number, found) for number, found in recalled.items()}

    async def _passed_on(self, number: int, recalled: Recalled) -> set[str]:
        if recalled.passed_on_since is None:
            return set()
        names = [full_name(self._settings.kafka, topic.name) for topic in RETRY.values()]
        partitions = [TopicPartition(name, number) for name in names]
        since = max(0, recalled.passed_on_since - _SLACK_MS)
        return await written_since(self._settings, partitions, since, lambda record: header(record, "unit"))

    def of(self, number: int) -> AttemptMemory:
        """What is known of the units of a partition.

        Raises:
            KeyError: it is not ours.
        """
        return self._memories[number]

    def learn(self, number: int, unit_id: str, known: Known) -> None:
        """Remember how an attempt ended, as long as its partition is ours."""
        memory = self._memories.get(number)
        if memory is not None:
            memory.learn(unit_id, known)

    def on_the_ladder(self, number: int) -> set[str]:
        """The units of a partition that a killed courier had put on the ladder before it could say so."""
        return self._on_the_ladder.get(number, set())

    async def move_low_waters(self, committed: Mapping[TopicPartition, int], marks: AttemptLog) -> None:
        """Forget what cannot be repeated any more, and let the next reading back begin behind it.

        Args:
            committed: what our group has committed in mail.outbound.
            marks: knows where attempts stand.
        """
        low_waters = {}
        for partition, offset in committed.items():
            memory = self._memories.get(partition.partition)
            if memory is not None:
                memory.forget_below(offset - WINDOW)
                low = marks.low_water(partition.partition, offset - WINDOW)
                if low is not None:
                    low_waters[partition.partition] = low
        await self._recall.commit(low_waters)
