"""One SMTP connection on aiosmtpd, wrapped once: nothing else in the house imports aiosmtpd.

aiosmtpd gives the protocol class, the session, the table of commands and the plain ones among them. Replaced is what it does
not do well enough for strangers or for speed: how input is read (in bulk, CRLF only, bounded), replies (an enhanced code
everywhere, nothing inner, one write per pipelined group), time-outs, and the end of a connection, which here never cancels
what is being accepted. The commands that need more than aiosmtpd's own stand in ``conversation`` and on.
"""

from __future__ import annotations

import asyncio
import enum
import math
import ssl
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import structlog
from aiosmtpd.smtp import SMTP

from depesche.api.log_watch import Gate
from depesche.api.smtp.commands import SMTPRefusal
from depesche.api.smtp.guard import ConnectionLimit, source_of
from depesche.api.smtp.intake import BadLine, Budget, ContentCollector, Intake, RunawayError
from depesche.api.smtp.replies import enhanced, of_error
from depesche.schemas.errors import DepescheError
from depesche.schemas.settings import SMTPSettings

log = structlog.get_logger(__name__)

MAX_MISTAKES = 20
PAUSE_BYTES = 1 << 16
LINGER_SECONDS = 30.0
GRACE_SECONDS = 60.0
"""How long a content may come slowly before its rate counts."""


class Listener(enum.Enum):
    """What a port offers."""

    STARTTLS = "starttls"
    TLS = "tls"
    RELAY = "relay"


@dataclass(slots=True, eq=False, kw_only=True)
class Lobby:
    """What all conversations of a door share.

    Attributes:
        settings: limits and times; the ports and what else is in there are the door's affair.
        gate: whether anything can be taken just now.
        tls: for STARTTLS and implicit TLS.
        connections: counts them.
        budget: bytes of unfinished contents.
        open: those that are open now.
    """

    settings: SMTPSettings
    gate: Gate
    tls: ssl.SSLContext | None
    connections: ConnectionLimit
    budget: Budget
    open: set[Connection] = field(init=False, default_factory=set)


