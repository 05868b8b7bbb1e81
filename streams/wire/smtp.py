"""A conversation with a mail host, from the greeting to the final dot (RFC 5321, 2920, 3207, 1870, 6152, 6531).

MAIL, RCPT and DATA leave in one write where the host pipelines. Nothing a host does raises: whatever happens is an ``Answer``
that says how far the conversation went, and whether the host may have taken the mail without our knowing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.settings import DeliverSettings
from depesche.streams.wire.smtp_channel import Channel
from depesche.streams.wire.smtp_encode import END, Envelope, UnsendableError, mail_command, rcpt_command
from depesche.streams.wire.smtp_reply import Reply
from depesche.streams.wire.tls import NOT_OFFERED, Check, any_certificate

Step = Literal["dns", "connect", "banner", "ehlo", "starttls", "mail", "rcpt", "data", "content", "dot"]
TLSPolicy = Literal["never", "may", "must"]

NO_TLS = "4.7.5"
"""Our own enhanced code for a connection that was not encrypted as it had to be (RFC 3463 3.8: cryptographic failure)."""

BeforeDot: TypeAlias = Callable[[], Awaitable[bool]]
"""Awaited when the content is on its way; gives whether the dot may follow."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How to speak to a host.

    Attributes:
        helo: our name in EHLO.
        port: port of the host.
        waits: the time-outs, in the ``*_seconds`` of the settings.
        source_ip: own address to connect from; empty: the system chooses.
        tls: ``never``; ``may``: when offered; ``must``: else no delivery.
        server_name: name to ask the host for (SNI); empty: its own.
        check: what its certificate is held against; None: it is not looked at.
        policy: name of the policy that wants it so, for the record (``mail.tls_policy``).
        connect_seconds: longest wait for the connection, if shorter than the settings'; 0: as they say.
    """

    helo: str
    port: int
    waits: DeliverSettings
    source_ip: str = ""
    tls: TLSPolicy = "may"
    server_name: str = ""
    check: Check | None = None
    policy: str = ""
    connect_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Peer:
    """With whom, as far as it came: host and its address, own address, protocol and cipher (empty: plain text), TLS policy."""

    host: str = ""
    address: str = ""
    source_ip: str = ""
    tls: str = ""
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """How the opening of a connection or a transaction ended.

    Attributes:
        step: how far the conversation had come; ``dot`` with a 2xx code is a delivery.
        code: SMTP reply code; 0 when there was no reply, or when we decided by ourselves.
        enhanced: enhanced status code, the host's, or ours where we decided; may be empty.
        text: the host's words or ours, printable, at most 2,000 characters.
        ambiguous: the dot was sent and no complete reply was read: nobody can know whether the host took the mail.
        stale: a kept connection had died before this transaction began; nothing was tried, a new connection may.
        transcript: the conversation without the content.
        peer: who answered, or did not.
        tls_result: at step ``starttls``: what reports call the failure (RFC 8460 4.3).
    """

    step: Step
    code: int = 0
    enhanced: str = ""
    text: str = ""
    ambiguous: bool = False
    stale: bool = False
    transcript: str = ""
    peer: Peer = Peer()
    tls_result: str = ""

    @property
    def delivered(self) -> bool:
        """Whether the host took the mail."""
        return self.step == "dot" and self.code // 100 == 2


class SMTPConnection:
    """A greeted connection; made by ``open_connection``. One transaction at a time.

    Attributes:
        peer: with whom.
        tls_failed: why this connection is in plain text although the host offered TLS; empty if it is not so.
        tls_result: what reports call it that this connection is in plain text; empty if it is not (RFC 8460 4.3).
        sent: transactions begun.
        extensions: keywords of EHLO.
    """

    def __init__(self, peer: Peer, terms: Terms, channel: Channel) -> None:
        self.peer = peer
        self.tls_failed = ""
        self.tls_result = ""
        self.sent = 0
        self.extensions: frozenset[str] = frozenset()
        self._terms = terms
        self._waits = terms.waits
        self._channel = channel
        self._size_limit = 0
        self._needs_reset = False

    @property
    def usable(self) -> bool:
        """Whether another transaction may be tried."""
        return self._channel.quiet

    def quit(self) -> None:
        """Say goodbye and close; costs the caller no wait."""
        self._channel.quit()

    def abort(self) -> None:
        """Drop the connection at once; a mail without its dot is then none."""
        self._channel.abort()

    async def send(self, envelope: Envelope, content: bytes, before_dot: BeforeDot) -> Answer:
        """One transaction.

        Args:
            envelope: who to whom, and what the content needs.
            content: as ``smtp_encode.content`` gives it.
            before_dot: decides, as late as possible, whether the dot may follow.

        Raises:
            Exception: what ``before_dot`` raised; the connection is then dropped.
        """
        self._channel.next_transaction()
        refusal = self._own_refusal(envelope)
        if refusal is not None:
            return refusal
        try:
            commands = (mail_command(envelope, self.extensions), rcpt_command(envelope))
        except UnsendableError as fault:
            return self._decided("mail", "5.1.3", str(fault))
        try:
            if not await self._ready_again():
                reply = self._channel.interruption() or Reply(0, b"the connection was closed")
                return self._answer("mail", reply, stale=True)
            self.sent += 1
            return await self._envelope(commands) or await self._content(content, before_dot)
        except BaseException:
            # Ours, not the host's: a cancelled attempt or a failing hook. The host must not see a dot.
            self.abort()
            raise

    # The opening.

    async def greet(self) -> Answer | None:
        """Banner, EHLO, STARTTLS; None when the connection can be used."""
        banner = await self._channel.read(self._waits.banner_seconds)
        if banner.first_digit != 2:
            return self._answer("banner", banner)
        return await self._ehlo() or await self._encrypt()

    async def _ehlo(self) -> Answer | None:
        seconds = self._waits.command_seconds
        reply = await self._channel.exchange(f"EHLO {self._terms.helo}\r\n".encode(), seconds)
        if reply.first_digit == 5:
            # A host from before 1995, or one that means it: HELO will tell (RFC 5321 3.2).
            reply = await self._channel.exchange(f"HELO {self._terms.helo}\r\n".encode(), seconds)
            reply = Reply(reply.code, b"") if reply.first_digit == 2 else reply
        if reply.first_digit != 2:
            return self._answer("ehlo", reply)
        self._note_extensions(reply)
        return None

    def _note_extensions(self, reply: Reply) -> None:
        keywords = set()
        self._size_limit = 0
        for line in reply.raw.split(b"\n")[1:]:
            keyword, _, parameter = line.decode("ascii", "replace").strip().upper().partition(" ")
            keywords.add(keyword)
            if keyword == "SIZE" and parameter.isdecimal():
                self._size_limit = int(parameter)
        self.extensions = frozenset(keywords)

    async def _encrypt(self) -> Answer | None:
        must = self._terms.tls == "must"
        if self._terms.tls == "never":
            return None
        if "STARTTLS" not in self.extensions:
            self.tls_result = NOT_OFFERED
            return self._no_tls("the host offers no TLS", NOT_OFFERED) if must else None
        reply = await self._channel.exchange(b"STARTTLS\r\n", self._waits.command_seconds)
        if reply.code != 220:
            if must or reply.code in (0, 421):
                return replace(self._answer("starttls", reply), enhanced=NO_TLS, tls_result=NOT_OFFERED)
            self.tls_failed, self.tls_result = f"STARTTLS was refused with {reply.code}", NOT_OFFERED
            return None
        check = self._terms.check or Check(any_certificate())
        name = self._terms.server_name or self.peer.host
        secured = await self._channel.start_tls(name, min(60.0, self._waits.command_seconds), check)
        if secured.failure:
            return self._no_tls(secured.failure, secured.result)
        self.peer = replace(self.peer, tls=secured.tls)
        return await self._ehlo()

    # The transaction.

    def _own_refusal(self, envelope: Envelope) -> Answer | None:
        """What this host cannot take by what its EHLO said; decided here, so that nothing is mangled on its way."""
        needs_utf8 = envelope.smtputf8 or not (envelope.mail_from + envelope.recipient).isascii()
        if needs_utf8 and "SMTPUTF8" not in self.extensions:
            return self._decided("mail", "5.6.7", "the host takes no internationalised addresses (SMTPUTF8)")
        if envelope.eight_bit and "8BITMIME" not in self.extensions:
            return self._decided("mail", "5.6.3", "the host takes no 8-bit content (8BITMIME)")
        if 0 < self._size_limit < envelope.size:
            return self._decided(
                "mail", "5.3.4", f"the mail has {envelope.size} bytes, the host takes {self._size_limit}"
            )
        return None

    async def _ready_again(self) -> bool:
        """Whether the host still listens, after a RSET where the last transaction stands open."""
        if not self.usable:
            return False
        if not self._needs_reset:
            return True
        self._needs_reset = False
        reply = await self._channel.exchange(b"RSET\r\n", self._waits.command_seconds)
        return reply.first_digit == 2

    async def _envelope(self, commands: tuple[bytes, bytes]) -> Answer | None:
        """MAIL, RCPT and DATA; None when the host waits for the content."""
        steps: tuple[tuple[Step, bytes, float], ...] = (
            ("mail", commands[0], self._waits.command_seconds),
            ("rcpt", commands[1], self._waits.command_seconds),
            ("data", b"DATA\r\n", self._waits.data_seconds),
        )
        pipelining = "PIPELINING" in self.extensions
        if pipelining:
            self._channel.write(b"".join(command for _, command, _ in steps))
        failed: tuple[Step, Reply] | None = None
        for step, command, seconds in steps:
            reply = await (self._channel.read(seconds) if pipelining else self._channel.exchange(command, seconds))
            accepted = reply.first_digit == (3 if step == "data" else 2)
            if failed is None and not accepted:
                failed = (step, reply)
            elif failed is not None and step == "data" and accepted:
                # The host wants content although it took no recipient; a single dot ends that (RFC 2920 3.1).
                await self._channel.exchange(END, seconds)
            if reply.code in (0, 421) or (failed is not None and not pipelining):
                break
        return self._envelope_failed(*failed) if failed is not None else None

    def _envelope_failed(self, step: Step, reply: Reply) -> Answer:
        self._needs_reset = step != "mail"
        gone = reply.code == 421 or self._channel.loss == "closed"
        return self._answer(step, reply, stale=step == "mail" and self.sent > 1 and gone)

    async def _content(self, content: bytes, before_dot: BeforeDot) -> Answer:
        channel = self._channel
        crashpoint("D3")
        whole = await channel.write_content(content, self._waits.block_seconds)
        allowed = whole and await before_dot() and await channel.flushed(self._waits.block_seconds)
        interruption = channel.interruption()
        if not allowed or interruption is not None:
            # Without its dot no host may take a mail (RFC 5321 4.1.1.4), so nothing is in doubt.
            self.abort()
            return self._answer("content", interruption or Reply(0, b"given up before the final dot"))
        channel.write(END)
        reply = await channel.read(self._waits.dot_seconds)
        crashpoint("D5")
        if reply.first_digit in (0, 3):
            # No reply, half of one, or one that means nothing here: whether the host has the mail is open for ever.
            self.abort()
            return self._answer("dot", reply, ambiguous=True)
        return self._answer("dot", reply)

    # Answers.

    def _answer(
        self, step: Step, reply: Reply, *, enhanced: str = "", ambiguous: bool = False, stale: bool = False
    ) -> Answer:
        transcript = self._channel.transcript
        enhanced = reply.enhanced or enhanced
        return Answer(step, reply.code, enhanced, reply.text, ambiguous, stale, transcript, self.peer)

    def _no_tls(self, reason: str, result: str) -> Answer:
        return replace(self._decided("starttls", NO_TLS, reason), tls_result=result)

    def _decided(self, step: Step, enhanced: str, reason: str) -> Answer:
        return self._answer(step, Reply(0, reason.encode()), enhanced=enhanced)


async def open_connection(host: str, address: str, terms: Terms) -> SMTPConnection | Answer:
    """Connect and greet: a connection that takes transactions, or how that failed. What the host does never raises.

    Args:
        host: its name, for TLS and the record.
        address: where to connect.
        terms: how to speak to it.
    """
    channel = Channel()
    channel.opens(f"{host} [{address}]:{terms.port}" + (f" from [{terms.source_ip}]" if terms.source_ip else ""))
    if terms.policy:
        channel.opens(f"TLS policy {terms.policy}")
    peer = Peer(host, address, terms.source_ip, policy=terms.policy)
    failure = await _connect(channel, address, terms)
    if failure:
        channel.opens(failure)
        return Answer("connect", 0, "4.4.1", failure, transcript=channel.transcript, peer=peer)
    connection = SMTPConnection(replace(peer, source_ip=channel.own_address), terms, channel)
    try:
        answer = await connection.greet()
    except asyncio.CancelledError:
        connection.abort()
        raise
    if answer is None:
        return connection
    if answer.tls_result not in ("", NOT_OFFERED):
        # Not even a goodbye goes to a host that is not who it should be.
        connection.abort()
    connection.quit()
    return answer


async def _connect(channel: Channel, address: str, terms: Terms) -> str:
    """Connect the socket; gives why that failed, or nothing."""
    loop = asyncio.get_running_loop()
    local = (terms.source_ip, 0) if terms.source_ip else None
    try:
        async with asyncio.timeout(terms.connect_seconds or terms.waits.connect_seconds):
            await loop.create_connection(lambda: channel, address, terms.port, local_addr=local)
    except TimeoutError:
        return "no connection in time"
    except OSError as fault:
        return f"no connection: {fault.strerror or type(fault).__name__}"
    return ""
