"""How many bytes of large mails a courier process holds at once; small ones are not counted.

A host that reads slowly holds a whole mail in our memory. No route may hold more than a quarter, so that large mails to others
still find room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

SMALL = 64 * 1024
TOTAL = 256 * 1024 * 1024


@dataclass(slots=True)
class _Waiter:
    route: str
    size: int
    granted: asyncio.Future[None]


class ContentBudget:
    """Bytes to be had, by route."""

    def __init__(self, total: int = TOTAL) -> None:
        self._total = total
        self._share = total // 4
        self._used = 0
        self._by_route: dict[str, int] = {}
        self._waiters: deque[_Waiter] = deque()

    async def take(self, route: str, size: int) -> None:
        """Wait until ``size`` bytes may be held for ``route``; give them back with ``give_back``."""
        if size <= SMALL:
            return
        if self._fits(route, size):
            self._grant(route, size)
            return
        waiter = _Waiter(route, size, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self.give_back(route, size)
            else:
                self._waiters.remove(waiter)
            raise

    def give_back(self, route: str, size: int) -> None:
        """The bytes are held no longer."""
        if size <= SMALL:
            return
        self._used -= size
        self._by_route[route] -= size
        if not self._by_route[route]:
            del self._by_route[route]
        for waiter in list(self._waiters):
            if self._fits(waiter.route, waiter.size):
                self._waiters.remove(waiter)
                self._grant(waiter.route, waiter.size)
                waiter.granted.set_result(None)

    def _fits(self, route: str, size: int) -> bool:
        # A mail larger than a share must still leave, alone.
        held = self._by_route.get(route, 0)
        return (not held or held + size <= self._share) and (not self._used or self._used + size <= self._total)

    def _grant(self, route: str, size: int) -> None:
        self._used += size
        self._by_route[route] = self._by_route.get(route, 0) + size
