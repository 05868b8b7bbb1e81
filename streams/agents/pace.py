"""Pace: one agent on mail.pace.signals that applies the law and writes each decision down.

One partition, one order, one law that looks at nothing but the signals: whoever folds them again comes to the same decisions.
A table value is the standing of a pool at a provider with the offset of the signal that it was last changed by. Decisions are
sent before the table is changed and have deterministic ids, so that a kill in between says one again and never loses or
changes one.
"""

from __future__ import annotations

from typing import Any

import faust
import structlog

from depesche.analytics.log.client import full_name
from depesche.schemas.codec import decode, encode
from depesche.schemas.errors import UndecodableError
from depesche.schemas.identity import event_id
from depesche.schemas.records import Alert, AlertKind, AlertState, PaceAction, PaceSignal, PaceState
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ALERTS, PACE, PACE_HISTORY, PACE_SIGNALS
from depesche.streams.agents.app import await_send, die
from depesche.streams.agents.recent import RecentEvents, read_back
from depesche.streams.mail.pace import Law
from depesche.streams.mail.pace_standing import Standing

log = structlog.get_logger(__name__)


class Pace:
    """The agent and its table. ``processed`` counts the signals taken."""

    def __init__(self, app: faust.App, settings: Settings) -> None:
        """Register with ``app``."""
        self.processed = 0
        self._settings = settings
        self._law = Law(settings.pace, settings.deliver.connections_per_route)
        self._source = full_name(settings.kafka, PACE_SIGNALS.name)
        self._next = -1
        self._recent = RecentEvents()
        self._table = app.Table(
            "pace", partitions=1, key_type=str, help="standing per pool and provider, with its offset"
        )
        self._history, self._newest, self._alerts = (
            app.topic(full_name(settings.kafka, topic.name), value_serializer="raw", key_serializer="raw")
            for topic in (PACE_HISTORY, PACE, ALERTS)
        )
        source = app.topic(self._source, value_serializer="raw", key_serializer="raw")
        app.agent(source, name="pace", concurrency=1)(self._listen)

    async def _listen(self, stream: Any) -> None:
        async for event in stream.events():
            try:
                await self._take(event.value, event.message.offset)
            except UndecodableError as fault:
                log.error("signal_unreadable", offset=event.message.offset, cause=str(fault))
            except Exception as fault:  # Ours: leave before Faust acknowledges the signal.
                die("a signal could not be taken", fault)

    async def _take(self, value: bytes, offset: int) -> None:
        if self._next != offset:
            self._recent = await read_back(self._settings, self._source, 0, offset)
        self._next = offset + 1
        signal = decode(PaceSignal, value)
        self.processed += 1
        if self._recent.seen(signal.event_id):
            return
        key = f"{signal.pool}/{signal.provider}"
        held = self._table.get(key)
        if held is not None and offset <= held["offset"]:
            return
        before = Standing.from_plain(held["standing"]) if held is not None else Standing()
        after, decision = self._law.decide(before, signal)
        if decision is not None:
            await self._say(key.encode(), decision)
        self._table[key] = {"standing": after.to_plain(), "offset": offset}

    async def _say(self, key: bytes, decision: PaceState) -> None:
        value = encode(decision)
        log.info(
            "pace_decided",
            pool=decision.pool,
            provider=decision.provider,
            action=decision.action.value,
            per_minute=decision.per_minute,
            connections=decision.connections,
        )
        await await_send(self._history, key=key, value=value, partition=0)
        await await_send(self._newest, key=key, value=value, partition=0)
        alert = alert_of(decision)
        if alert is not None:
            await await_send(self._alerts, key=b"suspended/" + key, value=encode(alert), partition=0)


def alert_of(decision: PaceState) -> Alert | None:
    """What a person should hear of a decision: that a suspension begins, and that it is over."""
    states = {PaceAction.SUSPENDED: AlertState.RAISED, PaceAction.RESUMED: AlertState.CLEARED}
    state = states.get(decision.action)
    if state is None:
        return None
    return Alert(
        alert_id=event_id(f"{decision.pool}/{decision.provider}", f"suspended-{state.value}", 0, decision.decision_id),
        kind=AlertKind.SUSPENDED,
        state=state,
        subject=f"{decision.pool}/{decision.provider}",
        at=decision.at,
        value=decision.refused_share,
        explanation=decision.explanation,
        causes=tuple(cause.event_id for cause in decision.causes),
    )
