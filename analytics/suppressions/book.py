"""The suppression list as a running process knows it: follows mail.suppressions and answers from the local view.

It lags behind the fold by milliseconds; whoever wrote a request waits for its effect (``wait_for``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.log.client import connection, full_name, reader
from depesche.analytics.log.topics import partition_counts
from depesche.analytics.suppressions.requests import Asked
from depesche.analytics.suppressions.standing import strictest
from depesche.analytics.suppressions.view import Change, View
from depesche.schemas.codec import decode
from depesche.schemas.errors import LogUnavailableError, UndecodableError
from depesche.schemas.identity import person_key
from depesche.schemas.records import Suppression
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import SUPPRESSIONS

log = structlog.get_logger(__name__)

START_SECONDS: Final = 60.0
_CAUGHT_UP_EVERY_MS: Final = 60_000
_PAUSE_SECONDS: Final = 1.0


class SuppressionBook:
    """Every entry of the list, as far as the log has been read."""

    def __init__(self, settings: Settings, keyring: Keyring, directory: Path, clock: Clock = now_ms) -> None:
        """Prepare; ``directory`` is this process's own."""
        self.read = 0
        self._settings = settings
        self._directory = directory
        self._clock = clock
        self._global = settings.suppression.scope == "global"
        self._consulted = settings.suppression.enabled
        self._pepper = keyring.pepper("person")
        self._moved = asyncio.Condition()
        self._next: dict[TopicPartition, int] = {}
        self._noted_at = 0
        self._view: View | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self, seconds: float = START_SECONDS) -> None:
        """Go on from where the view stands, read to the end, then follow.

        A list that is not read to its end in ``seconds`` is used as it is, with a warning: mail must not stand still for it.

        Raises:
            SetupError: the topic is missing, or another process uses the directory.
            LogUnavailableError: the log does not answer.
        """
        name = full_name(self._settings.kafka, SUPPRESSIONS.name)
        count = (await partition_counts(self._settings, SUPPRESSIONS))[SUPPRESSIONS.name]
        places = [TopicPartition(name, number) for number in range(count)]
        self._consumer = consumer = reader(self._settings, "suppressions")
        try:
            await consumer.start()
            consumer.assign(places)
            begin, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            log_id = f"{await self._cluster()}/{name}/{count}"
        except KafkaError as fault:
            raise LogUnavailableError("the suppression list cannot be read") from fault
        ends = {place.partition: offset for place, offset in end.items()}
        self._view = View.open(self._directory, log_id, self._clock(), ends)
        known = self._view.offsets()
        for place in places:
            self._next[place] = max(known.get(place.partition, 0), begin[place])
            consumer.seek(place, self._next[place])
        self._following = asyncio.create_task(self._follow(consumer), name="suppressions")
        try:
            await self._until_read(end, seconds)
        except LogUnavailableError:
            log.warning("suppressions_behind", read=self.read)

    async def _cluster(self) -> str:
        admin = AIOKafkaAdminClient(**connection(self._settings), client_id="suppressions")
        await admin.start()
        try:
            described = await admin.describe_cluster()
        finally:
            await admin.close()
        return str(described.get("cluster_id"))

    async def stop(self) -> None:
        """Stop following and close the view."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        if self._consumer is not None:
            await self._consumer.stop()
        if self._view is not None:
            self._view.close()
            self._view = None

    # Questions.

    def person(self, address: str) -> str | None:
        """The key of a person that is the same for all customers; None where suppression is per customer."""
        return person_key(self._pepper, address) if self._global else None

    def blocking(self, tenant: str, recipient_key: str, person: str | None = None) -> Suppression | None:
        """What forbids writing to a recipient now, the strictest there is; None: nothing does.

        Args:
            tenant: customer number.
            recipient_key: keyed hash of the recipient.
            person: see ``person``; the entries of other customers count only with it.
        """
        if not self._consulted:
            return None
        now = self._clock()
        own = self.view.in_force(tenant, recipient_key, now)
        if person is None or not self._global:
            return own
        others = [self.view.in_force(*place, now) for place in self.view.of_person(person)]
        return strictest([own, *others])

    def entry(self, tenant: str, recipient_key: str) -> Suppression | None:
        """What is known of a customer's recipient, in force or not."""
        return self.view.entry(tenant, recipient_key)

    def entries(self, tenant: str | None, after: tuple[str, str] = ("", "")) -> Iterator[Suppression]:
        """See ``View.entries``."""
        return self.view.entries(tenant, after)

    @property
    def view(self) -> View:
        """The open view.

        Raises:
            LogUnavailableError: not started, or stopped.
        """
        if self._view is None:
            raise LogUnavailableError("the suppression list is not open")
        return self._view

    async def wait_for(self, tenant: str, asked: Asked, seconds: float = 10) -> Suppression:
        """The entry once the fold has taken a request.

        Raises:
            LogUnavailableError: not within ``seconds``; the request is in the log and will be taken.
        """

        def taken() -> Suppression | None:
            entry = self.entry(tenant, asked.recipient_key)
            for mark in entry.watermarks if entry else ():
                if (mark.origin, mark.partition) == ("requests", asked.partition) and mark.last >= asked.offset:
                    return entry
            return None

        try:
            async with asyncio.timeout(seconds), self._moved:
                while (found := taken()) is None:
                    await self._moved.wait()
                return found
        except TimeoutError as fault:
            raise LogUnavailableError(
                "the fold has not taken the request",
                public="It is noted and takes effect once the agents run; they do not answer just now",
            ) from fault

    async def catch_up(self, seconds: float = 10) -> None:
        """Read as far as the log goes now.

        Raises:
            LogUnavailableError: not within ``seconds``.
        """
        assert self._consumer is not None
        try:
            end = await self._consumer.end_offsets(list(self._next))
        except KafkaError as fault:
            raise LogUnavailableError("the end of the suppression list cannot be asked for") from fault
        await self._until_read(end, seconds)

    # Following.

    async def _until_read(self, end: dict[TopicPartition, int], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds), self._moved:
                await self._moved.wait_for(lambda: all(self._next[place] >= offset for place, offset in end.items()))
        except TimeoutError as fault:
            raise LogUnavailableError("the suppression list was not read to its end") from fault

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                batches = await consumer.getmany(timeout_ms=1000, max_records=2000)
                self._take(batches)
                for place in self._next:
                    self._next[place] = max(self._next[place], await consumer.position(place))
            except KafkaError as fault:
                log.warning("suppressions_not_readable", cause=str(fault))
                await asyncio.sleep(_PAUSE_SECONDS)
            async with self._moved:
                self._moved.notify_all()

    def _take(self, batches: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        now = self._clock()
        found = [_change(record) for records in batches.values() for record in records]
        if batches:
            changes = [change for change in found if change is not None]
            offsets = {place.partition: records[-1].offset + 1 for place, records in batches.items()}
            self.view.take(changes, offsets, now)
            self.read += len(changes)
        elif now - self._noted_at > _CAUGHT_UP_EVERY_MS:
            self.view.caught_up(now)
            self._noted_at = now


def _change(record: ConsumerRecord) -> Change | None:
    key = (record.key or b"").decode("ascii", "replace")
    if record.value is None:
        return Change(key)
    try:
        return Change(key, record.value, decode(Suppression, record.value))
    except UndecodableError as fault:
        # A damaged record must not hide all others.
        log.error("suppression_unreadable", offset=record.offset, cause=str(fault))
        return None
