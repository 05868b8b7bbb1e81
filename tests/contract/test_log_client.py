"""Readers of the log wait long for news, and still get an answer at once when they ask for something else."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.protocol.fetch import FetchRequest

from depesche.analytics.log.client import answered, full_name, producer, reader
from depesche.analytics.log.topics import create_missing
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.errors import LogUnavailableError
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import ALERTS

FOREVER_MS = 600_000


async def test_a_question_about_offsets_is_answered_while_a_fetch_waits_for_news(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path, kafka=KafkaSettings(bootstrap=kafka_broker.bootstrap_servers, topic_prefix="client.")
    )
    await create_missing(settings)
    place = TopicPartition(full_name(settings.kafka, ALERTS.name), 0)
    consumer, out, fetching = reader(settings, "test"), producer(settings, "test"), asyncio.Event()
    await consumer.start()
    await out.start()
    try:
        _wait_for_ever(consumer, fetching)
        consumer.assign([place])
        consumer.seek(place, 0)
        waiting = asyncio.ensure_future(consumer.getmany(timeout_ms=60_000))
        async with asyncio.timeout(30):
            await fetching.wait()
            assert await consumer.end_offsets([place]) == {place: 0}
            await out.send_and_wait(place.topic, b"news", partition=0)
            [record] = (await waiting)[place]
        assert record.value == b"news"
    finally:
        await consumer.stop()
        await out.stop()


def _wait_for_ever(consumer: Any, fetching: asyncio.Event) -> None:
    """Without news its fetches would outlast the test; say when the first is on its way."""
    consumer._fetcher._fetch_max_wait_ms = FOREVER_MS
    client = consumer._client
    send = client.send

    async def told(node_id: int, request: object, **options: Any) -> Any:
        answer = asyncio.ensure_future(send(node_id, request, **options))
        if isinstance(request, FetchRequest):
            await asyncio.sleep(0.1)
            fetching.set()
        return await answer

    client.send = told


async def test_a_client_that_does_not_answer_is_given_up() -> None:
    with pytest.raises(LogUnavailableError, match="has not answered"):
        await answered(asyncio.Event().wait(), 0.01)
