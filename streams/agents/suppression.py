"""Suppression as a Faust fold: two sources, one table, and the table is the topic that everybody reads.

The rules are in ``streams/mail/suppression.py``; here is only where states come from and go to. Faust's changelog of the table
*is* mail.suppressions, so that what couriers and doors act on can never differ from what the fold goes on from. A new state
is written and acknowledged before the fact behind it is, and only then taken into the table: killed before, the fact comes
again and finds the old state; killed after, its offset is in the state and it is passed over.

Facts of one recipient stand in the same partition of both sources, so one worker has them all. It takes one at a time per
recipient; the order of the two sources against one another does not matter (see the rules).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import faust
import structlog

from depesche.analytics.log.client import full_name
from depesche.schemas import cloudevents
from depesche.schemas.codec import decode, encode
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import MailEvent, Suppression, SuppressionAction, SuppressionRequest
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import SUPPRESSION_REQUESTS, SUPPRESSIONS, partition_of
from depesche.streams.agents.app import await_send, die
from depesche.streams.agents.recent import RecentEvents, read_back
from depesche.streams.mail.suppression import after_outcome, after_request, forgettable
from depesche.streams.mail.suppression_facts import FOLDED, Policy

log = structlog.get_logger(__name__)

SWEEP_SECONDS: Final = 6 * 3600.0
_SWEPT_AT_ONCE: Final = 200


class Suppressions:
    """The fold and its table. ``changed`` counts the states written."""

    def __init__(self, app: faust.App, settings: Settings, clock: Clock = now_ms) -> None:
        self.changed = 0
        self._app = app
        self._settings = settings
        self._clock = clock
        self._policy = Policy.of(settings.suppression)
        self._busy: dict[bytes, asyncio.Lock] = {}
        self._users: dict[bytes, int] = {}
        self._name = full_name(settings.kafka, SUPPRESSIONS.name)
        self._source = full_name(settings.kafka, SUPPRESSION_REQUESTS.name)
        self._next: dict[int, int] = {}
        self._recent: dict[int, RecentEvents] = {}
        self._target = app.topic(
            self._name,
            key_serializer="raw",
            value_serializer="raw",
            partitions=settings.kafka.partitions,
            acks=False,
            internal=True,
            maxsize=131_072,
            allow_empty=True,
        )
        self._table = app.Table(
            "suppressions",
            partitions=settings.kafka.partitions,
            key_type=bytes,
            value_type=bytes,
            changelog_topic=self._target,
            help="Suppression by recipient key, as in mail.suppressions",
        )
        self._requests = app.topic(self._source, key_serializer="raw", value_serializer="raw")
        app.agent(self._requests, name="suppression-requests", concurrency=1)(self._listen)
        app.timer(SWEEP_SECONDS, name="suppressions.sweep")(self._ask_for_sweeps)

    async def take(self, event: MailEvent, partition: int, offset: int) -> None:
        """See ``Fold``."""
        if event.type in FOLDED:
            await self._change(
                event.recipient_key,
                partition,
                lambda held: after_outcome(held, event, self._policy, partition, offset),
            )

    async def _listen(self, stream: Any) -> None:
        async for event in stream.events():
            try:
                await self._take_request(event.value, event.message.partition, event.message.offset)
            except UndecodableError as fault:
                log.error("suppression_request_unreadable", offset=event.message.offset, cause=str(fault))
            except Exception as fault:  # Anything else is ours: leave before Faust acknowledges the request.
                die("a suppression request could not be taken", fault)

    async def _take_request(self, value: bytes, partition: int, offset: int) -> None:
        if self._next.get(partition) != offset:
            self._recent[partition] = await read_back(self._settings, self._source, partition, offset)
        self._next[partition] = offset + 1
        request = decode(SuppressionRequest, value)
        if self._recent[partition].seen(request.request_id):
            return
        if request.action is SuppressionAction.SWEEP:
            await self._sweep(partition, request.at)
            return
        await self._change(
            request.recipient_key,
            partition,
            lambda held: after_request(held, request, self._policy, partition, offset),
        )

    async def _change(
        self, recipient_key: str, partition: int, after: Callable[[Suppression | None], Suppression | None]
    ) -> None:
        key = recipient_key.encode()
        async with self._alone_with(key):
            held = self._table.data.get(key)
            state = after(decode(Suppression, held) if held else None)
            if state is not None:
                value = encode(state)
                await await_send(self._target, key=key, value=value, partition=partition)
                self._table.data[key] = value
                self.changed += 1

    @asynccontextmanager
    async def _alone_with(self, key: bytes) -> AsyncIterator[None]:
        """The two agents wait for the log in between; they must not do so about the same recipient."""
        lock = self._busy.setdefault(key, asyncio.Lock())
        self._users[key] = self._users.get(key, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._busy[key]

    # Forgetting what has ended.

    async def _ask_for_sweeps(self) -> None:
        """Forgetting is a request in the log like any other, so that a replay forgets the same."""
        at = self._clock()
        for place in sorted(self._app.assignor.assigned_actives()):
            if place.topic == self._name:
                name = f"sweep/{place.partition}/{at // round(SWEEP_SECONDS * 1000)}"
                request = SuppressionRequest(request_id=name, action=SuppressionAction.SWEEP, at=at, by="agents")
                headers = cloudevents.headers(name, "suppression.request", name, at)
                await await_send(
                    self._requests, key=b"", value=encode(request), partition=place.partition, headers=headers
                )

    async def _sweep(self, partition: int, at: int) -> None:
        forgotten = 0
        for number, key in enumerate(list(self._table.data)):
            if partition_of(key.decode(), self._settings.kafka.partitions) == partition:
                forgotten += await self._forgotten(key, partition, at)
            if number % _SWEPT_AT_ONCE == 0:
                await asyncio.sleep(0)
        log.info("suppressions_swept", partition=partition, forgotten=forgotten)

    async def _forgotten(self, key: bytes, partition: int, at: int) -> bool:
        async with self._alone_with(key):
            held = self._table.data.get(key)
            if held is None or not forgettable(decode(Suppression, held), at):
                return False
            await await_send(self._target, key=key, value=None, partition=partition)
            self._table.data.pop(key, None)
            return True
