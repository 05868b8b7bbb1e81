"""Reading mail.rates: what the rates agent has counted, all source partitions added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from aiokafka import TopicPartition

from depesche.analytics.log.client import full_name, reader
from depesche.schemas.codec import decode
from depesche.schemas.rates import Grain
from depesche.schemas.records import RateSum
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RATES


async def read_sums(settings: Settings, since: int = 0) -> dict[str, RateSum]:
    """What mail.rates says now, by record key: the newest sum of each grain and source partition.

    Args:
        settings: where the log is.
        since: only what was said at or after this time, in milliseconds since 1970 UTC. A sum is said after its minute has
            begun, so the sums of all minutes from then on are among them.
    """
    consumer = reader(settings, "rates-reader")
    try:
        await consumer.start()
        partition = TopicPartition(full_name(settings.kafka, RATES.name), 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        if since > 0:
            first = (await consumer.offsets_for_times({partition: since}))[partition]
            consumer.seek(partition, first.offset if first else end)
        else:
            await consumer.seek_to_beginning(partition)
        newest: dict[str, bytes] = {}
        while await consumer.position(partition) < end:
            for record in (await consumer.getmany(timeout_ms=500)).get(partition, []):
                if record.value is not None:
                    newest[record.key.decode()] = record.value
        return {key: decode(RateSum, value) for key, value in newest.items()}
    finally:
        await consumer.stop()


def grain_of_sum(entry: RateSum) -> Grain:
    """What a sum counts."""
    return Grain(entry.type.value, entry.kind, entry.late, entry.tenant, entry.provider, entry.minute)


def totals(sums: Mapping[str, RateSum]) -> Counter[Grain]:
    """Count per grain, the source partitions added up."""
    result: Counter[Grain] = Counter()
    for entry in sums.values():
        result[grain_of_sum(entry)] += entry.count
    return result
