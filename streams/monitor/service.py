"""The monitor: one process at a time watches rates and blocklists and says alerts (decision 40).

Sums are of one source partition each, so the one who decides needs all of them; and an alert must be said once however many
processes could say it. mail.rates has a single partition: whoever the group gives it to decides, all others stand by. The
elected one knows nothing but what the log says (the sums of the longest window, the alerts so far), so it may die anywhere.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from depesche.analytics.directory.directory import Directory
from depesche.analytics.log.alerts import read_ledger
from depesche.analytics.log.client import full_name, group_consumer, producer
from depesche.schemas.records import DirectoryKind, Pool
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RATES
from depesche.streams.mail.dnsbl import plain_address
from depesche.streams.monitor.alert_writer import AlertWriter
from depesche.streams.monitor.blocklists import Blocklists
from depesche.streams.monitor.rate_follower import RateFollower
from depesche.streams.monitor.suspensions import Suspensions
from depesche.streams.runner.parts import cancelled
from depesche.streams.wire.dnsbl import blocklist_resolver

log = structlog.get_logger(__name__)

GROUP = "monitor"


class _Turns(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types.
    """Whose turn it is. Each assignment is a new turn, because the client forgets then how far it had read."""

    def __init__(self) -> None:
        self.number = 0
        self.elected = False

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """The turn is over."""
        self.elected = False

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """A turn begins, if there is anything in it."""
        self.number += 1
        self.elected = bool(assigned)


class Monitor:
    """Says alerts when it is elected; ready as soon as it stands by."""

    name = "monitor"

    def __init__(self, settings: Settings, directory: Directory, member: str = "1", clock: Clock = now_ms) -> None:
        """Prepare to watch.

        Args:
            settings: limits, lists, where the log is.
            directory: the pools of own addresses, followed.
            member: name this process keeps over restarts.
            clock: the time in milliseconds.
        """
        self._settings = settings
        self._directory = directory
        self._clock = clock
        self._turns = _Turns()
        self._consumer = group_consumer(settings, GROUP, member, fetch_wait_ms=1_000)
        self._producer = producer(settings, f"monitor-{member}")

    async def run(self, ready: Callable[[], None]) -> None:
        """See ``schemas.service.Service``."""
        topic = full_name(self._settings.kafka, RATES.name)
        self._consumer.subscribe([topic], listener=self._turns)
        try:
            await self._producer.start()
            await self._consumer.start()
            ready()
            while True:
                if self._turns.elected:
                    await self._serve(self._turns.number)
                else:
                    # Polling is what keeps a member that has nothing in its group.
                    await self._consumer.getmany(timeout_ms=500)
        finally:
            await self._consumer.stop()
            await self._producer.stop()

    async def _serve(self, turn: int) -> None:
        writer = AlertWriter(self._settings, await read_ledger(self._settings), self._producer)
        rates = RateFollower(self._settings, self._consumer, writer, self._clock)
        await rates.begin()
        log.info("monitor_elected", open_alerts=len(writer.ledger.open()))
        beside = [
            asyncio.create_task(self._blocklists(writer).run(), name="blocklists"),
            asyncio.create_task(Suspensions(self._settings).run(), name="suspensions"),
        ]
        try:
            while self._turns.elected and self._turns.number == turn:
                await rates.step()
                for task in beside:
                    if task.done():
                        task.result()
        finally:
            await cancelled(beside)

    def _blocklists(self, writer: AlertWriter) -> Blocklists:
        return Blocklists(
            self._settings.dnsbl,
            blocklist_resolver(self._settings),
            lambda: own_addresses(self._settings, self._directory),
            writer,
            self._clock,
            random.Random(),  # noqa: S311  (spreads rounds, hides nothing)
        )


def own_addresses(settings: Settings, directory: Directory) -> frozenset[str]:
    """The addresses that mail is sent from: of every pool, and those that are set for couriers without a pool."""
    pools = [entry.record.value for entry in directory.book.all(DirectoryKind.POOL)]
    pooled = {address.ip for pool in pools if isinstance(pool, Pool) for address in pool.addresses}
    return frozenset(filter(None, map(plain_address, pooled | set(settings.deliver.source_ips))))
