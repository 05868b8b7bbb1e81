"""Reading mail.tls: how many sessions ended how, all counters added up by whoever makes a report of them."""

from __future__ import annotations

from aiokafka import TopicPartition

from depesche.analytics.log.client import full_name, reader
from depesche.schemas.codec import decode
from depesche.schemas.records import TLSCount
from depesche.schemas.settings import Settings
from depesche.schemas.topics import TLS


async def read_tls_counts(settings: Settings, day: str) -> list[TLSCount]:
    """The newest count of each kind of session on a day (UTC, as 2026-11-27).

    Raises:
        KafkaError: the log does not answer.
    """
    consumer = reader(settings, "tls-reader")
    try:
        await consumer.start()
        partition = TopicPartition(full_name(settings.kafka, TLS.name), 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        counts: dict[bytes, TLSCount] = {}
        while await consumer.position(partition) < end:
            for record in (await consumer.getmany(timeout_ms=500)).get(partition, []):
                if record.value is not None:
                    counts[record.key] = decode(TLSCount, record.value)
        return [count for count in counts.values() if count.day == day]
    finally:
        await consumer.stop()
