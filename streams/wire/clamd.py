"""clamd over kept IDSESSION connections: many INSTREAM requests under way on each, replies matched by their number.

clamd(8), COMMANDS. A connection is opened when it is needed; clamd closes idle ones, which is no fault. A reply that does
not come in time closes the connection, because the numbers behind it could no longer be trusted to be alive.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import cast

from depesche.schemas.errors import ScannerUnavailableError, TooLargeError
from depesche.streams.mail.attachments import attachments_apart

SESSIONS = 2
CHUNK = 1 << 20
_LENGTH = struct.Struct(">I")
_END = _LENGTH.pack(0)
CONNECT_SECONDS = 5.0


class _Session(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[str]] = {}
        self.closed = False
        self._number = 0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the session."""
        # uvloop's transports do not inherit from asyncio's, so this cannot be asserted.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"zIDSESSION\0")

    def data_received(self, data: bytes) -> None:
        """Hand each reply to whoever waits for its number."""
        *replies, self._buffer = (self._buffer + data).split(b"\0")
        for reply in replies:
            number, _, text = reply.decode("utf-8", "replace").partition(": ")
            future = self.waiting.pop(int(number), None) if number.isdigit() else None
            if future is None:
                self.close(f"a reply nobody asked for: {reply[:60]!r}")
            elif not future.done():
                future.set_result(text)

    def connection_lost(self, exc: Exception | None) -> None:
        """Everybody who waits hears that there is no verdict."""
        self.close(f"clamd closed the connection ({exc})" if exc else "clamd closed the connection")

    def ask(self, command: bytes, content: bytes | None = None) -> asyncio.Future[str]:
        """Send a command, with content as INSTREAM wants it; the future gives the reply without its number."""
        self._number += 1
        future = asyncio.get_running_loop().create_future()
        self.waiting[self._number] = future
        blocks = [b"z", command, b"\0"]
        if content is not None:
            for start in range(0, len(content), CHUNK):
                block = content[start : start + CHUNK]
                blocks += [_LENGTH.pack(len(block)), block]
            blocks.append(_END)
        self._transport.writelines(blocks)
        return future

    def close(self, reason: str) -> None:
        """End the connection; ``reason`` is what the waiting ones hear."""
        self.closed = True
        self._transport.abort()
        waiting, self.waiting = self.waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ScannerUnavailableError(reason))


class ClamAV:
    """The engine ``clamav``."""

    name = "clamav"

    def __init__(self, address: str, timeout_seconds: float = 60, *, whole: bool = False) -> None:
        """Prepare to connect.

        Args:
            address: host:port, or the path of clamd's socket.
            timeout_seconds: longest wait for one verdict.
            whole: whether a message is given in one piece, large attachments as the text they are in it.
        """
        self._whole = whole
        self.version = ""
        self._address = address
        self._timeout = timeout_seconds
        self._sessions: list[_Session | None] = [None] * SESSIONS
        self._opening = asyncio.Lock()
        self._turn = 0

    async def scan(self, message: bytes) -> str | None:
        """The name of what was found, or nothing.

        Raises:
            ScannerUnavailableError: no verdict.
            TooLargeError: clamd's StreamMaxLength is below our own limit.
        """
        contents = (message,) if self._whole else attachments_apart(message)
        for reply in await self._ask(b"INSTREAM", contents):
            found = _finding(reply)
            if found is not None:
                return found
        return None

    def close(self) -> None:
        """End the connections."""
        for session in self._sessions:
            if session is not None and not session.closed:
                session.close("shutting down")

    async def _ask(self, command: bytes, contents: Sequence[bytes]) -> list[str]:
        session = await self._session()
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.gather(*(session.ask(command, content) for content in contents))
        except TimeoutError as fault:
            session.close("no verdict in time")
            raise ScannerUnavailableError("clamd: no verdict in time") from fault

    async def _session(self) -> _Session:
        self._turn = (self._turn + 1) % SESSIONS
        turn = self._turn
        session = self._sessions[turn]
        if session is not None and not session.closed:
            return session
        async with self._opening:
            session = self._sessions[turn]
            if session is None or session.closed:
                session = self._sessions[turn] = await self._open()
            return session

    async def _open(self) -> _Session:
        loop = asyncio.get_running_loop()
        host, colon, port = self._address.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if colon and port.isdigit():
                    _, session = await loop.create_connection(_Session, host, int(port))
                else:
                    _, session = await loop.create_unix_connection(_Session, self._address)
                self.version = (await session.ask(b"VERSION")).removeprefix("ClamAV ")
        except (OSError, TimeoutError) as fault:
            raise ScannerUnavailableError(f"clamd at {self._address}: {type(fault).__name__}") from fault
        return session


def _finding(reply: str) -> str | None:
    verdict = reply.removeprefix("stream: ")
    if verdict == "OK":
        return None
    if verdict.endswith(" FOUND"):
        return verdict.removesuffix(" FOUND")
    if "size limit exceeded" in verdict:
        raise TooLargeError("clamd's StreamMaxLength is too small for this mail")
    raise ScannerUnavailableError(f"clamd: {verdict[:200]}")
