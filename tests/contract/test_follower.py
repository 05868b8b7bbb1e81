"""Who follows a topic hears news again after the log has refused it, unless somebody must not go on without."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.errors import TopicAuthorizationFailedError

from depesche.analytics.log.client import full_name, producer
from depesche.analytics.log.follower import Follower
from depesche.analytics.log.topics import create_missing
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import CONTROLS


@pytest_asyncio.fixture
async def settings(kafka_broker: KafkaBroker, tmp_path: Path) -> Settings:
    made = Settings(
        home=tmp_path, kafka=KafkaSettings(bootstrap=kafka_broker.bootstrap_servers, topic_prefix="follow.")
    )
    await create_missing(made)
    return made


@pytest_asyncio.fixture
async def heard(settings: Settings) -> AsyncIterator[tuple[Follower, list[bytes | None]]]:
    values: list[bytes | None] = []
    follower = Follower(settings, CONTROLS, lambda record: values.append(record.value))
    await follower.start()
    values.clear()
    yield follower, values
    await follower.stop()


def _refuse_once(follower: Follower) -> None:
    """The client says what it says when the right to read a topic was taken away."""
    consumer: Any = follower._consumer
    getmany = consumer.getmany

    async def refused(**options: Any) -> Any:
        consumer.getmany = getmany
        raise TopicAuthorizationFailedError(CONTROLS.name)

    consumer.getmany = refused


async def _say(settings: Settings, value: bytes) -> int:
    out = producer(settings, "test")
    await out.start()
    try:
        told = await out.send_and_wait(full_name(settings.kafka, CONTROLS.name), value, key=value, partition=0)
        return int(told.offset)
    finally:
        await out.stop()


async def test_news_are_heard_again_after_a_refusal(
    settings: Settings, heard: tuple[Follower, list[bytes | None]]
) -> None:
    follower, values = heard
    _refuse_once(follower)
    await follower.wait_for(await _say(settings, b"before"), 30)
    await follower.wait_for(await _say(settings, b"after"), 30)
    assert values == [b"before", b"after"]


async def test_whoever_watches_hears_of_the_refusal(heard: tuple[Follower, list[bytes | None]]) -> None:
    follower, _ = heard
    watching = asyncio.create_task(follower.watch())
    await asyncio.sleep(0)
    _refuse_once(follower)
    with pytest.raises(TopicAuthorizationFailedError):
        async with asyncio.timeout(30):
            await watching
