"""A bound on the bytes that a stage holds in memory, whatever the number of records under way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """Bytes that may be held at once. One that is larger than everything is let in alone, so that it is not stuck for ever."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Hold ``size`` bytes within the block; first come, first served."""
        if self._queue or not self._fits(size):
            turn = asyncio.get_running_loop().create_future()
            self._queue.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                self._withdraw(size, turn)
                raise
        else:
            self._held += size
        try:
            yield
        finally:
            self._held -= size
            self._let_in()

    def _fits(self, size: int) -> bool:
        return not self._held or self._held + size <= self._limit

    def _withdraw(self, size: int, turn: asyncio.Future[None]) -> None:
        if (size, turn) in self._queue:
            self._queue.remove((size, turn))
        elif turn.done() and not turn.cancelled():
            self._held -= size
        self._let_in()

    def _let_in(self) -> None:
        while self._queue and self._fits(self._queue[0][0]):
            size, turn = self._queue.popleft()
            if not turn.done():
                self._held += size
                turn.set_result(None)
