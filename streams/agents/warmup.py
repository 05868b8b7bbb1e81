"""Warm-up counts: what each cold own address has sent to each provider on which day, for the couriers to go by.

Built as the rates are (``rates.py``): each source partition keeps its own counts, whoever reads adds them up, and a table value
carries the offset of the last record it counts, so that what Faust replays after a kill is recognised. Only addresses that are
warming up are counted; for all other outcomes the fold costs a look-up.

An attempt counts when the conversation had come to the mail: whoever was refused at the door has sent nothing. It counts on
the day on which it was answered.
"""

from __future__ import annotations

import asyncio

import faust

from depesche.analytics.log.client import full_name
from depesche.analytics.warmup.pools import PoolBook
from depesche.schemas.codec import encode
from depesche.schemas.records import AttemptDetail, MailEvent, WarmupCount
from depesche.schemas.settings import Settings
from depesche.schemas.topics import WARMUP
from depesche.streams.agents.app import die
from depesche.streams.agents.rates import Held, counted
from depesche.streams.mail.warmup import DAY_MS, day_of, plan_of, warm

SAY_SECONDS = 1.0
KEPT_DAYS = 3
_SENT = frozenset({"mail", "rcpt", "data", "dot"})
_KEY_PARTS = 4


def key_of(ip: str, provider: str, day: int, partition: int) -> str:
    """The table key. The provider comes last: strangers name it, and it may contain anything."""
    return f"{day}|{partition}|{ip}|{provider}"


def count_of(key: str, held: Held) -> WarmupCount:
    """The record that says what the table holds under ``key``."""
    day, partition, ip, provider = key.split("|", _KEY_PARTS - 1)
    return WarmupCount(
        source_ip=ip,
        provider=provider,
        day=int(day),
        source_partition=int(partition),
        count=held.total,
        watermark=held.watermark,
    )


def sent_from(event: MailEvent) -> str:
    """The own address that an outcome's attempt left from; empty where no mail left."""
    detail = event.detail
    return detail.source_ip if isinstance(detail, AttemptDetail) and detail.step in _SENT else ""


class Warmup:
    """The fold, its table, and the timer that says what changed."""

    def __init__(self, app: faust.App, settings: Settings, pools: PoolBook) -> None:
        """Register table and timer with ``app``; ``pools`` knows which addresses are cold."""
        self._pools = pools
        self._changed: set[str] = set()
        self._newest: dict[int, int] = {}
        self._target = app.topic(full_name(settings.kafka, WARMUP.name), value_serializer="raw", key_serializer="raw")
        self._table = app.Table(
            "warmup",
            partitions=settings.kafka.partitions,
            key_type=str,
            on_recover=self._recovered,
            help="(total, watermark) per day, source partition, own address and provider",
        )
        app.timer(SAY_SECONDS, name="warmup.say")(self._say)

    async def take(self, event: MailEvent, partition: int, offset: int) -> None:
        """See ``Fold``."""
        ip = sent_from(event)
        begun = self._pools.begun(ip) if ip else None
        if begun is None or warm(begun[0], plan_of(begun[1]), event.occurred_at):
            return
        day = day_of(event.occurred_at)
        key = key_of(ip, event.provider, day, partition)
        held = self._table.get(key)
        after = counted(Held(*held) if held else None, offset)
        if after is not None:
            self._table[key] = after.total, after.watermark
            self._changed.add(key)
        if day > self._newest.get(partition, 0):
            self._newest[partition] = day
            self._prune(partition, day - KEPT_DAYS * DAY_MS)

    def _prune(self, partition: int, oldest: int) -> None:
        """Forget the days before ``oldest``; in the topic they end by themselves."""
        for key in list(self._table):
            day, source, *_ = key.split("|", _KEY_PARTS - 1)
            if int(source) == partition and int(day) < oldest and key not in self._changed:
                del self._table[key]

    async def _say(self) -> None:
        changed, self._changed = self._changed, set()
        try:
            # Read at once, before the next await lets the table change.
            records = [(key, encode(count_of(key, Held(*self._table[key])))) for key in sorted(changed)]
            sent = [await self._target.send(key=key.encode(), value=value, partition=0) for key, value in records]
            await asyncio.gather(*sent)
        except Exception as fault:  # A count that is not said must not be forgotten: start again and say all.
            die("warmup could not say a count", fault)

    async def _recovered(self) -> None:
        """After recovery, say all counts again: they are few, and one that is known already changes nothing."""
        self._changed.update(self._table)
