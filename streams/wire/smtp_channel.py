"""The line under an SMTP conversation: replies in, bytes out, one timer, and a transcript.

Written on ``asyncio.Protocol`` because streams cost three times as much. Losing the line is not an exception but a last reply
with code 0 that says why; whoever reads, reads that from then on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Literal, TypeAlias, cast

from depesche.streams.wire.smtp_reply import Reply, ReplyParser, printable
from depesche.streams.wire.tls import Check, Secured, failed, judged

Loss: TypeAlias = Literal["", "closed", "silent", "blocked", "garbled"]
"""How the line was lost: the host went away, said nothing in time, took nothing in time, or spoke no SMTP."""

_BLOCK = 256 * 1024
_GOODBYE_SECONDS = 2.0
_TRANSCRIPT = 4_000
_LINE = 500


class Channel(asyncio.Protocol):
    """A connected socket, as a conversation sees it.

    Attributes:
        lost: the last reply there will be, code 0; None while the line stands.
        loss: how it was lost.
        closing: whether we have said goodbye.
    """

    def __init__(self) -> None:
        self.lost: Reply | None = None
        self.loss: Loss = ""
        self.closing = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = ReplyParser()
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._opening: list[str] = []
        self._talk: list[str] = self._opening

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        # uvloop's transports are no subclasses of asyncio's, so isinstance would say no.
        self._transport = cast(asyncio.Transport, transport)
        # Every byte still in our hands counts as unsent, so that "the dot is out" means that the kernel has it.
        self._transport.set_write_buffer_limits(high=1, low=0)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        replies = self._parser.feed(data)
        self._replies.extend(replies)
        if self._parser.broken:
            self._lose("garbled", self._parser.broken)
        elif replies:
            self._wake()

    def eof_received(self) -> None:
        """The host ended the conversation; asyncio closes the socket."""
        self._lose("closed", "the host closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._lose(
            "closed", f"the connection broke ({type(exc).__name__})" if exc else "the host closed the connection"
        )
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # Reading.

    @property
    def own_address(self) -> str:
        """The address of ours that the connection leaves from; empty when it is gone."""
        name = self._transport.get_extra_info("sockname") if self._transport is not None else None
        return str(name[0]) if name else ""

    @property
    def quiet(self) -> bool:
        """Whether the line stands and the host has said nothing that nobody asked for."""
        return self.lost is None and not self.closing and not self._replies

    def interruption(self) -> Reply | None:
        """What the host said out of turn, or why the line is lost; None when it waits for us."""
        if self._replies:
            reply = self._replies.popleft()
            self._note(reply)
            return reply
        return self.lost

    async def read(self, seconds: float) -> Reply:
        """The next reply, within ``seconds``; one with code 0 when there is none and never will be."""
        if not self._replies and self.lost is None:
            self._waiter = self._loop.create_future()
            self._watch(seconds)
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._deadline = 0.0
        reply = self._replies.popleft() if self._replies else cast(Reply, self.lost)
        self._note(reply)
        if reply.code == 421:
            # The host says that it closes now, whatever the command was (RFC 5321 3.8).
            self.quit()
        return reply

    async def exchange(self, command: bytes, seconds: float) -> Reply:
        """Say a command and read its reply."""
        self.write(command)
        return await self.read(seconds)

    # Writing.

    def write(self, command: bytes) -> None:
        """Send whole command lines."""
        self._put(command)
        for line in command.decode("utf-8", "replace").split("\r\n")[:-1]:
            self._talk.append(f"> {line}")

    async def write_content(self, content: bytes, block_seconds: float) -> bool:
        """Send content at the host's pace; False when it was cut short by a lost line or by something the host said."""
        self._talk.append(f"> ({len(content)} bytes of content)")
        if len(content) <= _BLOCK:
            self._put(content)
            return await self.flushed(block_seconds)
        view = memoryview(content)
        for start in range(0, len(content), _BLOCK):
            self._put(view[start : start + _BLOCK])
            if not await self.flushed(block_seconds) or self._replies:
                return False
        return True

    async def flushed(self, seconds: float) -> bool:
        """Wait until the kernel has everything; False when the host takes nothing for ``seconds`` or is gone."""
        if self._writable is not None and self.lost is None:
            self._watch(seconds)
            try:
                await self._writable
            finally:
                self._deadline = 0.0
        return self.lost is None

    def _put(self, data: bytes | memoryview) -> None:
        if self._transport is not None and self.lost is None:
            self._transport.write(data)

    # The end, and TLS.

    def quit(self) -> None:
        """Say goodbye and close; costs the caller no wait."""
        if self.closing:
            return
        self.closing = True
        if self.lost is not None or self._waiter is not None:
            self.abort()
            return
        self._put(b"QUIT\r\n")
        self._loop.call_later(_GOODBYE_SECONDS, self.abort)

    def abort(self) -> None:
        """Drop the connection at once; a mail without its dot is then none."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    async def start_tls(self, host: str, seconds: float, check: Check) -> Secured:
        """Encrypt; after a failure nothing may be said on this line any more.

        Args:
            host: the name to ask the host for (SNI).
            seconds: how long the handshake may take.
            check: what the host's certificate is held against.
        """
        # Whatever came in the clear after the 220 was never said under TLS (CVE-2011-0411).
        self._parser.reset()
        self._replies.clear()
        if self._transport is None or self.lost is not None:
            return self._not_secured(failed(ConnectionError("the host closed the connection")))
        try:
            upgraded = await self._loop.start_tls(
                self._transport,
                self,
                check.context,
                server_hostname=host,
                ssl_handshake_timeout=seconds,
            )
        except (OSError, EOFError) as fault:  # ssl.SSLError and ConnectionError are OSErrors.
            return self._not_secured(failed(fault))
        if upgraded is None or self.lost is not None:
            return self._not_secured(failed(ConnectionError("the host closed the connection")))
        self.connection_made(upgraded)
        secured = judged(cast(ssl.SSLObject, upgraded.get_extra_info("ssl_object")), check)
        if secured.failure:
            return self._not_secured(secured)
        self._talk.append(f"= {secured.tls}" + (f", certificate good by {check.by}" if check.by else ""))
        return secured

    def _not_secured(self, secured: Secured) -> Secured:
        self._talk.append(f"= {secured.failure}")
        return secured

    # The transcript.

    def opens(self, what: str) -> None:
        """Begin the transcript with ``what``."""
        self._opening.append(f"= {what}")

    def next_transaction(self) -> None:
        """From here on the transcript is the opening and what follows now."""
        self._talk = []

    @property
    def transcript(self) -> str:
        """The opening and the present transaction; ``>`` is what we said, ``<`` the host, ``=`` what happened."""
        talk = self._opening if self._talk is self._opening else self._opening + self._talk
        return "\n".join(talk)[:_TRANSCRIPT]

    def _note(self, reply: Reply) -> None:
        words = printable(reply.raw, _LINE).replace("\n", f"\n< {reply.code}-")
        self._talk.append(f"< {reply.code} {words}" if reply.code else f"= {words}")

    # Waiting.

    def _watch(self, seconds: float) -> None:
        """Let the present wait end after ``seconds``. One timer, moved only when it fires: a wait costs no timer."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._deadline == 0.0 or self.lost is not None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check)
            return
        if self._waiter is not None:
            self._lose("silent", "no reply in time")
        else:
            self._lose("blocked", "the host took no more of the mail")
        self.abort()

    def _lose(self, loss: Loss, reason: str) -> None:
        if self.lost is None:
            self.lost = Reply(0, reason.encode())
            self.loss = loss
        self._wake()
        self.resume_writing()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
