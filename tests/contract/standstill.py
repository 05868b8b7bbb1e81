"""What every task of this process waits for, so that a test that stands still says where."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import Any

SECONDS = 60
"""Nothing that starts or stops here takes so long, however busy the machine."""


async def first_of(what: str, tasks: Collection[asyncio.Task[Any]]) -> None:
    """Wait until one of ``tasks`` has ended.

    Raises:
        AssertionError: none did; with the place of every task.
    """
    done, _ = await asyncio.wait(tasks, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
    assert done, f"{what} stands still\n" + "\n".join(_places())


def _places() -> Iterator[str]:
    for task in asyncio.all_tasks():
        yield f"{task.get_name()}:"
        waiting: Any = task.get_coro()
        while waiting is not None:
            frame = next((getattr(waiting, name) for name in _FRAMES if getattr(waiting, name, None)), None)
            if frame is not None:
                yield f"    {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
            waiting = next((getattr(waiting, name) for name in _INNER if getattr(waiting, name, None)), None)


_FRAMES = ("cr_frame", "ag_frame", "gi_frame")
_INNER = ("cr_await", "ag_await", "gi_yieldfrom")
