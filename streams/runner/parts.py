"""A service of several endless parts: when one ends, all end.

Not a ``TaskGroup``: that waits for the parts that still run when one has returned, and wraps what one has raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, Final

_TELL_AGAIN_SECONDS: Final = 10.0
"""Longer than any part takes to clean up."""


async def until_one_ends(*parts: Coroutine[Any, Any, object]) -> None:
    """Run ``parts`` side by side until one of them returns or raises; the others are then cancelled and waited for.

    Raises:
        Exception: what the part that ended has raised.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await cancelled(tasks)


async def cancelled(tasks: Collection[asyncio.Future[Any]], tell_again_seconds: float = _TELL_AGAIN_SECONDS) -> None:
    """Cancel ``tasks`` and wait until they have ended, whatever with.

    A cancellation can get lost where a library waits for an answer that comes in the same moment; the part then goes on for
    ever. So who has not ended is told again.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=tell_again_seconds)
    await asyncio.gather(*tasks, return_exceptions=True)