class Connection(SMTP):
    """One connection of a client."""

    def __init__(self, lobby: Lobby, listener: Listener) -> None:
        super().__init__(
            None,
            data_size_limit=lobby.settings.max_size,
            enable_SMTPUTF8=True,
            hostname=lobby.settings.hostname,
            loop=asyncio.get_running_loop(),
        )
        self._lobby = lobby
        self._listener = listener
        self._secure = listener is Listener.TLS
        self._wire: asyncio.Transport | None = None
        self._source = ""
        self._entered = False
        self._intake = Intake()
        self._collector: ContentCollector | None = None
        self._collecting_since = 0.0
        self._out: list[bytes] = []
        self._mistakes = 0
        self._waiter: asyncio.Future[None] | None = None
        # The client has gone or said all; we end after the next reply; a job is being accepted; nothing more is heard;
        # reading is paused; the client does not read.
        self._ended = self._ending = self._busy = self._deaf = self._paused_reading = self._client_is_full = False
        self._deadline = math.inf
        self._session_deadline = math.inf

    # The connection as the event loop sees it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection and begin to talk."""
        # uvloop's transports do not inherit from asyncio's, so this cannot be asserted.
        self._wire = cast(asyncio.Transport, transport)
        self._source = source_of(transport.get_extra_info("peername"))
        self._entered = self._lobby.connections.enter(self._source)
        self._session_deadline = self.loop.time() + self._lobby.settings.session_seconds
        self._lobby.open.add(self)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take in what the client sent, and wake the conversation if it can go on with it."""
        if self._deaf:
            return
        try:
            self._intake.feed(data)
        except RunawayError:
            self._deaf = True
        if self._intake.collecting and not self._deaf:
            self._deadline = self.loop.time() + self._lobby.settings.command_seconds
            return
        if len(self._intake) > PAUSE_BYTES and not self._paused_reading and self._wire is not None:
            self._paused_reading = True
            self._wire.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The client has said all; what it said is still answered."""
        self._ended = True
        self._wake()
        return not self._secure

    def pause_writing(self) -> None:
        """The client does not read its replies; none are made until it does."""
        self._client_is_full = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._client_is_full = False
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone. Whatever is being accepted is accepted to its end."""
        self._ended = True
        # Past aiosmtpd, which would cancel the conversation and with it what it waits for.
        super(SMTP, self).connection_lost(error)
        self._wire = self.transport = None
        self._leave()
        self._wake()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Nothing: ``expire`` watches over all connections at once, without a timer for each command."""

    def expire(self, now: float) -> None:
        """End the conversation if the client takes too long; called about each second.

        Args:
            now: the loop's time in seconds.
        """
        wire = self._wire
        if self._busy or wire is None or (now < min(self._deadline, self._session_deadline) and not self._crawls(now)):
            return
        if wire.is_closing():
            # It was told before, and does not even read what it was told.
            wire.abort()
            return
        self.dismiss("421 4.4.2 Too slow, closing the connection")
        self._deadline = self._session_deadline = now + LINGER_SECONDS

    def _crawls(self, now: float) -> bool:
        """Whether a content comes more slowly than it may."""
        seconds = now - self._collecting_since
        if self._collector is None or seconds < GRACE_SECONDS:
            return False
        return self._collector.received < self._lobby.settings.min_bytes_per_second * seconds

    def dismiss(self, reply: str) -> None:
        """End the conversation from outside, with ``reply``; if a job is being accepted, after the answer to that."""
        self._ending = True
        if self._busy or self._wire is None or self._wire.is_closing():
            return
        self._wire.write(b"".join(self._out) + reply.encode() + b"\r\n")
        self._out.clear()
        self._wire.close()

    def conversation(self) -> asyncio.Task[None]:
        """The task that ends when everything is said."""
        assert self._handler_coroutine is not None
        return self._handler_coroutine

    # Waiting and answering.

    async def push(self, status: str | bytes) -> None:
        """Answer; the reply leaves with others of its pipelined group, at the latest before we wait for the client.

        A reply without enhanced status code gets one (RFC 2034).
        """
        text = status.decode() if isinstance(status, bytes) else status
        if text.startswith("50"):
            self._mistakes += 1
        self._say(enhanced(text))

    def _say(self, line: str) -> None:
        self._out.append(line.encode("ascii", "replace") + b"\r\n")

    async def _flush(self) -> None:
        if self._out and self._wire is not None:
            self._wire.write(b"".join(self._out))
        self._out.clear()
        while self._client_is_full and self._wire is not None:
            await self._woken()

    async def _wait(self) -> None:
        """Wait for more from the client.

        Raises:
            RunawayError: it sends far more than it may.
        """
        if self._paused_reading and self._wire is not None and not self._wire.is_closing():
            self._paused_reading = False
            self._wire.resume_reading()
        if not self._ended:
            await self._woken()
        if self._deaf:
            raise RunawayError

    async def _woken(self) -> None:
        self._waiter = self.loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _line(self, limit: int) -> bytes | BadLine | None:
        """The next line, or nothing at the end of the conversation."""
        deadline = 0.0
        while (line := self._intake.line(limit)) is None:
            if self._ended or self._ending:
                return None
            deadline = deadline or self.loop.time() + self._lobby.settings.command_seconds
            self._deadline = deadline
            await self._flush()
            await self._wait()
        self._deadline = math.inf
        return line

    # The conversation.

    async def _handle_client(self) -> None:
        try:
            await self._converse()
        except (ConnectionError, TimeoutError, ssl.SSLError):
            # The client went away; there is nobody to tell.
            pass
        except Exception as fault:
            # The guard of a connection: a bug of ours ends this one conversation, answered without inner text.
            _log_fault(fault)
            self.dismiss("421 4.3.0 Something went wrong on our side")
        finally:
            if self._wire is not None:
                self._wire.close()
            self._leave()

    async def _converse(self) -> None:
        try:
            await self._greet()
            while not self._ending and (line := await self._line(self._lobby.settings.max_line)) is not None:
                await self._obey(line)
            await self._flush()
        except RunawayError:
            await self._linger()

    async def _greet(self) -> None:
        """Greet, or refuse to; subclasses may refuse first."""
        if not self._entered:
            self.dismiss("421 4.7.0 Too many connections")
        elif not self._lobby.gate.ready:
            self.dismiss("421 4.3.2 Not taking mail just now; please try again")
        else:
            self._say(f"220 {self.hostname} ESMTP Depesche")

    async def _obey(self, line: bytes | BadLine) -> None:
        if isinstance(line, BadLine):
            await self.push(f"500 5.5.2 {line.reason}")
        else:
            name, _, argument = line.partition(b" ")
            try:
                command = self._smtp_methods.get(name.decode("ascii").upper())
                text = argument.decode().strip()
            except UnicodeDecodeError:
                await self.push("500 5.5.2 A command is ASCII or UTF-8")
                return
            if command is None:
                await self.push("500 5.5.1 Command not recognised")
            else:
                await self._answered(command, text or None)
        if self._mistakes >= MAX_MISTAKES and not self._ending:
            self._ending = True
            await self.push("421 4.7.0 Too many mistakes")

    async def _answered(self, command: Any, argument: str | None) -> None:
        """Run a command; whatever it raises becomes a reply that tells a stranger nothing."""
        try:
            await command(argument)
        except SMTPRefusal as refusal:
            await self.push(f"{refusal.code} {refusal.enhanced} {refusal.text}")
        except DepescheError as fault:
            await self.push(of_error(fault))
        except (ConnectionError, RunawayError, TimeoutError, ssl.SSLError):
            raise
        except Exception as fault:
            # The guard of a command: a bug or an unforeseen outage is temporary for the client, who keeps the mail.
            _log_fault(fault)
            await self.push("451 4.3.0 Something went wrong on our side; please try again")

    async def _linger(self) -> None:
        """Tell a client that sends far too much, and let it send on unheard for a while, so that it can read the reply."""
        if self._collector is not None:
            await self.push(f"552 5.3.4 The message is larger than {self._lobby.settings.max_size} bytes")
        else:
            await self.push("500 5.5.2 Line too long")
        self._deaf = True
        self._give_up_content()
        self._deadline = self._session_deadline = self.loop.time() + LINGER_SECONDS
        if self._paused_reading and self._wire is not None:
            self._wire.resume_reading()
        await self._flush()
        while not self._ended:
            await self._woken()

    def _leave(self) -> None:
        self._lobby.open.discard(self)
        self._give_up_content()
        if self._entered:
            self._entered = False
            self._lobby.connections.leave(self._source)

    def _give_up_content(self) -> None:
        if self._collector is not None:
            self._collector.take()
            self._collector = None


def _log_fault(fault: Exception) -> None:
    """Where it happened and what, but not its text, which may hold an address."""
    where = traceback.extract_tb(fault.__traceback__)[-1]
    log.error("smtp_fault", error=type(fault).__name__, at=f"{Path(where.filename).name}:{where.lineno}")
