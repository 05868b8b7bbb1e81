"""Reading mail.rates: what the rates agent has counted, all source partitions added up."""

from __future__ import annotations

from aiokafka import TopicPartition

from depesche.analytics.log.client import full_name, reader
from depesche.schemas.codec import decode
from depesche.schemas.records import EventType, RateSum
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RATES


async def read_sums(settings: Settings) -> dict[str, RateSum]:
    """What mail.rates says now, by record key: the newest sum of each type, provider, minute and source partition."""
    consumer = reader(settings, "rates-reader")
    try:
        await consumer.start()
        partition = TopicPartition(full_name(settings.kafka, RATES.name), 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        sums: dict[str, RateSum] = {}
        while await consumer.position(partition) < end:
            for record in (await consumer.getmany(timeout_ms=500)).get(partition, []):
                if record.value is not None:
                    sums[record.key.decode()] = decode(RateSum, record.value)
        return sums
    finally:
        await consumer.stop()


def totals(sums: dict[str, RateSum]) -> dict[tuple[EventType, str, int], int]:
    """Count per outcome, provider and minute (its start in milliseconds since 1970 UTC)."""
    result: dict[tuple[EventType, str, int], int] = {}
    for entry in sums.values():
        key = (entry.type, entry.provider, entry.minute)
        result[key] = result.get(key, 0) + entry.count
    return result
