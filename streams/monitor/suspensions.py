"""Shows in ``mail_alerts_open`` how many suspensions last: the pace fold says those alerts, not the monitor."""

from __future__ import annotations

import asyncio
from collections import Counter

import structlog

from depesche.analytics.log import meters
from depesche.analytics.log.alerts import AlertBook
from depesche.schemas.errors import LogUnavailableError
from depesche.schemas.records import AlertKind, Severity
from depesche.schemas.settings import Settings

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0


class Suspensions:
    """Counts the open alerts of suspended providers for as long as this process is the one that decides."""

    def __init__(self, settings: Settings, look_seconds: float = LOOK_SECONDS) -> None:
        """Prepare to count what ``mail.alerts`` says, every so many seconds."""
        self._book = AlertBook(settings, "monitor-suspensions")
        self._look_seconds = look_seconds

    async def run(self) -> None:
        """Count until cancelled; then this process shows none, because another one does."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._look_seconds)
        finally:
            _show(Counter())
            await self._book.stop()

    async def _look(self) -> None:
        try:
            open_ = (await self._book.current()).open()
        except LogUnavailableError as fault:
            # What was shown last stays; the monitor itself ends when the log is gone for long.
            log.warning("suspensions_not_counted", explanation=str(fault))
            return
        _show(Counter(key.severity for key in open_ if key.kind is AlertKind.SUSPENDED))


def _show(counted: Counter[Severity]) -> None:
    for severity in (Severity.WARN, Severity.HIGH):
        labels = {"kind": AlertKind.SUSPENDED.value, "severity": severity.value}
        meters.gauge("mail_alerts_open", counted[severity], **labels)
