"""A service of several endless parts: when one ends, all end.

Not a ``TaskGroup``: that waits for the parts that still run when one has returned, and wraps what one has raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until_one_ends(*parts: Coroutine[Any, Any, None]) -> None:
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
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
