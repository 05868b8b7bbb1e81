"""The alerts of mail.alerts as a fold: which are open, and what the next one is called.

The id of an alert is made of what it says and of the alert before it about the same thing. Two processes that both believe to be
the one that decides (one was stopped and has come back) therefore give the same id to the same step, and a reader takes it once.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from depesche.analytics.log.client import full_name, reader
from depesche.schemas.codec import decode
from depesche.schemas.errors import LogUnavailableError, UndecodableError
from depesche.schemas.identity import alert_id
from depesche.schemas.records import Alert, AlertKind, AlertState, Severity
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ALERTS

log = structlog.get_logger(__name__)

_READ_SECONDS = 20.0


class AlertKey(NamedTuple):
    """What an alert is about. Of each there is at most one open alert."""

    kind: AlertKind
    severity: Severity
    subject: str

    def __str__(self) -> str:
        return f"{self.kind.value}/{self.severity.value}/{self.subject}"


def key_of(alert: Alert) -> AlertKey:
    """What ``alert`` is about."""
    return AlertKey(alert.kind, alert.severity, alert.subject)


class Ledger:
    """All alerts of the log in order, each once.

    Attributes:
        alerts: what was said, the oldest first.
    """

    def __init__(self, begins_at: int = 0) -> None:
        """``begins_at``: the first offset that the topic still has; it is part of the first id of each key."""
        self.alerts: list[Alert] = []
        self._begins_at = begins_at
        self._known: set[str] = set()
        self._last: dict[AlertKey, Alert] = {}

    def apply(self, alert: Alert) -> bool:
        """Take in what was said; tells whether it is new."""
        if alert.alert_id in self._known:
            return False
        self._known.add(alert.alert_id)
        self.alerts.append(alert)
        self._last[key_of(alert)] = alert
        return True

    def open(self) -> dict[AlertKey, Alert]:
        """The alerts that have begun and not ended, the oldest first."""
        found = {key: alert for key, alert in self._last.items() if alert.state is AlertState.RAISED}
        return dict(sorted(found.items(), key=lambda pair: (pair[1].at, str(pair[0]))))

    def next(self, key: AlertKey, *, raised: bool, at: int, **more: Any) -> Alert | None:
        """The record that begins or ends an alert; nothing when it has begun, or is over, already.

        Args:
            key: what it is about.
            raised: whether it begins.
            at: when, in milliseconds since 1970 UTC.
            more: the other fields of ``Alert``.
        """
        last = self._last.get(key)
        if raised == (last is not None and last.state is AlertState.RAISED):
            return None
        state = AlertState.RAISED if raised else AlertState.CLEARED
        before = last.alert_id if last else f"from {self._begins_at}"
        return Alert(
            alert_id=alert_id(str(key), state.value, before),
            kind=key.kind,
            severity=key.severity,
            subject=key.subject,
            state=state,
            at=at,
            **more,
        )


class AlertBook:
    """Reads mail.alerts whenever it is asked, and each record once."""

    def __init__(self, settings: Settings, name: str = "alerts-reader") -> None:
        """Prepare to read; the connection is made on first use."""
        self._settings = settings
        self._name = name
        self._partition = TopicPartition(full_name(settings.kafka, ALERTS.name), 0)
        self._reading = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None
        self._ledger = Ledger()

    async def current(self) -> Ledger:
        """What mail.alerts says now; the caller does not change it.

        Raises:
            LogUnavailableError: the log cannot be read.
        """
        try:
            async with self._reading, asyncio.timeout(_READ_SECONDS):
                return await self._read()
        except (KafkaError, TimeoutError) as fault:
            raise LogUnavailableError(f"mail.alerts: {fault!r}") from fault

    async def stop(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def _read(self) -> Ledger:
        consumer = self._consumer
        if consumer is None:
            consumer = self._consumer = reader(self._settings, self._name)
            await consumer.start()
            consumer.assign([self._partition])
            begin = (await consumer.beginning_offsets([self._partition]))[self._partition]
            consumer.seek(self._partition, begin)
            self._ledger = Ledger(begin)
        end = (await consumer.end_offsets([self._partition]))[self._partition]
        while await consumer.position(self._partition) < end:
            for record in (await consumer.getmany(timeout_ms=500)).get(self._partition, []):
                self._take(record.value or b"", record.offset)
        return self._ledger

    def _take(self, value: bytes, offset: int) -> None:
        try:
            self._ledger.apply(decode(Alert, value))
        except UndecodableError as fault:
            log.error("alert_unreadable", offset=offset, cause=str(fault))


async def read_ledger(settings: Settings) -> Ledger:
    """What mail.alerts says now, read over a connection of its own.

    Raises:
        LogUnavailableError: the log cannot be read.
    """
    book = AlertBook(settings)
    try:
        return await book.current()
    finally:
        await book.stop()
