"""The shape of everything that runs for long: a door, a stage, a sink. ``depesche up`` hosts one or several in a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

Clock: TypeAlias = Callable[[], int]
"""Gives the time in milliseconds since 1970 UTC; an argument, so that tests choose it."""


def now_ms() -> int:
    """The time of day in milliseconds since 1970 UTC; the real ``Clock``."""
    return time.time_ns() // 1_000_000


class Service(Protocol):
    """Something that runs until it is cancelled."""

    name: str

    async def run(self, ready: Callable[[], None]) -> None:
        """Do the work until cancelled, then leave everything tidy.

        Calls ``ready`` once when it can do its work. A fault it cannot handle leaves as an exception and ends the
        process, so that nothing is committed past it; the supervisor starts it again.
        """
        ...
