"""Whether the log can be written, asked each second, so that an outage is answered at once and its end is noticed."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

log = structlog.get_logger(__name__)

PROBE_SECONDS = 1.0
PROBE_DEADLINE_SECONDS = 2.0


class Gate(Protocol):
    """Something that tells a door whether to greet at all."""

    ready: bool


async def watch_log(producer: AIOKafkaProducer, gate: Gate) -> None:
    """Set ``gate.ready`` to whether the cluster gives its metadata, until cancelled."""
    while True:
        await asyncio.sleep(PROBE_SECONDS)
        try:
            async with asyncio.timeout(PROBE_DEADLINE_SECONDS):
                metadata = await producer.client.fetch_all_metadata()
            alive = bool(metadata.brokers())
        except (KafkaError, TimeoutError, OSError):
            alive = False
        if alive is not gate.ready:
            log.warning("log_writable" if alive else "log_not_writable")
        gate.ready = alive
