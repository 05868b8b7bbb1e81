"""What a killed predecessor had already passed on: read from the end of the topic it wrote to.

Whoever takes a record and writes a follower into another topic can be killed in between writing and committing. Its successor
reads the record again; before it writes a second follower it looks whether the first one is there. That keeps each unit one
record on its way, however long a stage was down.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from depesche.analytics.log.client import reader
from depesche.schemas.settings import Settings

_K = TypeVar("_K")
_STOP_SECONDS = 3.0


def header(record: ConsumerRecord[bytes | None, bytes | None], name: str) -> str:
    """The value of a header of ours, empty when the record has none."""
    return next((value.decode("utf-8", "replace") for key, value in record.headers if key == name), "")


async def stopped(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer; one that cannot be stopped is left behind, because its connections end with the process."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STOP_SECONDS):
            await consumer.stop()


async def written_since(
    settings: Settings,
    partitions: Collection[TopicPartition],
    since_ms: int,
    key: Callable[[ConsumerRecord[bytes | None, bytes | None]], _K],
) -> set[_K]:
    """The keys of all records with a time stamp at or after ``since_ms``, up to the present end of the partitions.

    Args:
        settings: where the log is.
        partitions: full topic names and partition numbers.
        since_ms: milliseconds since 1970 UTC, by the clock of whoever wrote.
        key: what to collect of each record.
    """
    found: set[_K] = set()
    consumer = reader(settings, "depesche-trail")
    await consumer.start()
    try:
        begin = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
        end = await consumer.end_offsets(list(partitions))
        # None: nothing that young is there.
        open_ = {p: begin[p].offset for p in partitions if begin.get(p) is not None and begin[p].offset < end[p]}
        if open_:
            # Once and only once: the client cannot be stopped while it takes up another assignment.
            consumer.assign(list(open_))
        for partition, offset in open_.items():
            consumer.seek(partition, offset)
        left = set(open_)
        while left:
            for records in (await consumer.getmany(*left, timeout_ms=1000)).values():
                found.update(key(record) for record in records)
            left = {p for p in left if await consumer.position(p) < end[p]}
    finally:
        await stopped(consumer)
    return found
