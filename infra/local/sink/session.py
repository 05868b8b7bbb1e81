"""One SMTP conversation of the sink (RFC 5321, 2920, 6152, 6531, 3207).

A protocol on raw bytes instead of streams and lines: content is looked through once for its final dot and taken out in one
piece, and the replies to pipelined commands leave in one write. That keeps the far side so cheap that a measurement measures
the sender.
"""

import asyncio
import re
import socket
import ssl
import struct
from typing import cast

from depesche.infra.local.sink.answers import Answer, Pace, say
from depesche.infra.local.sink.desk import Desk, Envelope
from depesche.infra.local.sink.listeners import EXTENSIONS, Listener, Step
from depesche.infra.local.sink.scenarios import ACCEPTED_RECIPIENT, Scenario, Stage

LONGEST_COMMAND = 4096
"""Bytes of a command line (RFC 5321 section 4.5.3.1.4 asks for 512 and room for extensions)."""
MOST_RECIPIENTS = 1000
IDLE_SECONDS = 900.0
LARGEST_UNREAD = 1024 * 1024
"""Bytes that a sender may pipeline while a slow reply is still on its way; then reading stops."""

_PATH = re.compile(rb"(?:FROM|TO):[ ]*<([^>]*)>(.*)", re.IGNORECASE)
_SIZE = re.compile(rb"(?:^|[ ])SIZE=([0-9]{1,20})(?:[ ]|$)", re.IGNORECASE)

_OK = say("250 2.0.0 Ok")
_SENDER_OK = say("250 2.1.0 Sender ok")
_GO_AHEAD = say("354 End data with <CR><LF>.<CR><LF>")
_BYE = say("221 2.0.0 Bye", "close")
_OUT_OF_ORDER = say("503 5.5.1 Bad sequence of commands")
_NO_RECIPIENT = say("554 5.5.1 No valid recipients")
_BAD_PATH = say("501 5.1.7 Bad address syntax")
_UNKNOWN = say("502 5.5.1 Command not implemented")
_TOO_LARGE = say("552 5.3.4 Message too big")
_TOO_MANY = say("452 4.5.3 Too many recipients")
_TOO_LONG = say("500 5.5.2 Line too long", "close")
_NEEDS_TLS = say("530 5.7.0 Must issue a STARTTLS command first")
_IDLE = say("421 4.4.2 Idle for too long", "close")
_READY_FOR_TLS = say("220 2.0.0 Ready to start TLS")


class Transaction:
    """What MAIL and RCPT said, until the final dot or RSET."""

    __slots__ = ("recipients", "scenarios", "sender")

    def __init__(self, sender: str) -> None:
        self.sender = sender
        self.recipients: list[str] = []
        self.scenarios: dict[Stage, Scenario] = {}


