"""Producers and consumers made the one safe way.

Producers are idempotent with ``acks=all``: aiokafka then never gives up a batch by itself, so whoever must answer somebody
puts an own deadline around the wait. Consumers never commit by themselves and are static members of their group, so that a
killed worker's partitions come back at once instead of after a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import ConnectionGroup
from aiokafka.helpers import create_ssl_context
from aiokafka.protocol.fetch import FetchRequest

from depesche.schemas.errors import LogUnavailableError
from depesche.schemas.settings import KafkaSettings, Settings

T = TypeVar("T")

MAX_RECORD = 1 << 20
SESSION_MS = 10_000
HEARTBEAT_MS = 3_000
READER_WAIT_MS = 4_000
LOOK_ROUND_MS = 2_000
"""How often a consumer's fetching task wakes up without being called; news, assignments, pauses and their ends call it."""


def connection(settings: Settings) -> dict[str, Any]:
    """What every aiokafka client needs to reach the cluster: bootstrap servers, TLS and SASL."""
    kafka = settings.kafka
    values: dict[str, Any] = {"bootstrap_servers": settings.bootstrap, "security_protocol": kafka.security}
    if kafka.security in ("SSL", "SASL_SSL"):
        values["ssl_context"] = create_ssl_context(cafile=str(kafka.ca_file) if kafka.ca_file else None)
    if kafka.security.startswith("SASL"):
        values["sasl_mechanism"] = kafka.sasl_mechanism
        values["sasl_plain_username"] = kafka.sasl_user
        values["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return values


def full_name(kafka: KafkaSettings, name: str) -> str:
    """A topic's or group's name in the cluster, with the configured prefix."""
    return kafka.topic_prefix + name


def producer(settings: Settings, name: str, *, linger_ms: int = 2) -> AIOKafkaProducer:
    """An idempotent producer; call ``start`` and ``stop`` on it.

    Args:
        settings: where the cluster is.
        name: client id, for the broker's log.
        linger_ms: the least time between two requests to a broker. A lone record goes at once; what follows it within this time
            goes together. Each request costs the broker as much as several records. 0 where somebody waits for the answer.
    """
    return AIOKafkaProducer(
        **connection(settings),
        client_id=name,
        acks="all",
        enable_idempotence=True,
        linger_ms=linger_ms,
        max_batch_size=1 << 18,
        max_request_size=MAX_RECORD,
        request_timeout_ms=20_000,
        metadata_max_age_ms=60_000,
    )


def group_consumer(
    settings: Settings, group: str, member: str, *topics: str, fetch_wait_ms: int = 2_000
) -> AIOKafkaConsumer:
    """A consumer that is a static member of ``group`` and commits only when told.

    Args:
        settings: where the cluster is.
        group: group name, without prefix.
        member: name that this worker keeps over restarts; two live workers never share one.
        topics: topic names, without prefix.
        fetch_wait_ms: how long the broker may hold a fetch that has found nothing.
    """
    return AIOKafkaConsumer(
        *(full_name(settings.kafka, topic) for topic in topics),
        **connection(settings),
        client_id=f"{group}-{member}",
        group_id=full_name(settings.kafka, group),
        group_instance_id=f"{group}-{member}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
        max_poll_interval_ms=600_000,
        fetch_max_wait_ms=fetch_wait_ms,
        consumer_timeout_ms=LOOK_ROUND_MS,
        fetch_max_bytes=16 << 20,
        max_partition_fetch_bytes=4 << 20,
        isolation_level="read_committed",
    )


def reader(settings: Settings, name: str) -> AIOKafkaConsumer:
    """A consumer outside any group, for readers that assign partitions and seek by themselves.

    It waits long for news, because a process has many of them and each wait that ends in vain costs the broker and us. So
    its fetches go over a connection of their own: a broker answers one connection's requests one after the other, and who
    asks for offsets must not wait until a fetch has found something.
    """
    consumer = AIOKafkaConsumer(
        **connection(settings),
        client_id=name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=READER_WAIT_MS,
        consumer_timeout_ms=LOOK_ROUND_MS,
    )
    client = consumer._client
    send = client.send

    async def apart(node_id: int, request: object, *, group: int = ConnectionGroup.DEFAULT) -> Any:
        # The connection that a member of a group would have for its coordinator; this one has none.
        return await send(
            node_id, request, group=ConnectionGroup.COORDINATION if isinstance(request, FetchRequest) else group
        )

    client.send = apart
    return consumer


async def answered(asked: Awaitable[T], seconds: float) -> T:
    """What the log's client was asked for.

    Raises:
        LogUnavailableError: it did not answer in time, as one does that has lost its group for good; only a new one helps.
    """
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except TimeoutError as fault:
        raise LogUnavailableError(f"the log's client has not answered for {seconds:g} s") from fault


async def acknowledged(sent: asyncio.Future[Any], deadline_seconds: float) -> Any:
    """Wait until the log has acknowledged a record; the send itself goes on even if the waiter is cancelled.

    Raises:
        LogUnavailableError: no acknowledgement in time. Whether the record was written is then unknown.
    """
    try:
        return await asyncio.wait_for(asyncio.shield(sent), deadline_seconds)
    except TimeoutError as fault:
        raise LogUnavailableError("no acknowledgement within the deadline") from fault
