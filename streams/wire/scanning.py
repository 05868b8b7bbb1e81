"""What a virus scanner is to the workshop, and how a mail passes all of them: infected by one is infected.

A scanner that does not answer is waited for. A mail never passes unscanned (mission C1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from depesche.schemas.errors import ScannerUnavailableError

log = structlog.get_logger(__name__)

FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 5.0


class Scanner(Protocol):
    """One engine."""

    name: str

    @property
    def version(self) -> str:
        """Engine and signatures, for the event; may be empty before the first answer."""
        ...

    async def scan(self, message: bytes) -> str | None:
        """What was found in a message, or nothing.

        Raises:
            ScannerUnavailableError: no verdict.
        """
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """What an engine found."""

    engine: str
    name: str


class Scanners:
    """All engines in force."""

    def __init__(self, engines: Sequence[Scanner]) -> None:
        self._engines = tuple(engines)
        self._down: dict[str, int] = {}

    @property
    def versions(self) -> tuple[str, ...]:
        """name/version of each engine."""
        return tuple(f"{engine.name}/{engine.version}" for engine in self._engines)

    @property
    def waiting(self) -> str | None:
        """Which engines do not answer just now, if any."""
        names = [name for name, waiting in self._down.items() if waiting]
        return f"no answer from {', '.join(names)}" if names else None

    async def verdict(self, message: bytes) -> Finding | None:
        """What the first engine that finds something found; nothing if all of them pass it. Waits for those that are down."""
        for engine in self._engines:
            found = await self._answer(engine, message)
            if found is not None:
                return Finding(engine.name, found)
        return None

    async def _answer(self, engine: Scanner, message: bytes) -> str | None:
        try:
            return await engine.scan(message)
        except ScannerUnavailableError as fault:
            log.warning("scanner_down", engine=engine.name, cause=str(fault))
        self._down[engine.name] = self._down.get(engine.name, 0) + 1
        try:
            return await self._answer_in_the_end(engine, message)
        finally:
            self._down[engine.name] -= 1

    async def _answer_in_the_end(self, engine: Scanner, message: bytes) -> str | None:
        wait = FIRST_WAIT_SECONDS
        while True:
            await asyncio.sleep(wait)
            try:
                return await engine.scan(message)
            except ScannerUnavailableError:
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
