"""Rates: how often each outcome occurred at each provider in each minute (mission D7 begins here).

The fold's key is not the topic's, so each source partition keeps its own sums and whoever reads adds the partitions up.
A table value is the pair (count, offset of the last record counted): Faust's changelog runs ahead of its committed offsets,
so after a kill it replays events whose effect is already in the table. They are recognised by their offset and skipped; a
plain counter came out 11 to 32 % too high.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import faust

from depesche.analytics.log.client import full_name
from depesche.schemas.codec import encode
from depesche.schemas.records import EventType, MailEvent, RateSum
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RATES
from depesche.streams.agents.app import await_send, die

MINUTE_MS = 60_000
KEPT_MS = 48 * 3_600_000
PRUNE_EVERY = 20_000
SAY_SECONDS = 1.0


def key_of(event: MailEvent, partition: int) -> str:
    """The table key of an event: type, provider, start of its minute, source partition."""
    return f"{event.type.value}|{event.provider}|{event.occurred_at // MINUTE_MS * MINUTE_MS}|{partition}"


def counted(held: tuple[int, int] | None, offset: int) -> tuple[int, int] | None:
    """The new (count, watermark) after the record at ``offset``, or nothing if it is counted already."""
    if held is None:
        return 1, offset
    count, watermark = held
    return None if offset <= watermark else (count + 1, offset)


def sum_of(key: str, held: tuple[int, int]) -> RateSum:
    """The record that says what the table holds under ``key``."""
    type_, provider, minute, partition = key.split("|")
    return RateSum(
        type=EventType(type_),
        provider=provider,
        minute=int(minute),
        source_partition=int(partition),
        count=held[0],
        watermark=held[1],
    )


class Rates:
    """The fold, its table, and the timer that says what changed."""

    def __init__(
        self,
        app: faust.App,
        settings: Settings,
        said: Callable[[], Awaitable[dict[str, RateSum]]],
        clock: Clock = now_ms,
    ) -> None:
        self.processed = 0
        self._clock = clock
        self._said = said
        self._changed: set[str] = set()
        self._target = app.topic(full_name(settings.kafka, RATES.name), value_serializer="raw", key_serializer="raw")
        self._table = app.Table(
            "rates",
            partitions=settings.kafka.partitions,
            key_type=str,
            on_recover=self._reconcile,
            help="(count, watermark) per outcome, provider, minute and source partition",
        )
        app.timer(SAY_SECONDS, name="rates.say")(self._say)

    async def take(self, event: MailEvent, partition: int, offset: int) -> None:
        """See ``Fold``."""
        self.processed += 1
        if event.occurred_at < self._clock() - KEPT_MS:
            return
        key = key_of(event, partition)
        held = self._table.get(key)
        after = counted(tuple(held) if held else None, offset)
        if after is not None:
            self._table[key] = after
            self._changed.add(key)
        if self.processed % PRUNE_EVERY == 0:
            self._prune(partition)

    def _prune(self, partition: int) -> None:
        oldest = self._clock() - KEPT_MS - MINUTE_MS
        for key in [k for k in self._table if int(k.rsplit("|", 2)[1]) < oldest and k.endswith(f"|{partition}")]:
            del self._table[key]

    async def _say(self) -> None:
        changed, self._changed = self._changed, set()
        try:
            for key in sorted(changed):
                held = self._table.get(key)
                if held:
                    await await_send(
                        self._target, key=key.encode(), value=encode(sum_of(key, tuple(held))), partition=0
                    )
        except Exception as fault:  # A sum that is not said must not be forgotten: start again and reconcile.
            die("rates could not say a sum", fault)

    async def _reconcile(self) -> None:
        """After recovery, say again whatever the topic does not tell as the table has it."""
        said = await self._said()
        for key in self._table:
            held = self._table[key]
            known = said.get(key)
            if known is None or (known.count, known.watermark) != tuple(held):
                self._changed.add(key)
