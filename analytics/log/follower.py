"""Follows a topic of one partition in memory, with read-your-writes: whoever has written waits for the offset of the write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from depesche.analytics.log.client import full_name, reader
from depesche.schemas.errors import LogUnavailableError
from depesche.schemas.settings import Settings
from depesche.schemas.topics import Topic

log = structlog.get_logger(__name__)

REFUSED_SECONDS = 2.0
"""Between two tries to read from a log that refuses."""

Take = Callable[["ConsumerRecord[bytes, bytes | None]"], None]


class Follower:
    """Reads a topic from its beginning and hands each record over, for as long as the process lives."""

    def __init__(self, settings: Settings, topic: Topic, take: Take) -> None:
        """Prepare to follow.

        Args:
            settings: where the log is.
            topic: one with a single partition.
            take: is given every record, in order; must not raise for a record that cannot be read.
        """
        self.next = 0
        self._settings = settings
        self._take = take
        self._name = topic.name
        self._partition = TopicPartition(full_name(settings.kafka, topic.name), 0)
        self._moved = asyncio.Condition()
        self._consumer: AIOKafkaConsumer | None = None
        self._following: asyncio.Task[None] | None = None
        self._watched = False

    async def start(self) -> None:
        """Read the topic to its end, then go on following it in the background.

        Raises:
            LogUnavailableError: it could not be read within half a minute.
        """
        consumer = reader(self._settings, f"{self._name}-follower")
        self._consumer = consumer
        await consumer.start()
        consumer.assign([self._partition])
        # By offset, which is asked for until it is known; a reset would only be left to happen some time later.
        try:
            begin = (await consumer.beginning_offsets([self._partition]))[self._partition]
        except KafkaError as fault:
            raise LogUnavailableError(f"the beginning of {self._name} cannot be asked for") from fault
        consumer.seek(self._partition, begin)
        self._following = asyncio.create_task(self._follow(consumer), name=f"{self._name} follower")
        await self.catch_up(30)

    async def stop(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError, KafkaError):
                await self._following
        if self._consumer is not None:
            await self._consumer.stop()

    async def wait_for(self, offset: int, seconds: float = 10) -> None:
        """Wait until the record at ``offset`` has been taken in.

        Raises:
            LogUnavailableError: not within ``seconds``.
        """
        try:
            async with asyncio.timeout(seconds), self._moved:
                await self._moved.wait_for(lambda: self.next > offset)
        except TimeoutError as fault:
            raise LogUnavailableError(f"{self._name} was not read up to {offset}") from fault

    async def catch_up(self, seconds: float = 10) -> None:
        """Read as far as the log goes now.

        Raises:
            LogUnavailableError: the log cannot be read, or not within ``seconds``.
        """
        assert self._consumer is not None
        try:
            end = (await self._consumer.end_offsets([self._partition]))[self._partition]
        except KafkaError as fault:
            raise LogUnavailableError(f"the end of {self._name} cannot be asked for") from fault
        await self.wait_for(end - 1, seconds)

    async def watch(self) -> None:
        """Return never; for whoever must not go on with what was known when following broke.

        Raises:
            KafkaError: the log refuses for good.
        """
        assert self._following is not None
        self._watched = True
        await asyncio.shield(self._following)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                await self._read_on(consumer)
            except KafkaError as fault:
                if self._watched:
                    raise
                # Whoever does not watch goes on with what it knows, and must hear news as soon as the log gives them again.
                log.error("following_refused", topic=self._name, offset=self.next, cause=repr(fault))
                await asyncio.sleep(REFUSED_SECONDS)

    async def _read_on(self, consumer: AIOKafkaConsumer) -> None:
        batches = await consumer.getmany(timeout_ms=1000)
        for records in batches.values():
            for record in records:
                self._take(record)
        async with self._moved:
            self.next = max(self.next, await consumer.position(self._partition))
            self._moved.notify_all()
