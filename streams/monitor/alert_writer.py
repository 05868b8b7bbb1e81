"""Says alerts to mail.alerts, each step once: what stands in the log decides what may be said next."""

from __future__ import annotations

from collections import Counter
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer

from depesche.analytics.log import meters
from depesche.analytics.log.alerts import AlertKey, Ledger
from depesche.analytics.log.client import acknowledged, full_name
from depesche.schemas.codec import encode
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.records import AlertKind, Severity
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ALERTS

log = structlog.get_logger(__name__)

OWN_KINDS = (AlertKind.HARD_BOUNCE_RATE, AlertKind.COMPLAINT_RATE, AlertKind.LISTED, AlertKind.LIST_UNUSABLE)
"""Kinds of which nobody else writes; suspensions are the pace fold's (``suspensions`` shows them)."""
_DEADLINE_SECONDS = 30.0


class AlertWriter:
    """The only one who writes alerts of its kinds, as long as it is the elected one; ``ledger`` is what the log says."""

    def __init__(self, settings: Settings, ledger: Ledger, producer: AIOKafkaProducer) -> None:
        """Prepare to write after what ``ledger`` holds; ``producer`` is started."""
        self.ledger = ledger
        self._topic = full_name(settings.kafka, ALERTS.name)
        self._producer = producer
        self._show()

    async def say(self, key: AlertKey, *, raised: bool, at: int, **more: Any) -> bool:
        """Begin or end an alert and wait until the log has it; tells whether there was anything to say.

        Args:
            key: what it is about.
            raised: whether it begins.
            at: when, in milliseconds since 1970 UTC.
            more: other fields of ``Alert``.

        Raises:
            LogUnavailableError: it may have been written or not; only reading the log again tells.
        """
        alert = self.ledger.next(key, raised=raised, at=at, **more)
        if alert is None:
            return False
        crashpoint("W1")
        sent = await self._producer.send(self._topic, encode(alert), key=str(key).encode(), partition=0)
        await acknowledged(sent, _DEADLINE_SECONDS)
        crashpoint("W2")
        self.ledger.apply(alert)
        tell = log.warning if raised else log.info
        tell(f"alert_{alert.state.value}", kind=key.kind.value, severity=key.severity.value, subject=key.subject,
             explanation=alert.explanation)  # fmt: skip
        self._show()
        return True

    def _show(self) -> None:
        open_ = Counter((key.kind, key.severity) for key in self.ledger.open())
        for kind in OWN_KINDS:
            for severity in (Severity.WARN, Severity.HIGH):
                meters.gauge("mail_alerts_open", open_[kind, severity], kind=kind.value, severity=severity.value)
