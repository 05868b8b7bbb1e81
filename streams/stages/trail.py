"""What a killed predecessor had already passed on: read from the end of the topic it wrote to.

Whoever takes a record and writes a follower into another topic can be killed in between writing and committing. Its successor
reads the record again; before it writes a second follower it looks whether the first one is there. That keeps each unit one
record on its way, however long a stage was down.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from aiokafka.structs import ConsumerRecord, TopicPartition

from depesche.analytics.log.client import reader
from depesche.schemas.settings import Settings

_K = TypeVar("_K")


def header(record: ConsumerRecord[bytes | None, bytes | None], name: str) -> str:
    """The value of a header of ours, empty when the record has none."""
    return next((value.decode("utf-8", "replace") for key, value in record.headers if key == name), "")


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
        consumer.assign(list(partitions))
        begin = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
        end = await consumer.end_offsets(list(partitions))
        # None: nothing that young is there.
        open_ = {p for p in partitions if begin.get(p) is not None and begin[p].offset < end[p]}
        consumer.assign(list(open_))
        for partition in open_:
            consumer.seek(partition, begin[partition].offset)
        while open_:
            for records in (await consumer.getmany(*open_, timeout_ms=1000)).values():
                found.update(key(record) for record in records)
            open_ = {p for p in open_ if await consumer.position(p) < end[p]}
    finally:
        await consumer.stop()
    return found
