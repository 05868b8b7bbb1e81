"""Reads and writes mail.sweeps, the memory of which records an order has brought back from the ladder before their time."""

from __future__ import annotations

from collections.abc import Collection

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from depesche.analytics.log.client import full_name, reader
from depesche.schemas.codec import decode, encode
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import SweepMark, SweepPhase
from depesche.schemas.service import Clock
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RETRY, SWEEPS
from depesche.streams.mail.sweeps import Swept
from depesche.streams.stages.trail import stopped

log = structlog.get_logger(__name__)

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
        found = {partition: Swept() for partition in partitions}
        by_place = {(self._rungs[p.topic], p.partition): swept for p, swept in found.items()}
        places = [TopicPartition(self._topic, number) for number in sorted({p.partition for p in partitions})]
        consumer = reader(self._settings, "depesche-sweeps")
        await consumer.start()
        try:
            first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            left = {place for place in places if first[place] < end[place]}
            if left:
                consumer.assign(list(left))
                await consumer.seek_to_beginning(*left)
            while left:
                for records in (await consumer.getmany(*left, timeout_ms=1000)).values():
                    for record in records:
                        self._learn(by_place, record.partition, record.value or b"")
                left = {place for place in left if await consumer.position(place) < end[place]}
        finally:
            await stopped(consumer)
        return found

    @staticmethod
    def _learn(by_place: dict[tuple[str, int], Swept], number: int, value: bytes) -> None:
        try:
            mark = decode(SweepMark, value)
        except UndecodableError as fault:
            log.error("sweep_unreadable", partition=number, cause=str(fault))
            return
        swept = by_place.get((mark.rung, number))
        if swept is not None:
            swept.learn(mark)
