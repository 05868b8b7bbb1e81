"""Reads mail.sweeps back: which records of the ladder have gone back before their time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

import structlog
from aiokafka.structs import TopicPartition

from depesche.analytics.controls.swept import Swept
from depesche.analytics.log.client import full_name, reader
from depesche.schemas.codec import decode
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import SweepMark
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RETRY, SWEEPS

log = structlog.get_logger(__name__)

_STOP_SECONDS = 3.0


async def read_sweeps(settings: Settings, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Swept]:
    """What is known of each of the ladder's ``partitions`` (full topic names), up to now."""
    rungs = {full_name(settings.kafka, topic.name): rung for rung, topic in RETRY.items()}
    found = {partition: Swept() for partition in partitions}
    by_place = {(rungs[p.topic], p.partition): swept for p, swept in found.items()}
    topic = full_name(settings.kafka, SWEEPS.name)
    places = [TopicPartition(topic, number) for number in sorted({p.partition for p in partitions})]
    consumer = reader(settings, "depesche-sweeps")
    await consumer.start()
    try:
        first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        left = {place for place in places if first[place] < end[place]}
        if left:
            # Once and only once: the client cannot be stopped while it takes up another assignment.
            consumer.assign(list(left))
            await consumer.seek_to_beginning(*left)
        while left:
            for records in (await consumer.getmany(*left, timeout_ms=1000)).values():
                for record in records:
                    _learn(by_place, record.partition, record.value or b"")
            left = {place for place in left if await consumer.position(place) < end[place]}
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await consumer.stop()
    return found


def _learn(by_place: dict[tuple[str, int], Swept], number: int, value: bytes) -> None:
    try:
        mark = decode(SweepMark, value)
    except UndecodableError as fault:
        log.error("sweep_unreadable", partition=number, cause=str(fault))
        return
    swept = by_place.get((mark.rung, number))
    if swept is not None:
        swept.learn(mark)
