"""Rates: how often each outcome of each customer's mail occurred at each provider in each minute (mission D7 begins here).

The fold's key is not the topic's, so each source partition keeps its own sums and whoever reads adds the partitions up.
A table value carries the offset of the last record counted: Faust's changelog runs ahead of its committed offsets,
so after a kill it replays events whose effect is already in the table. They are recognised by their offset and skipped; a
plain counter came out 11 to 32 % too high.

The table keeps ``KEPT_MS`` of minutes, counted back from the newest minute that a partition has told of and not from now: an
agent that was away for a day counts all of it when it comes back. Older minutes leave the table (they are still in mail.rates,
for three days, and in ClickHouse); an outcome so late that its minute has left is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import faust
import structlog

from depesche.analytics.log.client import full_name
from depesche.schemas.codec import encode
from depesche.schemas.rates import MINUTE_MS, Grain, grain_of
from depesche.schemas.records import EventType, MailEvent, RateSum
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RATES
from depesche.streams.agents.app import die

log = structlog.get_logger(__name__)

KEPT_MS = 2 * 3_600_000
"""An outcome is written within a second of its occurrence, or when the log can be written again; that stops all clocks alike."""
PRUNE_EVERY = 20_000
SAY_SECONDS = 1.0
MOST_IDS = 5
_KEY_PARTS = 7


class Held(NamedTuple):
    """What the table holds under a key."""

    total: int
    watermark: int
    event_ids: Sequence[str] = ()


def key_of(grain: Grain, partition: int) -> str:
    """The table key of a grain and source partition. The provider comes last: strangers name it, and it may contain anything."""
    return f"{grain.type}|{grain.kind}|{grain.late:d}|{grain.tenant}|{grain.minute}|{partition}|{grain.provider}"


def place_of(key: str) -> tuple[int, int]:
    """Minute and source partition of a table key, also of one that was made before sums knew their customer."""
    parts = key.split("|", _KEY_PARTS - 1)
    minute, partition = parts[4:6] if len(parts) == _KEY_PARTS else parts[-2:]
    return int(minute), int(partition)


def counted(held: Held | None, offset: int, event_id: str = "") -> Held | None:
    """What is held after the record at ``offset``, or nothing if it is counted already.

    Args:
        held: what was held before.
        offset: of the record in its partition.
        event_id: its event, if sums of its grain name the latest; else empty.
    """
    before = held or Held(0, -1)
    if offset <= before.watermark:
        return None
    named = (*before.event_ids, event_id)[-MOST_IDS:] if event_id else before.event_ids
    return Held(before.total + 1, offset, tuple(named))


def is_evidence(grain: Grain) -> bool:
    """Whether sums of this grain name their events: only what may raise an alert must be traced to its causes."""
    return grain.type == EventType.COMPLAINED.value or (grain.type == EventType.BOUNCED.value and grain.kind == "hard")


def sum_of(key: str, held: Held) -> RateSum:
    """The record that says what the table holds under ``key``."""
    type_, kind, late, tenant, minute, partition, provider = key.split("|", _KEY_PARTS - 1)
    return RateSum(
        type=EventType(type_),
        provider=provider,
        tenant=tenant,
        kind=kind,
        late=late == "1",
        minute=int(minute),
        source_partition=int(partition),
        count=held.total,
        watermark=held.watermark,
        event_ids=tuple(held.event_ids),
    )


class Rates:
    """The fold, its table, and the timer that says what changed."""

    def __init__(
        self,
        app: faust.App,
        settings: Settings,
        said: Callable[[int], Awaitable[Mapping[str, RateSum]]],
        clock: Clock = now_ms,
    ) -> None:
        """Register table and timer with ``app``.

        Args:
            app: the Faust app.
            settings: topic names.
            said: reads what mail.rates has said since a time (``analytics.log.sums.read_sums``).
            clock: keeps a clock that goes wrong on another machine from making everything else look old.
        """
        self.processed = 0
        self._clock = clock
        self._said = said
        self._changed: set[str] = set()
        self._newest: dict[int, int] = {}
        self._target = app.topic(full_name(settings.kafka, RATES.name), value_serializer="raw", key_serializer="raw")
        self._table = app.Table(
            "rates",
            partitions=settings.kafka.partitions,
            key_type=str,
            on_recover=self._reconcile,
            help="(total, watermark, event ids) per grain and source partition",
        )
        app.timer(SAY_SECONDS, name="rates.say")(self._say)

    async def take(self, event: MailEvent, partition: int, offset: int) -> None:
        """See ``Fold``."""
        self.processed += 1
        grain = grain_of(event)
        newest = max(self._newest.get(partition, 0), min(grain.minute, self._clock() // MINUTE_MS * MINUTE_MS))
        self._newest[partition] = newest
        if grain.minute < newest - KEPT_MS:
            log.warning("outcome_too_old_for_rates", event_id=event.event_id)
            return
        key = key_of(grain, partition)
        held = self._table.get(key)
        after = counted(Held(*held) if held else None, offset, event.event_id if is_evidence(grain) else "")
        if after is not None:
            self._table[key] = tuple(after)
            self._changed.add(key)
        if self.processed % PRUNE_EVERY == 0:
            self._prune(partition, newest - KEPT_MS)

    def _prune(self, partition: int, oldest: int) -> None:
        for key in list(self._table):
            minute, source = place_of(key)
            if source == partition and minute < oldest and key not in self._changed:
                del self._table[key]

    async def _say(self) -> None:
        changed, self._changed = self._changed, set()
        try:
            # Read at once, before the next await lets the table change.
            records = [(key, encode(sum_of(key, Held(*self._table[key])))) for key in sorted(changed)]
            sent = [await self._target.send(key=key.encode(), value=value, partition=0) for key, value in records]
            await asyncio.gather(*sent)
        except Exception as fault:  # A sum that is not said must not be forgotten: start again and reconcile.
            die("rates could not say a sum", fault)

    async def _reconcile(self) -> None:
        """After recovery, say again whatever the topic does not tell as the table has it."""
        for key in self._table:
            minute, partition = place_of(key)
            self._newest[partition] = max(
                self._newest.get(partition, 0), min(minute, self._clock() // MINUTE_MS * MINUTE_MS)
            )
        # The sums of a minute are said after it has begun: nothing older needs to be read.
        said = await self._said(min((place_of(key)[0] for key in self._table), default=self._clock()))
        for key in self._table:
            held, known = Held(*self._table[key]), said.get(key)
            if key.count("|") >= _KEY_PARTS - 1 and (known is None or known.watermark != held.watermark):
                self._changed.add(key)
