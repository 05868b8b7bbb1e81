"""Reading what was decided about the pace and why: mail.pace, its history, and the signals behind it; and one order to write."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from depesche.analytics.log.client import acknowledged, full_name, reader
from depesche.schemas import cloudevents
from depesche.schemas.codec import Record, decode, encode
from depesche.schemas.records import PaceEffect, PaceSignal, PaceState
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import PACE, PACE_HISTORY, PACE_SIGNALS, Topic

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Told:
    """What the log holds about the pace.

    Attributes:
        signals: all that are still there, in their order.
        whole: whether the first one ever is among them.
        history: all decisions that are still there, one of each id, in their order.
        newest: the decision that stands for each pool and provider.
    """

    signals: list[PaceSignal]
    whole: bool
    history: list[PaceState]
    newest: dict[tuple[str, str], PaceState]


async def read_told(settings: Settings) -> Told:
    """Signals and decisions up to now. Decisions are read first, so that none is without its signals."""
    async with _reading(settings) as consumer:
        newest, _ = await _all(settings, consumer, PACE, PaceState)
        history, _ = await _all(settings, consumer, PACE_HISTORY, PaceState)
        signals, first = await _all(settings, consumer, PACE_SIGNALS, PaceSignal)
    return Told(signals, first == 0, _once(history), {(one.pool, one.provider): one for one in newest})


async def read_newest(settings: Settings) -> dict[tuple[str, str], PaceState]:
    """The decision that stands for each pool and provider."""
    async with _reading(settings) as consumer:
        newest, _ = await _all(settings, consumer, PACE, PaceState)
    return {(one.pool, one.provider): one for one in newest}


async def read_history(settings: Settings) -> list[PaceState]:
    """All decisions that are still there, one of each id, in their order."""
    async with _reading(settings) as consumer:
        history, _ = await _all(settings, consumer, PACE_HISTORY, PaceState)
    return _once(history)


async def give_order(
    settings: Settings, producer: AIOKafkaProducer, pool: str, provider: str, by: str, clock: Clock = now_ms
) -> str:
    """Order that every limit of a pool at a provider ends now; gives the order's id when the log has it.

    Raises:
        LogUnavailableError: it does not in time; whether the order was given is then unknown.
    """
    order = PaceSignal(
        event_id=str(uuid.uuid4()), pool=pool, provider=provider, at=clock(), effect=PaceEffect.ORDER, by=by
    )
    sent = await producer.send(
        full_name(settings.kafka, PACE_SIGNALS.name),
        encode(order),
        key=f"{pool}/{provider}".encode(),
        partition=0,
        headers=cloudevents.headers(order.event_id, "email.pace.order", provider, order.at),
    )
    await acknowledged(sent, settings.kafka.deadline_seconds)
    return order.event_id


@asynccontextmanager
async def _reading(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = reader(settings, "pace-reader")
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def _all(settings: Settings, consumer: AIOKafkaConsumer, topic: Topic, kind: type[R]) -> tuple[list[R], int]:
    """All records of a topic of one partition, and the offset that it begins with."""
    partition = TopicPartition(full_name(settings.kafka, topic.name), 0)
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    first = (await consumer.beginning_offsets([partition]))[partition]
    end = (await consumer.end_offsets([partition]))[partition]
    found: list[R] = []
    while await consumer.position(partition) < end:
        for record in (await consumer.getmany(timeout_ms=500)).get(partition, []):
            if record.value is not None and record.offset < end:
                found.append(decode(kind, record.value))
    return found, first


def _once(history: list[PaceState]) -> list[PaceState]:
    """Each decision once: one that was said again after a kill has the same id."""
    return list({one.decision_id: one for one in history}.values())
