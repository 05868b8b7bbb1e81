"""Ends a process that has work and does not do it.

Kafka clients are known to stop without a word: a fetch that never returns, a member that believes it is in its group
(aiokafka issues 1037, 1154). Nothing inside the client tells, so the lag is asked for over a connection of its own, and only
when the committed position has stood still. A loop that does not turn at all is seen by a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from depesche.analytics.log.client import connection, reader
from depesche.schemas.errors import LogUnavailableError, Outage
from depesche.schemas.settings import Settings

log = structlog.get_logger(__name__)

EXIT_STALLED = 70
_WITNESS_SECONDS = 15.0


class StalledError(Outage):
    """There is work, nothing waits for anything, and the committed position does not move."""

    code = "stalled"
    title = "A worker stood still and was ended"


class Witness(Protocol):
    """Somebody who knows the lag without asking the client that may be stuck."""

    async def lag(self) -> int:
        """Records not yet committed.

        Raises:
            LogUnavailableError: Kafka does not answer; then nobody is to blame but Kafka.
        """
        ...


class LagWitness:
    """Asks the broker over fresh connections what the group has committed and where the log ends."""

    def __init__(
        self,
        settings: Settings,
        group: str,
        client_id: str,
        topics: Sequence[str],
        owned: Callable[[], Collection[TopicPartition]],
    ) -> None:
        """Prepare to ask.

        Args:
            settings: where the log is.
            group: full name of the consumer group.
            client_id: what the watched member calls itself.
            topics: full names of its topics.
            owned: the partitions to answer for; when empty, all that no other member holds: one that was thrown out has none
                and must see what waits, one that stands by has none and must not be ended for the others' lag.
        """
        self._settings = settings
        self._group = group
        self._client_id = client_id
        self._topics = topics
        self._owned = owned

    async def lag(self) -> int:
        """See ``Witness``."""
        try:
            async with asyncio.timeout(_WITNESS_SECONDS):
                return await self._ask()
        except (TimeoutError, KafkaError, OSError) as fault:
            raise LogUnavailableError(f"no lag to be had ({type(fault).__name__})") from fault

    async def _ask(self) -> int:
        admin = AIOKafkaAdminClient(**connection(self._settings), client_id=f"{self._group}-watchdog")
        consumer = reader(self._settings, f"{self._group}-watchdog")
        try:
            await admin.start()
            await consumer.start()
            partitions = set(self._owned()) or await self._unheld(admin)
            committed = await admin.list_consumer_group_offsets(self._group)
            first = await consumer.beginning_offsets(partitions)
            last = await consumer.end_offsets(partitions)
        finally:
            await admin.close()
            await consumer.stop()
        reached = {p: max(first[p], committed[p].offset if p in committed else 0) for p in partitions}
        return sum(max(0, last[p] - reached[p]) for p in partitions)

    async def _unheld(self, admin: Any) -> set[TopicPartition]:
        topics = await admin.describe_topics(list(self._topics))
        every = {TopicPartition(topic["topic"], part["partition"]) for topic in topics for part in topic["partitions"]}
        answers = [answer.to_object() for answer in await admin.describe_consumer_groups([self._group])]
        members = [member for answer in answers for group in answer["groups"] for member in group["members"]]
        others = [member["member_assignment"] for member in members if member["client_id"] != self._client_id]
        held = [ConsumerProtocolMemberAssignment.decode(told).partitions() for told in others if told]
        return every.difference(*held)


class Watchdog:
    """Watches one runner."""

    def __init__(
        self,
        committed: Callable[[], Mapping[TopicPartition, int]],
        witness: Witness,
        waiting: Callable[[], str | None],
        patience_seconds: float,
    ) -> None:
        """Prepare to watch.

        Args:
            committed: what this runner has committed.
            witness: who knows the lag.
            waiting: why it is right that nothing moves, or None.
            patience_seconds: how long the position may stand still.
        """
        self._committed = committed
        self._witness = witness
        self._waiting = waiting
        self._patience = patience_seconds

    async def watch(self) -> None:
        """Watch until cancelled.

        Raises:
            StalledError: the runner stands still although there is work.
        """
        with _thread_that_sees_a_stopped_loop(self._patience) as turn:
            seen, since = self._committed(), time.monotonic()
            while True:
                await asyncio.sleep(min(1.0, self._patience / 4))
                turn()
                now = time.monotonic()
                marks = self._committed()
                if marks != seen or self._waiting():
                    seen, since = marks, now
                elif now - since >= self._patience:
                    await self._judge(now - since)
                    seen, since = self._committed(), time.monotonic()

    async def _judge(self, seconds: float) -> None:
        before = self._committed()
        try:
            lag = await self._witness.lag()
        except LogUnavailableError as fault:
            log.warning("watchdog_without_witness", explanation=str(fault))
            return
        if lag and self._committed() == before and not self._waiting():
            raise StalledError(f"{lag} records wait and none was committed for {seconds:.0f} s")


@contextlib.contextmanager
def _thread_that_sees_a_stopped_loop(patience_seconds: float) -> Iterator[Callable[[], None]]:
    """A thread that ends the process when the function it gives is not called for ``patience_seconds``."""
    turned = time.monotonic()
    over = threading.Event()

    def turn() -> None:
        nonlocal turned
        turned = time.monotonic()

    def watch() -> None:
        strikes = 0
        while not over.wait(max(0.05, patience_seconds / 4)):
            # Twice, because a process that was stopped and goes on looks the same until its loop has had its turn.
            strikes = strikes + 1 if time.monotonic() - turned > patience_seconds else 0
            if strikes >= 2:
                # The logger may be what is stuck; a plain line always gets out.
                sys.stderr.write('{"event":"loop_stood_still","level":"critical"}\n')
                sys.stderr.flush()
                os._exit(EXIT_STALLED)

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield turn
    finally:
        over.set()
