"""The memory of which records an order has brought back from the ladder before their time: writes mail.sweeps, reads it back."""

from __future__ import annotations

from collections.abc import Collection

from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from depesche.analytics.controls.sweeps import read_sweeps
from depesche.analytics.controls.swept import Swept
from depesche.analytics.log.client import full_name
from depesche.schemas.codec import encode
from depesche.schemas.records import SweepMark, SweepPhase
from depesche.schemas.service import Clock
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RETRY, SWEEPS

_AT_ONCE = 20_000
"""Offsets in one mark; a record of mail.sweeps stays below 200 KB."""


class SweepLog:
    """The marks of the sweeps, for one keeper of the ladder."""

    def __init__(self, settings: Settings, worker: str, clock: Clock) -> None:
        """``worker``: who writes. ``clock``: the time in milliseconds."""
        self._settings = settings
        self._worker = worker
        self._clock = clock
        self._topic = full_name(settings.kafka, SWEEPS.name)
        self._rungs = {full_name(settings.kafka, topic.name): rung for rung, topic in RETRY.items()}

    async def mark(
        self,
        producer: AIOKafkaProducer,
        partition: TopicPartition,
        sweeps: Collection[str],
        phase: SweepPhase,
        offsets: Collection[int] = (),
    ) -> None:
        """Write down a step of ``sweeps`` on a partition of the ladder; returns when it is acknowledged."""
        chosen = list(offsets)
        sent = []
        for start in range(0, max(1, len(chosen)), _AT_ONCE):
            for sweep in sweeps:
                mark = SweepMark(
                    sweep=sweep,
                    rung=self._rungs[partition.topic],
                    phase=phase,
                    offsets=tuple(chosen[start : start + _AT_ONCE]),
                    worker=self._worker,
                    at=self._clock(),
                )
                sent.append(await producer.send(self._topic, encode(mark), partition=partition.partition))
                if phase is SweepPhase.TAKEN:
                    # What was taken is taken, whichever order it was for.
                    break
        for one in sent:
            await one

    async def recall(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Swept]:
        """What is known of each of the ladder's ``partitions``, whose last keeper writes no more."""
        return await read_sweeps(self._settings, partitions)
