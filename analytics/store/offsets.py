"""How far the log has been written into the store, kept in the store itself: there it is true or lost with the rows."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from depesche.analytics.store.client import StoreClient

Place = tuple[str, int]
"""A topic's name, without prefix, and a partition."""

_STORED = "SELECT topic, partition, max(next_offset) FROM sink_offsets GROUP BY topic, partition"


async def stored_offsets(client: StoreClient) -> dict[Place, int]:
    """For each partition the first offset whose record may not be in the store yet.

    Raises:
        StoreUnavailableError: ClickHouse does not answer, or has no tables yet.
    """
    found = await client.query(_STORED)
    return {(str(topic), int(partition)): int(offset) for topic, partition, offset in found.rows}


async def note_offsets(client: StoreClient, offsets: Mapping[Place, int]) -> None:
    """Note that everything below these offsets is in the store.

    Raises:
        StoreUnavailableError: not noted, or nobody knows; noting it again does no harm.
    """
    if not offsets:
        return
    rows = sorted((topic, partition, offset) for (topic, partition), offset in offsets.items())
    topics, partitions, following = zip(*rows, strict=True)
    columns = pa.table(
        {
            "topic": pa.array(topics, pa.string()),
            "partition": pa.array(partitions, pa.uint16()),
            "next_offset": pa.array(following, pa.uint64()),
        }
    )
    await client.insert("sink_offsets", columns, ",".join(f"{t}/{p}={o}" for t, p, o in rows))