class Session(asyncio.Protocol):
    """The receiving end of one connection."""

    def __init__(self, desk: Desk, listener: Listener) -> None:
        self.listener = listener
        self.name = desk.next_session_name()
        self.tls = False
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._unread = bytearray()
        self._outgoing: list[bytes] = []
        self._greeted = False
        self._transaction: Transaction | None = None
        self._in_content = False
        self._searched = 0
        self._oversize = False
        # While a reply is late, drips or never comes, commands wait unread.
        self._waiting = False
        self._pace: Pace | None = None
        self._last_heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None

    # The connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or do what this listener does instead."""
        # uvloop's transports are no subclasses of asyncio's, so isinstance would say no.
        self._transport = cast(asyncio.Transport, transport)
        self._address = "{}:{}".format(*transport.get_extra_info("sockname")[:2])
        self._desk.conversations.add(self)
        self._desk.counters.sessions += 1
        self._timer = self._loop.call_later(IDLE_SECONDS, self._check_idle)
        self._say(self._answer_at("banner", say(f"220 mx.{self.listener.label}.test ESMTP Depesche sink")))
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take what arrived and go as far as it allows."""
        self._last_heard = self._loop.time()
        self._unread += data
        if self._waiting:
            if len(self._unread) > LARGEST_UNREAD and self._transport is not None:
                self._transport.pause_reading()
            return
        self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the conversation; an unfinished mail never was."""
        self._desk.conversations.discard(self)
        self._transport = None
        self._waiting = True
        self._unread.clear()
        if self._timer is not None:
            self._timer.cancel()

    def hang_up(self) -> None:
        """End the connection from our side, without a word."""
        if self._transport is not None:
            self._transport.abort()

    def _check_idle(self) -> None:
        left = self._last_heard + IDLE_SECONDS - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_idle)
        elif self._transport is not None:
            self._waiting = False
            self._say(_IDLE)
            self._flush()

    # The conversation.

    def _proceed(self) -> None:
        while not self._waiting:
            if self._in_content:
                if not self._take_content():
                    break
                continue
            end = self._unread.find(b"\n")
            if end < 0:
                if len(self._unread) > LONGEST_COMMAND:
                    self._say(_TOO_LONG)
                break
            line = bytes(self._unread[:end]).rstrip(b"\r")
            del self._unread[: end + 1]
            self._obey(line)
        self._flush()

    def _obey(self, line: bytes) -> None:
        if len(line) > LONGEST_COMMAND:
            self._say(_TOO_LONG)
            return
        verb, _, argument = line.partition(b" ")
        handler = _COMMANDS.get(verb.upper())
        if handler is None:
            self._say(_UNKNOWN)
        else:
            handler(self, argument)

    def _ehlo(self, _argument: bytes) -> None:
        self._greeted, self._transaction = True, None
        self._say(self._answer_at("EHLO", self._extensions()))

    def _helo(self, _argument: bytes) -> None:
        self._greeted, self._transaction = True, None
        self._say(self._answer_at("HELO", say(f"250 mx.{self.listener.label}.test")))

    def _extensions(self) -> Answer:
        offered = [f"mx.{self.listener.label}.test"]
        for keyword in EXTENSIONS:
            if keyword in self.listener.hidden or (keyword == "STARTTLS" and self.tls):
                continue
            offered.append(f"SIZE {self.listener.largest}" if keyword == "SIZE" else keyword)
        lines = [f"250-{line}\r\n" for line in offered[:-1]]
        return Answer("".join([*lines, f"250 {offered[-1]}\r\n"]).encode())

    def _mail(self, argument: bytes) -> None:
        path = _PATH.fullmatch(argument)
        size = _SIZE.search(path[2]) if path else None
        if not self._greeted or self._transaction is not None:
            answer = _OUT_OF_ORDER
        elif self.listener.needs_tls and not self.tls:
            answer = _NEEDS_TLS
        elif path is None:
            answer = _BAD_PATH
        elif size and int(size[1]) > self.listener.largest:
            answer = _TOO_LARGE
        else:
            answer = self._answer_at("MAIL", _SENDER_OK)
            if answer.accepts:
                self._transaction = Transaction(_text(path[1]))
        self._say(answer)

    def _rcpt(self, argument: bytes) -> None:
        path = _PATH.fullmatch(argument)
        if self._transaction is None:
            self._say(_OUT_OF_ORDER)
        elif path is None or not path[1]:
            self._say(_BAD_PATH)
        elif len(self._transaction.recipients) >= MOST_RECIPIENTS:
            self._say(_TOO_MANY)
        else:
            self._cast(self._transaction, _text(path[1]))

    def _cast(self, transaction: Transaction, recipient: str) -> None:
        scenario = self._desk.script.cast(recipient, self._loop.time())
        answer = self._answer_at("RCPT", ACCEPTED_RECIPIENT)
        if scenario is not None:
            self._pace = scenario.pace or self._pace
            if scenario.stage == "rcpt":
                answer = scenario.answer
            else:
                transaction.scenarios.setdefault(scenario.stage, scenario)
        if answer.accepts:
            transaction.recipients.append(recipient)
        self._say(answer)

    def _data(self, _argument: bytes) -> None:
        transaction = self._transaction
        if transaction is None or not transaction.recipients:
            self._say(_OUT_OF_ORDER if transaction is None else _NO_RECIPIENT)
            return
        scenario = transaction.scenarios.get("data")
        answer = scenario.answer if scenario else self._answer_at("DATA", _GO_AHEAD)
        if answer.reply.startswith(b"354"):
            self._in_content, self._searched, self._oversize = True, 0, False
        self._say(answer)

    def _rset(self, _argument: bytes) -> None:
        self._transaction = None
        self._say(_OK)

    def _noop(self, _argument: bytes) -> None:
        self._say(_OK)

    def _vrfy(self, _argument: bytes) -> None:
        self._say(say("252 2.1.5 Send some mail, I will try"))

    def _quit(self, _argument: bytes) -> None:
        self._say(_BYE)

    def _starttls(self, argument: bytes) -> None:
        if self.tls or "STARTTLS" in self.listener.hidden or self._transport is None:
            self._say(_UNKNOWN)
        elif argument:
            self._say(say("501 5.5.4 No parameters allowed"))
        else:
            answer = self._answer_at("STARTTLS", _READY_FOR_TLS)
            if not answer.reply.startswith(b"220"):
                self._say(answer)
                return
            # Reading stops before the reply: the client's hello must meet TLS, not this protocol. What was sent in
            # plain text behind STARTTLS is thrown away (the injection of RFC 3207 section 6).
            self._transport.pause_reading()
            self._waiting = True
            self._unread.clear()
            self._outgoing.append(answer.reply)
            self._flush()
            self._handshake = self._loop.create_task(self._start_tls(self._transport))

    async def _start_tls(self, transport: asyncio.Transport) -> None:
        if self.listener.tls == "broken":
            transport.write(b"\x15\x03\x03\x00\x02\x02\x28")
            transport.close()
            return
        context = self._desk.tls_context(self.listener.tls)
        try:
            secured = await self._loop.start_tls(transport, self, context, server_side=True, ssl_handshake_timeout=30)
        except (OSError, ssl.SSLError):
            # The other side does not like us, or is gone: the connection is over and the sender knows why.
            transport.abort()
            self.connection_lost(None)
            return
        assert secured is not None
        self._transport, self.tls = secured, True
        self._greeted, self._transaction, self._waiting = False, None, False
        self._desk.counters.tls_sessions += 1
        self._proceed()

    # The content.

    def _take_content(self) -> bool:
        """Take the content if its final dot is here; say whether it was."""
        transaction = self._transaction
        assert transaction is not None
        interruption = transaction.scenarios.get("content")
        if interruption is not None and self._unread:
            self._in_content = False
            self._say(interruption.answer)
            return True
        content = self._cut_content()
        if content is None:
            return False
        self._in_content, self._transaction = False, None
        self._say(self._judge(transaction, content))
        return True

    def _cut_content(self) -> bytes | None:
        unread = self._unread
        if unread.startswith(b".\r\n") and not self._oversize:
            del unread[:3]
            return b""
        # Three bytes of an end mark may already have been looked at, and a leading dot needs its first two bytes.
        end = unread.find(b"\r\n.\r\n", max(0, self._searched - 4))
        if end < 0:
            self._searched = len(unread)
            if len(unread) > self.listener.largest + 1024:
                self._oversize = True
                del unread[:-4]
                self._searched = 4
            return None
        content = bytes(memoryview(unread)[: end + 2])
        del unread[: end + 5]
        if content.startswith(b"."):
            content = content[1:]
        return content.replace(b"\r\n.", b"\r\n") if b"\r\n." in content else content

    def _judge(self, transaction: Transaction, content: bytes) -> Answer:
        if self._oversize or len(content) > self.listener.largest:
            return _TOO_LARGE
        scenario = transaction.scenarios.get("dot")
        if scenario is not None:
            answer, kept = scenario.answer, scenario.kept
        else:
            answer = self._answer_at("dot", say(f"250 2.0.0 Ok: kept in {self.name}"))
            kept = answer.accepts
        envelope = Envelope(self.name, self._address, self.tls, transaction.sender, transaction.recipients)
        return self._desk.receive(envelope, content, answer, kept)

    # The replies.

    def _answer_at(self, step: Step, usual: Answer) -> Answer:
        return self._desk.answer_at(self.listener, step, usual, self._loop.time())

    def _say(self, answer: Answer) -> None:
        if self._pace is not None:
            answer = answer.slowed(self._pace)
        if answer.plain:
            self._outgoing.append(answer.reply)
            return
        self._waiting = True
        self._flush()
        if answer.delay:
            self._loop.call_later(answer.delay, self._utter, answer)
        else:
            self._utter(answer)

    def _utter(self, answer: Answer) -> None:
        if self._transport is None:
            return
        if answer.drip and len(answer.reply) > 1:
            self._transport.write(answer.reply[:1])
            rest = Answer(answer.reply[1:], answer.then, drip=answer.drip)
            self._loop.call_later(answer.drip, self._utter, rest)
            return
        self._transport.write(answer.reply)
        self._finish(answer)

    def _finish(self, answer: Answer) -> None:
        assert self._transport is not None
        if answer.then == "close":
            self._transport.close()
        elif answer.then == "reset":
            self._reset(self._transport)
        elif answer.then == "stall":
            self._transport.pause_reading()
        else:
            self._waiting = False
            self._transport.resume_reading()
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._transport is not None and not self._waiting:
            self._proceed()

    def _reset(self, transport: asyncio.Transport) -> None:
        handle = transport.get_extra_info("socket")
        # Lingering for zero seconds makes closing a TCP RST.
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def _flush(self) -> None:
        if self._outgoing and self._transport is not None:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


_COMMANDS = {
    b"EHLO": Session._ehlo,
    b"HELO": Session._helo,
    b"MAIL": Session._mail,
    b"RCPT": Session._rcpt,
    b"DATA": Session._data,
    b"RSET": Session._rset,
    b"NOOP": Session._noop,
    b"VRFY": Session._vrfy,
    b"QUIT": Session._quit,
    b"STARTTLS": Session._starttls,
}
