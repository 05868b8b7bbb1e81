"""Recognises a repeated submission by its idempotency key, over restarts and without asking a database.

A job with a key goes to its own topic, so that one atomic record is both the job and the memory of its key, and a door
pays nothing for jobs without one. The door reads the last day of that topic back at its start and follows it.

Two doors that are given the same key in the same moment can both accept: the record of the second is then recognised by
its door when it is read back, too late to take it back. One door process, the default, has no such gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.log.client import full_name, reader
from depesche.analytics.log.topics import partition_counts
from depesche.schemas.codec import decode
from depesche.schemas.errors import IdempotencyMismatchError, UndecodableError
from depesche.schemas.records import Job
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import KEYED_JOBS

log = structlog.get_logger(__name__)

KEPT_MS = 24 * 3_600_000
"""How long a key is remembered; published in the API's description."""
COUNT_HEADER = "units"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a door knows about a key: the job it stands for."""

    job_id: str
    received_at: int
    units: int
    fingerprint: str


class IdempotencyIndex:
    """Keys of the last day with the jobs they stand for."""

    def __init__(self, settings: Settings, keyring: Keyring, clock: Clock = now_ms) -> None:
        self._settings = settings
        self._clock = clock
        self._pepper = keyring.pepper("idempotency")
        self._known: OrderedDict[str, Remembered] = OrderedDict()
        self._running: set[str] = set()
        self._consumer: AIOKafkaConsumer | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the last day back, then follow."""
        consumer = reader(self._settings, "idempotency")
        await consumer.start()
        self._consumer = consumer
        topic = full_name(self._settings.kafka, KEYED_JOBS.name)
        count = (await partition_counts(self._settings, KEYED_JOBS))[KEYED_JOBS.name]
        partitions = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(partitions)
        since = await consumer.offsets_for_times(dict.fromkeys(partitions, self._clock() - KEPT_MS))
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            found = since[partition]
            consumer.seek(partition, found.offset if found else ends[partition])
        while any([await consumer.position(p) < ends[p] for p in partitions]):
            self._take_all(await consumer.getmany(timeout_ms=500))
        self._following = asyncio.create_task(self._follow(consumer), name="idempotency")

    async def stop(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        if self._consumer is not None:
            await self._consumer.stop()

    def scoped(self, account: str, key: str) -> str:
        """The stored form of a key: a keyed hash over account and key, so that tenants never meet."""
        return hmac.digest(self._pepper, f"{account}\0{key}".encode(), "sha256").hex()

    def find(self, scoped: str, fingerprint: str) -> Remembered | None:
        """The job that this key stands for, if there is one.

        Raises:
            IdempotencyMismatchError: the key stands for another request.
        """
        known = self._known.get(scoped)
        if known is None or known.received_at < self._clock() - KEPT_MS:
            return None
        if not hmac.compare_digest(known.fingerprint, fingerprint):
            raise IdempotencyMismatchError("same key, other request")
        return known

    def begin(self, scoped: str) -> bool:
        """Mark the key as being worked on; false if it already is."""
        if scoped in self._running:
            return False
        self._running.add(scoped)
        return True

    def end(self, scoped: str, accepted: Remembered | None) -> None:
        """The work on the key has ended, with a job or without."""
        self._running.discard(scoped)
        if accepted is not None:
            self._remember(scoped, accepted)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            self._take_all(await consumer.getmany(timeout_ms=1000))

    def _take_all(self, batches: dict[TopicPartition, list[ConsumerRecord]]) -> None:
        for records in batches.values():
            for record in records:
                self._take(record)

    def _take(self, record: ConsumerRecord) -> None:
        try:
            job = decode(Job, record.value)
        except UndecodableError as fault:
            log.error("keyed_job_unreadable", offset=record.offset, cause=str(fault))
            return
        units = int(dict(record.headers).get(COUNT_HEADER, b"0"))
        if job.idempotency_key and job.fingerprint:
            self._remember(job.idempotency_key, Remembered(job.job_id, job.received_at, units, job.fingerprint))

    def _remember(self, scoped: str, accepted: Remembered) -> None:
        self._known.setdefault(scoped, accepted)
        oldest = self._clock() - KEPT_MS
        while self._known and next(iter(self._known.values())).received_at < oldest:
            self._known.popitem(last=False)
