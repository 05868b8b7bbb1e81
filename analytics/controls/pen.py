"""Gives and lifts orders: each version to the history, then to mail.controls, and an answer only once it was read back."""

from __future__ import annotations

from dataclasses import replace

from aiokafka import AIOKafkaProducer

from depesche.analytics.controls.book import ControlBook
from depesche.analytics.controls.orders import Order
from depesche.analytics.log.client import acknowledged, full_name
from depesche.schemas.codec import encode
from depesche.schemas.errors import InvalidRequestError, MissingValueError, NotFoundError
from depesche.schemas.identity import new_job_id
from depesche.schemas.records import Control, ControlAction, ControlScope, ControlState
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import CONTROLS, CONTROLS_HISTORY, DAY

KEPT_MS = 30 * DAY
"""An order that holds no more leaves mail.controls after so long; by then no unit that it was about is on its way."""
EVERYTHING = ControlScope()


class ControlPen:
    """Writes orders."""

    def __init__(
        self, settings: Settings, book: ControlBook, producer: AIOKafkaProducer, clock: Clock = now_ms
    ) -> None:
        """``producer``: started, and stopped by whoever made it."""
        self._settings = settings
        self._book = book
        self._producer = producer
        self._clock = clock

    async def give(
        self,
        action: ControlAction,
        scope: ControlScope,
        by: str,
        *,
        everything: bool = False,
        target_pool: str = "",
        until: int | None = None,
        reason: str = "",
    ) -> Order:
        """Give an order; when this returns, every process reads it within a second.

        Args:
            action: what is to be done.
            scope: which units it is about.
            by: who gives it.
            everything: must be said for a scope that excludes nothing.
            target_pool: of reroute, the pool that takes them.
            until: when it ends by itself, in milliseconds since 1970 UTC.
            reason: why, in a person's words.

        Raises:
            InvalidRequestError, MissingValueError: it makes no sense; says what to change.
            LogUnavailableError: no acknowledgement; whether it was written is unknown, asking again is safe.
        """
        now = self._clock()
        _check(action, scope, target_pool, until, now, everything=everything)
        control = Control(
            control_id=new_job_id(now),
            action=action,
            scope=scope,
            target_pool=target_pool,
            until=until,
            reason=reason,
            by=by,
            at=now,
            state=ControlState.ACTIVE,
            changed_by=by,
            changed_at=now,
        )
        await self._forget_old(now)
        return await self._write(control)

    async def lift(self, control_id: str, by: str) -> Order:
        """End an order; what it had suspended comes back at once.

        Raises:
            NotFoundError: there is none of this id that holds.
            LogUnavailableError: see ``give``.
        """
        found = self._book.orders.find(control_id)
        now = self._clock()
        if found is None or not found.holds(now):
            raise NotFoundError(f"no order {control_id}", public=f"There is no order {control_id} that holds")
        return await self._write(replace(found.control, state=ControlState.LIFTED, changed_by=by, changed_at=now))

    def active(self) -> list[Order]:
        """The orders that hold, the newest first."""
        return self._book.orders.active(self._clock())

    def all(self) -> list[Order]:
        """The orders that hold or held lately, the newest first."""
        return list(self._book.orders.all())

    async def _write(self, control: Control) -> Order:
        deadline = self._settings.kafka.deadline_seconds
        key, value = control.control_id.encode(), encode(control)
        kept = await self._producer.send(self._name(CONTROLS_HISTORY.name), value, key=key, partition=0)
        await acknowledged(kept, deadline)
        sent = await self._producer.send(self._name(CONTROLS.name), value, key=key, partition=0)
        written = await acknowledged(sent, deadline)
        await self._book.wait_for(written.offset, deadline)
        return Order(control, written.offset)

    async def _forget_old(self, now: int) -> None:
        for order in list(self._book.orders.all()):
            control = order.control
            ended = max(control.changed_at, control.until or 0)
            if not order.holds(now) and now - ended > KEPT_MS:
                await self._producer.send(self._name(CONTROLS.name), None, key=control.control_id.encode(), partition=0)

    def _name(self, topic: str) -> str:
        return full_name(self._settings.kafka, topic)


def check_scope(scope: ControlScope, *, everything: bool) -> None:
    """Raise unless a scope that excludes nothing is meant so, and any other is not.

    Raises:
        MissingValueError, InvalidRequestError: says what to change.
    """
    if scope == EVERYTHING and not everything:
        raise MissingValueError("scope", public="An order about everything must say so: all", pointer="/scope")
    if scope != EVERYTHING and everything:
        raise InvalidRequestError("all", public="Say either all or a scope", pointer="/all")


def _check(
    action: ControlAction, scope: ControlScope, target_pool: str, until: int | None, now: int, *, everything: bool
) -> None:
    check_scope(scope, everything=everything)
    if scope.campaign_id is not None and scope.tenant is None and scope.account is None:
        # Two customers may use the same word for their campaigns.
        raise MissingValueError(
            "tenant",
            public="A campaign belongs to a customer: say whose, or which account's",
            pointer="/scope/customer",
        )
    if action is ControlAction.REROUTE and not target_pool:
        raise MissingValueError("to_pool", public="To which pool?", pointer="/to_pool")
    if action is not ControlAction.REROUTE and target_pool:
        raise InvalidRequestError("to_pool", public="Only reroute has a target pool", pointer="/to_pool")
    if "/" in target_pool:
        raise InvalidRequestError("to_pool", public="A pool's name has no slash", pointer="/to_pool")
    if until is not None and until <= now:
        raise InvalidRequestError("until", public="The end of an order must lie ahead", pointer="/until")
    if until is not None and action is ControlAction.RETRY:
        raise InvalidRequestError("until", public="To retry is done once; it has no end", pointer="/until")
