"""The one broad ``except`` of the workshop: tells a bad record from a bad day.

A record that cannot be decided (damaged bytes, a bug that only it wakes) must not stop its partition: it is buried in
``mail.dead`` with its cause and its bytes. A fault of the infrastructure is nobody's record: it ends the process before
anything is committed past it, and the supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import PurePath
from typing import Any, ParamSpec

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from depesche.analytics.log.client import MAX_RECORD, full_name
from depesche.schemas.codec import encode
from depesche.schemas.errors import DepescheError, Outage
from depesche.schemas.records import DeadLetter
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import DEAD
from depesche.streams.runner.stage import Flight

log = structlog.get_logger(__name__)

P = ParamSpec("P")
_EXPLANATION = 2_000
_ROOM = MAX_RECORD - 8 * 1024
"""What of the original fits into a dead letter: the largest record, less the letter's own fields."""


def is_infrastructure(fault: BaseException) -> bool:
    """Whether ``fault`` says something about the machine, the network or the log, and nothing about a record."""
    return isinstance(fault, Outage | KafkaError | OSError | MemoryError)


def guarded(flight: Flight, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call ``work`` for ``flight``; whatever it raises ends the flight, not the caller."""
    try:
        work(*args, **kwargs)
    except Exception as fault:  # The guard: a bug in one record's way must not stop all the others.
        flight.fail(fault)


async def guarded_await(flight: Flight, work: Coroutine[Any, Any, None]) -> None:
    """Await ``work`` for ``flight``; the same as ``guarded`` for coroutines, without a task."""
    try:
        await work
    except Exception as fault:  # The guard: see ``guarded``.
        flight.fail(fault)


async def or_end(work: Awaitable[None], end: Callable[[Exception], None]) -> bool:
    """Await ``work`` for a caller that only logs what is raised (the Kafka client's callbacks); gives whether it went well.

    Args:
        work: what to await.
        end: is told what it raised, and ends the process with it.
    """
    try:
        await work
    except Exception as fault:  # The guard: not swallowed, only carried past the client to where it counts.
        end(fault)
        return False
    return True


class Undertaker:
    """Buries records in ``mail.dead`` and ends their flights once that is acknowledged."""

    def __init__(self, stage: str, settings: Settings, producer: AIOKafkaProducer, clock: Clock = now_ms) -> None:
        self._stage = stage
        self._topic = full_name(settings.kafka, DEAD.name)
        self._producer = producer
        self._clock = clock
        self._graves: asyncio.Queue[tuple[Flight, DeadLetter]] = asyncio.Queue()

    def bury(self, flight: Flight, fault: Exception) -> None:
        """Queue the record of ``flight`` for burial."""
        letter = dead_letter(self._stage, flight, fault, self._clock())
        record = flight.record
        log.error(
            "record_buried",
            stage=self._stage,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            cause=letter.cause,
            explanation=letter.explanation,
        )
        self._graves.put_nowait((flight, letter))

    async def work(self) -> None:
        """Bury until cancelled.

        Raises:
            KafkaError: the log does not take the letter.
        """
        while True:
            flight, letter = await self._graves.get()
            await self._producer.send_and_wait(self._topic, encode(letter), partition=0)
            flight.done()


def dead_letter(stage: str, flight: Flight, fault: Exception, now: int) -> DeadLetter:
    """The record that tells why the record of ``flight`` was given up.

    Args:
        stage: who gives it up.
        flight: its record; a value that does not fit is cut, and the explanation says so.
        fault: why. Only an error of ours may speak for itself; any other text could quote personal data.
        now: milliseconds since 1970 UTC.
    """
    record = flight.record
    value = record.value
    explanation = str(fault) if isinstance(fault, DepescheError) else _place_of(fault)
    if value is not None and len(value) > _ROOM:
        explanation = f"(value of {len(value)} bytes cut to {_ROOM}) {explanation}"
        value = value[:_ROOM]
    return DeadLetter(
        stage=stage,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        occurred_at=now,
        cause=fault.code if isinstance(fault, DepescheError) else type(fault).__name__,
        explanation=explanation[:_EXPLANATION],
        record_key=record.key,
        record_value=value,
        tenant=flight.tenant,
        unit_id=flight.unit_id,
    )


def _place_of(fault: Exception) -> str:
    frames = traceback.extract_tb(fault.__traceback__)
    places = [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-4:]]
    return "in " + " > ".join(places) if places else "no place known"
