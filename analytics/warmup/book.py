"""What each own address that is warming up has sent to each provider on which day, followed in memory."""

from __future__ import annotations

import structlog
from aiokafka.structs import ConsumerRecord

from depesche.analytics.log.follower import Follower
from depesche.schemas.codec import decode
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import WarmupCount
from depesche.schemas.settings import Settings
from depesche.schemas.topics import DAY, WARMUP

log = structlog.get_logger(__name__)

_KEPT_DAYS = 3


class WarmupBook(Follower):
    """Follows mail.warmup."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to follow."""
        super().__init__(settings, WARMUP, self._read)
        self._counts: dict[int, dict[tuple[str, str], dict[int, tuple[int, int]]]] = {}

    def _read(self, record: ConsumerRecord[bytes, bytes | None]) -> None:
        try:
            if record.value is not None:
                self.apply(decode(WarmupCount, record.value))
        except UndecodableError as fault:
            log.error("warmup_count_unreadable", offset=record.offset, cause=str(fault))

    def apply(self, count: WarmupCount) -> None:
        """Take in a count. One that counts less far than the one that is held changes nothing: a killed worker may speak last."""
        day = self._counts.setdefault(count.day, {})
        parts = day.setdefault((count.source_ip, count.provider), {})
        if count.watermark > parts.get(count.source_partition, (0, -1))[1]:
            parts[count.source_partition] = count.count, count.watermark
        for old in [known for known in self._counts if known < max(self._counts) - _KEPT_DAYS * DAY]:
            del self._counts[old]

    def used(self, ip: str, provider: str, day: int) -> int:
        """Attempts that a provider answered to an own address on a day, as far as they are counted.

        Args:
            ip: own address.
            provider: mailbox provider.
            day: start of the UTC day in milliseconds since 1970.
        """
        return sum(count for count, _ in self._counts.get(day, {}).get((ip, provider), {}).values())

    def by_provider(self, ip: str, day: int) -> dict[str, int]:
        """What ``used`` says of all providers that an own address had an answer from on a day, by name."""
        found = {provider for own, provider in self._counts.get(day, {}) if own == ip}
        return {provider: self.used(ip, provider, day) for provider in sorted(found)}
