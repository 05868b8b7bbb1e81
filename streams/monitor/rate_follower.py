"""Follows mail.rates and says when a customer's rate at a provider passes its limit, and when that is over."""

from __future__ import annotations

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from depesche.analytics.log.alerts import AlertKey
from depesche.analytics.log.client import full_name
from depesche.schemas.codec import decode
from depesche.schemas.errors import UndecodableError
from depesche.schemas.rates import MINUTE_MS
from depesche.schemas.records import AlertKind, RateSum
from depesche.schemas.service import Clock
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RATES
from depesche.streams.mail.rate_alerts import Change, RateWatch, Topic
from depesche.streams.monitor.alert_writer import AlertWriter

log = structlog.get_logger(__name__)

LOOK_MS = 2_000
_POLL_MS = 1_000
_MOST_RECORDS = 2_000
_WATCHED = frozenset({AlertKind.HARD_BOUNCE_RATE, AlertKind.COMPLAINT_RATE})


class RateFollower:
    """Knows nothing at its start but what the log says, so that whoever takes over decides as its predecessor would have."""

    def __init__(self, settings: Settings, consumer: AIOKafkaConsumer, writer: AlertWriter, clock: Clock) -> None:
        """``consumer`` has the partition of mail.rates; ``writer`` holds what was said."""
        self._settings = settings
        self._consumer = consumer
        self._writer = writer
        self._clock = clock
        self._watch = RateWatch(settings.alerts)
        self._partition = TopicPartition(full_name(settings.kafka, RATES.name), 0)
        self._end = 0
        self._looked = 0

    async def begin(self) -> None:
        """Go to where the longest window began."""
        consumer, place = self._consumer, self._partition
        since = self._clock() - self._watch.window_ms - 10 * MINUTE_MS
        self._end = (await consumer.end_offsets([place]))[place]
        first = (await consumer.offsets_for_times({place: since}))[place]
        consumer.seek(place, first.offset if first else self._end)

    async def step(self) -> None:
        """Take in what is new, at most a second's wait, and decide. Until the past is read nothing is decided.

        Raises:
            LogUnavailableError: an alert could not be said.
        """
        records = await self._consumer.getmany(self._partition, timeout_ms=_POLL_MS, max_records=_MOST_RECORDS)
        now = self._clock()
        for record in records.get(self._partition, []):
            if record.value is not None:
                self._take(record.value, record.offset, now)
        if now - self._looked >= LOOK_MS and await self._consumer.position(self._partition) >= self._end:
            self._looked = now
            for change in self._watch.look(now, self._open()):
                await self._say(change, now)

    def _take(self, value: bytes, offset: int, now: int) -> None:
        try:
            self._watch.take(decode(RateSum, value), now)
        except UndecodableError as fault:
            log.error("rate_unreadable", offset=offset, cause=str(fault))

    def _open(self) -> set[Topic]:
        return {
            Topic(key.kind, key.severity, alert.tenant, key.subject.removeprefix(f"{alert.tenant}/"))
            for key, alert in self._writer.ledger.open().items()
            if key.kind in _WATCHED
        }

    async def _say(self, change: Change, now: int) -> None:
        topic = change.topic
        await self._writer.say(
            AlertKey(topic.kind, topic.severity, topic.subject),
            raised=change.raised,
            at=now,
            tenant=topic.tenant,
            value=change.value,
            limit=change.limit,
            explanation=self._in_words(change),
            causes=change.causes,
        )

    def _in_words(self, change: Change) -> str:
        alerts = self._settings.alerts
        if change.topic.kind is AlertKind.HARD_BOUNCE_RATE:
            what, of = "hard bounces", f"delivered and bounced units within {alerts.hard_bounce_window_minutes} minutes"
        else:
            what, of = "complaints", f"delivered units within {alerts.complaint_window_hours} hours"
        share = f"{change.part:,} {what} for {change.whole:,} {of} at {change.topic.provider}: {change.value:.2%}"
        return (
            f"{share}, above {change.limit:.1%}." if change.raised else f"{share}, no longer above {change.limit:.1%}."
        )
