"""What every SMTP conversation has, whoever it is with (RFC 5321, 3207): greeting, TLS, the content of a mail, farewell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from depesche.api.smtp.commands import SMTPRefusal
from depesche.api.smtp.intake import ContentCollector
from depesche.api.smtp.server import Connection, Listener, Lobby
from depesche.schemas.crashpoints import crashpoint

HANDSHAKE_SECONDS = 30.0


class Envelope(Protocol):
    """A mail on its way in, from MAIL to the end of its content."""

    @property
    def recipients(self) -> Any:
        """Whom it is for; false while there is nobody."""
        ...


T = TypeVar("T", bound=Envelope)


class Conversation(Connection, Generic[T]):
    """A connection that takes mails. Who may say MAIL and RCPT, and what becomes of a mail, is told by the subclass."""

    _help = "214 2.0.0 EHLO STARTTLS MAIL RCPT DATA RSET NOOP VRFY HELP QUIT; see RFC 5321"

    def __init__(self, lobby: Lobby, listener: Listener) -> None:
        super().__init__(lobby, listener)
        self._transaction: T | None = None
        self._host_name = ""
        self._extended = False

    def _set_rset_state(self) -> None:
        super()._set_rset_state()  # type: ignore[no-untyped-call]
        self._transaction = None

    def _begin(self, argument: str | None) -> T:
        """The transaction that MAIL opens; raises whatever refuses it."""
        raise NotImplementedError

    def _add_recipient(self, transaction: T, argument: str | None) -> None:
        """Take the recipient that RCPT names; raises whatever refuses it."""
        raise NotImplementedError

    async def _accept(self, transaction: T, chunks: Sequence[bytes | bytearray]) -> str:
        """Take a whole mail for good; gives what it is known as from now on. Raises whatever refuses it."""
        raise NotImplementedError

    def _offers(self) -> list[str]:
        """What EHLO lists beside the name."""
        offers = ["PIPELINING", f"SIZE {self._lobby.settings.max_size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self._listener is Listener.STARTTLS and not self._secure:
            offers.append("STARTTLS")
        return offers

    # Before a mail.

    async def smtp_HELO(self, hostname: str | None) -> None:
        """HELO: the name is not believed and goes nowhere."""
        self._introduce(hostname, extended=False)
        self._say(f"250 {self.hostname}")

    async def smtp_EHLO(self, hostname: str | None) -> None:
        """EHLO: what this connection can do now; STARTTLS only outside of TLS."""
        self._introduce(hostname, extended=True)
        for offer in (self.hostname, *self._offers()):
            self._say(f"250-{offer}")
        self._say("250 HELP")

    def _introduce(self, hostname: str | None, *, extended: bool) -> None:
        if not hostname or len(hostname.split()) > 1:
            raise SMTPRefusal(501, "5.5.4", "Say your host name")
        self._set_rset_state()
        self._host_name = hostname
        self._extended = extended

    async def smtp_STARTTLS(self, argument: str | None) -> None:
        """STARTTLS: afterwards nothing counts that was said before, in this very packet or earlier (RFC 3207 4.2)."""
        if argument:
            raise SMTPRefusal(501, "5.5.4", "Syntax: STARTTLS")
        if self._listener is not Listener.STARTTLS or self._lobby.tls is None or self._wire is None:
            raise SMTPRefusal(502, "5.5.1", "TLS is not offered here")
        if self._secure:
            raise SMTPRefusal(503, "5.5.1", "TLS is already on")
        await self.push("220 2.0.0 Ready to start TLS")
        await self._flush()
        self._intake.discard()
        self._secure = True
        self._wire = await self.loop.start_tls(
            self._wire, self, self._lobby.tls, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
        )
        self.transport = self._wire
        self._host_name, self._extended = "", False
        self._set_rset_state()

    async def smtp_AUTH(self, argument: str | None) -> None:
        """AUTH: only where somebody logs in."""
        raise SMTPRefusal(502, "5.5.1", "Nobody logs in here")

    # A mail.

    async def smtp_MAIL(self, argument: str | None) -> None:
        """MAIL FROM."""
        if not self._host_name:
            raise SMTPRefusal(503, "5.5.1", "Send EHLO first")
        self._require_mail_allowed()
        if self._transaction is not None:
            raise SMTPRefusal(503, "5.5.1", "One mail at a time: MAIL was already given")
        if not self._lobby.gate.ready:
            raise SMTPRefusal(451, "4.3.0", "Not taking mail just now; please try again")
        self._transaction = self._begin(argument)
        await self.push("250 2.1.0 Ok")

    def _require_mail_allowed(self) -> None:
        """Raise SMTPRefusal if this client may not say MAIL yet."""

    async def smtp_RCPT(self, argument: str | None) -> None:
        """RCPT TO."""
        if self._transaction is None:
            raise SMTPRefusal(503, "5.5.1", "Send MAIL first")
        self._add_recipient(self._transaction, argument)
        await self.push("250 2.1.5 Ok")

    async def smtp_DATA(self, argument: str | None) -> None:
        """DATA: the content, and 250 only when it is kept."""
        if argument:
            raise SMTPRefusal(501, "5.5.4", "Syntax: DATA")
        if self._transaction is None:
            raise SMTPRefusal(503, "5.5.1", "Send MAIL first")
        if not self._transaction.recipients:
            raise SMTPRefusal(554, "5.5.1", "No valid recipient")
        chunks = await self._content()
        if chunks is None:
            return
        transaction, self._transaction = self._transaction, None
        self._set_rset_state()
        self._busy = True
        try:
            known_as = await self._accept(transaction, chunks)
        finally:
            self._busy = False
        self._mistakes = 0
        crashpoint("A5")
        await self.push(f"250 2.0.0 Ok: queued as {known_as}")
        await self._flush()
        crashpoint("A6")

    async def _content(self) -> list[bytes | bytearray] | None:
        """The pieces of the content; nothing when the client went away in the middle of it.

        Raises:
            SMTPRefusal: all connections together hold too much just now.
        """
        budget = self._lobby.budget
        if budget.held >= budget.limit:
            raise SMTPRefusal(452, "4.3.1", "Too much under way just now; please try again")
        self._say("354 End data with <CR><LF>.<CR><LF>")
        await self._flush()
        self._collector = collector = ContentCollector(self._lobby.settings.max_size, budget)
        now = self._collecting_since = self.loop.time()
        self._deadline = now + self._lobby.settings.command_seconds
        self._intake.collect(collector)
        while self._intake.collecting and not self._ended:
            await self._wait()
        self._deadline = math.inf
        self._collector = None
        chunks = collector.take()
        if self._intake.collecting:
            return None
        if collector.starved:
            self._set_rset_state()
            raise SMTPRefusal(452, "4.3.1", "Too much under way just now; please try again")
        return chunks

    # Besides.

    async def smtp_VRFY(self, argument: str | None) -> None:
        """VRFY: never tells who exists (RFC 5321 7.3)."""
        if not argument:
            raise SMTPRefusal(501, "5.5.4", "Syntax: VRFY <address>")
        await self.push("252 2.1.5 Cannot verify, but will take mail and try")

    async def smtp_HELP(self, argument: str | None) -> None:
        """HELP."""
        self._say(self._help)

    async def smtp_QUIT(self, argument: str | None) -> None:
        """QUIT."""
        if argument:
            raise SMTPRefusal(501, "5.5.4", "Syntax: QUIT")
        self._ending = True
        await self.push("221 2.0.0 Bye")
