"""The operator's orders as a running process sees them: follows mail.controls and answers from memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from depesche.analytics.controls.orders import Order, Orders, Unit
from depesche.analytics.log.follower import Follower
from depesche.analytics.log.meters import gauge
from depesche.schemas.codec import decode
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import Control, ControlAction
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import CONTROLS

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

log = structlog.get_logger(__name__)

_SHOWN = (ControlAction.SUSPEND, ControlAction.DROP, ControlAction.REROUTE)


class ControlBook:
    """The orders, as far as the log has been read. Without ``start`` it is an empty book, for tests and lone stages."""

    def __init__(self, settings: Settings, clock: Clock = now_ms) -> None:
        """``clock``: the time in milliseconds, against which an order's end is held."""
        self.orders = Orders()
        self._clock = clock
        self._follower = Follower(settings, CONTROLS, self._take)
        self._started = False

    async def start(self) -> None:
        """Read the topic to its end, then follow it. Raises LogUnavailableError when that is not possible."""
        await self._follower.start()
        self._started = True
        self._show()

    async def stop(self) -> None:
        """Stop following."""
        await self._follower.stop()

    async def watch(self) -> None:
        """Return never: a process that may send must not go on with orders of yesterday. Raises what broke the following."""
        if self._started:
            await self._follower.watch()

    @property
    def version(self) -> int:
        """Changes with every order that is given, changed or lifted."""
        return self.orders.version

    def has_read(self, offset: int) -> bool:
        """Whether the record at ``offset`` of mail.controls has been taken in."""
        return self._follower.next > offset

    async def wait_for(self, offset: int, seconds: float = 10) -> None:
        """Wait until the record at ``offset`` has been taken in. Raises LogUnavailableError: not in time."""
        await self._follower.wait_for(offset, seconds)

    async def catch_up(self) -> None:
        """Read as far as the log goes now. Raises LogUnavailableError: the log cannot be read."""
        await self._follower.catch_up()

    def about(self, unit: Unit) -> Order | None:
        """See ``Orders.about``, now."""
        return self.orders.about(unit, self._clock())

    def dropping(self, unit: Unit) -> Order | None:
        """See ``Orders.dropping``, now."""
        return self.orders.dropping(unit, self._clock())

    def pool_for(self, unit: Unit) -> str:
        """See ``Orders.pool_for``, now."""
        return self.orders.pool_for(unit, self._clock())

    def _take(self, record: ConsumerRecord[bytes, bytes | None]) -> None:
        try:
            if record.value is None:
                self.orders.remove(record.key.decode("utf-8", "replace"))
            else:
                self.orders.apply(decode(Control, record.value), record.offset)
        except UndecodableError as fault:
            # A damaged order must not hide all others; whoever wrote it did not get an answer either.
            log.error("order_unreadable", offset=record.offset, cause=str(fault))
        self._show()

    def _show(self) -> None:
        active = [order.control.action for order in self.orders.active(self._clock())]
        for action in _SHOWN:
            gauge("mail_controls_active", active.count(action), action=action.value)
