"""The operator's hand at the couriers: what an order means for a unit that is about to be sent.

Every decision about a unit is made here, by the courier that owns its route, because only the owner knows what became of its
attempts; doors, prepare and the ladder's keeper only pass units on. So a unit that is dropped gets its one final event from the
same hands that would have told its delivery, and one that is rerouted ends its attempt here before the next one can begin
elsewhere: whatever repetition of it still comes to this partition is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from depesche.analytics.controls.book import ControlBook
from depesche.analytics.controls.orders import Order
from depesche.analytics.log.meters import count
from depesche.schemas.errors import LogUnavailableError
from depesche.schemas.records import CancelledDetail, ControlAction, ControlScope
from depesche.schemas.service import Clock, now_ms
from depesche.streams.mail.ladder import without_attempt
from depesche.streams.runner.guard import guarded
from depesche.streams.runner.stage import Flight
from depesche.streams.stages.errand import Errand
from depesche.streams.stages.recorder import Recorder
from depesche.streams.stages.trail import header

ORDER = "order"
"""Header of a unit that was moved by an order: the order's offset in mail.controls, which its courier must have read first."""
CANCEL = "cancel"
"""Header of a unit that was cancelled before it was prepared, with the order's id: it is not fit to be sent."""
_PATIENCE_SECONDS = 30.0
_TRIED_NOW = (ControlAction.RETRY, ControlAction.SUSPEND)
"""An order to retry, or to suspend that has ended, wants hosts tried that nobody would try for a while."""


class Waiting(Protocol):
    """Where errands wait for a connection: the dispatch."""

    def withdraw(self, chosen: Callable[[Errand], bool]) -> Iterable[Errand]:
        """Take the waiting errands for which ``chosen`` is true out of their lanes."""
        ...

    def reopen(self, chosen: Callable[[str], bool]) -> None:
        """Let the lanes of the routes for which ``chosen`` is true try again at once."""
        ...


class Hand:
    """What the orders mean for the errands of one courier process."""

    def __init__(
        self,
        book: ControlBook,
        recorder: Recorder,
        end: Callable[[Exception], None],
        time_scale: float,
        clock: Clock = now_ms,
    ) -> None:
        """Prepare.

        Args:
            book: the orders.
            recorder: where errands end.
            end: ends the process with a fault that is nobody's mail's.
            time_scale: multiplies the ladder's delays.
            clock: the time in milliseconds.
        """
        self._book = book
        self._recorder = recorder
        self._end = end
        self._time_scale = time_scale
        self._clock = clock
        self._seen = book.version
        self._read = max((order.offset + 1 for order in book.orders.all()), default=0)
        self._tasks: set[asyncio.Task[None]] = set()

    def postpones(self, flight: Flight, take: Callable[[Flight], None]) -> bool:
        """Whether a record was moved by an order that is not read here yet; then ``take`` is called with it later."""
        offset = header(flight.record, ORDER)
        if not offset.isdecimal() or self._book.has_read(int(offset)):
            return False
        task = asyncio.ensure_future(self._later(int(offset), flight, take))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _later(self, offset: int, flight: Flight, take: Callable[[Flight], None]) -> None:
        try:
            await self._book.wait_for(offset, _PATIENCE_SECONDS)
        except LogUnavailableError as fault:
            self._end(fault)
        else:
            if flight.live:
                guarded(flight, take, flight)

    def meets(self, errand: Errand) -> bool:
        """Whether an order is about the errand, which then goes no further: it is cancelled, parked or moved."""
        unfit = self._cancelled_before(errand)
        if unfit is not None:
            self._cancel(errand, unfit)
            return True
        order = self._order(errand)
        if order is None:
            return False
        action = order.control.action
        if action is ControlAction.DROP:
            self._cancel(errand, _detail(order))
        elif action is ControlAction.SUSPEND:
            self._park(errand, order)
        else:
            count("mail_units_controlled_total", action=action.value)
            self._recorder.reroute(errand, self._book.pool_for(errand.unit))
        return True

    def _cancelled_before(self, errand: Errand) -> CancelledDetail | None:
        """What a unit that was not prepared because of an order ends by, even if the order was lifted or forgotten since."""
        control_id = header(errand.flight.record, CANCEL) if errand.flight is not None else ""
        if not control_id:
            return None
        order = self._book.orders.find(control_id)
        return _detail(order) if order is not None else CancelledDetail(control_id=control_id, by="")

    def _order(self, errand: Errand) -> Order | None:
        order = self._book.about(errand.unit)
        # While a copy of its record is being written it is not known which record stands for the unit; in a moment it is.
        return None if order is None or errand.carrying else order

    def _cancel(self, errand: Errand, detail: CancelledDetail) -> None:
        count("mail_units_controlled_total", action=ControlAction.DROP.value)
        self._recorder.cancel(errand, detail)

    def _park(self, errand: Errand, order: Order) -> None:
        count("mail_units_controlled_total", action=ControlAction.SUSPEND.value)
        unit = errand.unit
        next_try = without_attempt(unit.accepted_at, self._clock(), unit.expires_at, self._time_scale)
        if next_try is None:
            self._recorder.expire(errand, f"suspended by order {order.control.control_id}")
        else:
            self._recorder.park(errand, next_try, f"suspended {order.control.control_id}")

    def sweep(self, waiting: Waiting) -> None:
        """Take out of the lanes what an order is about that was given since; called every second, costs nothing without news."""
        if self._book.version == self._seen:
            return
        self._seen = self._book.version
        for order in self._book.orders.all():
            if order.offset >= self._read and order.control.action in _TRIED_NOW and not order.holds(self._clock()):
                waiting.reopen(partial(_leads, order.control.scope))
        self._read = max([self._read, *(order.offset + 1 for order in self._book.orders.all())])
        for errand in waiting.withdraw(lambda errand: self._order(errand) is not None):
            self.meets(errand)

    def tell_again(self, errand: Errand, on_the_ladder: set[str]) -> None:
        """The errand was rerouted before a crash; whether it is on its way is told by ``on_the_ladder``."""
        self._recorder.reroute(errand, self._book.pool_for(errand.unit), on_the_ladder)

    async def watch(self) -> None:
        """Return never. Raises what broke the reading of orders."""
        await self._book.watch()
        await asyncio.Event().wait()

    def stop(self) -> None:
        """End what waits."""
        for task in self._tasks:
            task.cancel()


def _leads(scope: ControlScope, route: str) -> bool:
    """Whether units of ``scope`` may be on ``route``."""
    pool, provider = route.split("/")[:2]
    return scope.pool in (None, pool) and scope.provider in (None, provider)


def _detail(order: Order) -> CancelledDetail:
    control = order.control
    return CancelledDetail(control_id=control.control_id, by=control.by, reason=control.reason)
