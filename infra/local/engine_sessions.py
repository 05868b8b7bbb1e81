"""Sessions of the embedded engine: connections that outlive a request, by the name that the client gave them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from depesche.infra.local.engine_errors import EngineError
from depesche.infra.local.engine_query import Connection

MAX_SESSIONS = 512


@dataclass(frozen=True)
class SessionName:
    """Which session a request wants, how many seconds it shall outlive the request, and whether it must exist."""

    name: str
    seconds: int
    must_exist: bool


@dataclass
class _Session:
    connection: Connection
    busy: bool = False
    expiry: asyncio.TimerHandle | None = None


class Sessions:
    """All open sessions; for one event loop."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._open: dict[str, _Session] = {}

    @asynccontextmanager
    async def use(self, wanted: SessionName | None) -> AsyncIterator[Connection | None]:
        """Lend the session's connection to one request, opening it if needed; without a session, lend None.

        Raises EngineError: 373 when another request uses it just now, 372 when it must exist and does not, 202 when
        there are too many.
        """
        if wanted is None:
            yield None
            return
        session = self._find(wanted.name, wanted.must_exist)
        session.busy = True
        if session.expiry is not None:
            session.expiry.cancel()
        try:
            yield session.connection
        finally:
            session.busy = False
            session.expiry = asyncio.get_running_loop().call_later(wanted.seconds, self._expire, wanted.name)

    def close(self) -> None:
        """End all sessions."""
        for name in list(self._open):
            self._expire(name)

    def _find(self, name: str, must_exist: bool) -> _Session:
        found = self._open.get(name)
        if found is not None:
            if found.busy:
                raise EngineError(373, "SESSION_IS_LOCKED", f"Session {name} is locked by a concurrent client.")
            return found
        if must_exist:
            raise EngineError(372, "SESSION_NOT_FOUND", f"Session {name} not found.")
        if len(self._open) >= MAX_SESSIONS:
            raise EngineError(202, "TOO_MANY_SIMULTANEOUS_QUERIES", f"There are {MAX_SESSIONS} sessions already.")
        session = self._open[name] = _Session(self._connect())
        return session

    def _expire(self, name: str) -> None:
        session = self._open.pop(name, None)
        if session is not None:
            if session.expiry is not None:
                session.expiry.cancel()
            session.connection.close()
