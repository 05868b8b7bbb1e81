"""The sieve: from all outcomes to the few that say something about the pace, in a topic of one partition.

A decision about a pool at a provider is not a sum over the partitions of mail.outcomes, so what decides must be in one place
and one order: mail.pace.signals. The sieve is a fold that keeps no sums; which outcomes it tells depends on the last window of
its partition (``streams/mail/pace_sample.py``), and that is read back from the log when it is needed after a restart. Only
which pairs are watched must outlive a restart: a table, written when a pair is refused for the first time in hours.
"""

from __future__ import annotations

import faust
import structlog
from aiokafka import TopicPartition

from depesche.analytics.log.client import full_name, reader
from depesche.schemas import cloudevents
from depesche.schemas.codec import encode, event_from
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import MailEvent, PaceSignal
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTCOMES, PACE_SIGNALS
from depesche.streams.agents.app import await_send
from depesche.streams.agents.recent import WINDOW, RecentEvents
from depesche.streams.mail.pace_sample import Sampler

log = structlog.get_logger(__name__)

_SLACK_MS = 10_000
"""What the log's time of a record and the time of its event may differ by."""


class Sieve:
    """A ``Fold`` that forwards. ``told`` counts the signals that it has sent."""

    def __init__(self, app: faust.App, settings: Settings) -> None:
        """Register its table with ``app``."""
        self.told = 0
        self._settings = settings
        self._source = full_name(settings.kafka, OUTCOMES.name)
        self._samplers: dict[int, Sampler] = {}
        self._unprimed: dict[int, int] = {}
        self._target = app.topic(
            full_name(settings.kafka, PACE_SIGNALS.name), value_serializer="raw", key_serializer="raw"
        )
        self._watches = app.Table(
            "pace-watch",
            partitions=settings.kafka.partitions,
            key_type=str,
            help="(from offset, until when) per source partition, pool and provider",
        )

    async def begin(self, partition: int, offset: int) -> None:
        """See ``Beginning``."""
        sampler = Sampler(self._settings.pace, partition, self._settings.kafka.partitions)
        for key, (begun, until) in self._watches.items():
            number, pool, provider = key.split("|", 2)
            if int(number) == partition:
                sampler.watched[pool, provider] = begun, until
        self._samplers[partition] = sampler
        self._unprimed[partition] = offset

    async def take(self, event: MailEvent, partition: int, offset: int) -> None:
        """See ``Fold``."""
        sampler = self._samplers[partition]
        if partition in self._unprimed and sampler.concerns(event, offset):
            await self._prime(sampler, partition, self._unprimed.pop(partition), event.occurred_at)
        signal = sampler.take(event, offset)
        if signal is None:
            return
        self.told += 1
        await await_send(
            self._target,
            key=f"{signal.pool}/{signal.provider}".encode(),
            value=encode(signal),
            partition=0,
            headers=headers_of(signal),
        )
        # After the signal: what the table holds has been told.
        for pool, provider in sampler.renewed:
            self._watches[f"{partition}|{pool}|{provider}"] = sampler.watched[pool, provider]
        sampler.renewed.clear()

    async def _prime(self, sampler: Sampler, partition: int, offset: int, now: int) -> None:
        """Let the sampler see what stands before ``offset``, as far as the window goes, without telling it."""
        place = TopicPartition(self._source, partition)
        consumer = reader(self._settings, "pace-sieve")
        await consumer.start()
        try:
            consumer.assign([place])
            begin = max((await consumer.beginning_offsets([place]))[place], offset - WINDOW)
            since = now - round(2 * self._settings.pace.window_seconds * 1000) - _SLACK_MS
            found = (await consumer.offsets_for_times({place: max(0, since)}))[place]
            consumer.seek(place, begin if found is None else max(begin, min(found.offset, offset)))
            recent = RecentEvents()
            while await consumer.position(place) < offset:
                for record in (await consumer.getmany(timeout_ms=1000)).get(place, []):
                    if record.offset < offset and record.value is not None:
                        _see(sampler, record.value, record.offset, recent)
        finally:
            await consumer.stop()
        sampler.renewed.clear()


def _see(sampler: Sampler, value: bytes, offset: int, recent: RecentEvents) -> None:
    try:
        event = event_from(value)
    except UndecodableError:
        log.error("outcome_unreadable", offset=offset)
        return
    if not recent.seen(event.event_id):
        sampler.take(event, offset)


def headers_of(signal: PaceSignal) -> cloudevents.Headers:
    """The CloudEvents headers of a signal; its id is the one by which a repetition is recognised."""
    kind = f"email.pace.{signal.effect.value}"
    return cloudevents.headers(signal.event_id, kind, signal.unit_id or signal.provider, signal.at)
