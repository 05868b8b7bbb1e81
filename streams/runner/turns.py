"""Long work in slices, and the others in between.

Preparing a mail is two milliseconds of work without a wait; carrying one is five short steps, each of which waits for the far
side. When many jobs become ready in the same turn of the loop, each of those steps waits for all of them: couriers beside a
busy prepare stage sent a tenth of what they can, and mail that had been prepared went to the ladder because they were slow.
"""

from __future__ import annotations

import asyncio


class Turns:
    """A few slices per turn of the loop; first come, first served.

    ``async with turns:`` waits for a turn; what is done in it should take no more than about a millisecond. Written out and not a
    generator in a wrapper, because each mail passes twice.
    """

    def __init__(self, at_once: int) -> None:
        """``at_once``: slices per turn; more let records gather into fewer requests, fewer let the others step sooner."""
        self._places = asyncio.Semaphore(at_once)

    async def __aenter__(self) -> None:
        """Wait for a turn."""
        await self._places.acquire()

    async def __aexit__(self, *fault: object) -> None:
        """Let the others step, then the next slice."""
        try:
            await asyncio.sleep(0)
        finally:
            self._places.release()
