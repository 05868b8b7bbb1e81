"""The commands of a submission session: what aiosmtpd's own do not do, or not strictly enough (RFC 5321, 6409, 4954, 3207)."""

from __future__ import annotations

import asyncio
import math

from depesche.analytics.directory.things import Principal
from depesche.api.smtp import login
from depesche.api.smtp.commands import SMTPRefusal
from depesche.api.smtp.intake import BadLine, ContentCollector
from depesche.api.smtp.server import Connection, Listener, Lobby
from depesche.api.smtp.submission import Transaction
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import UnauthorizedError

HANDSHAKE_SECONDS = 30.0
_HELP = "214 2.0.0 EHLO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT; see RFC 5321 and RFC 6409"


class Dialogue(Connection):
    """A connection that submits mail: MAIL, RCPT, DATA and what comes before them."""

    def __init__(self, lobby: Lobby, listener: Listener) -> None:
        super().__init__(lobby, listener)
        self._principal: Principal | None = None
        self._transaction: Transaction | None = None
        self._failed_logins = 0
        self._host_name = ""
        self._extended = False

    def _set_rset_state(self) -> None:
        super()._set_rset_state()  # type: ignore[no-untyped-call]
        self._transaction = None

    async def _greet(self) -> None:
        if self._listener is Listener.RELAY and self._caller() is None and self._entered:
            self.dismiss("554 5.7.1 Your address is not registered here")
        else:
            await super()._greet()

    # Before a mail.

    async def smtp_HELO(self, hostname: str | None) -> None:
        """HELO: the name is not believed and goes nowhere."""
        self._introduce(hostname, extended=False)
        self._say(f"250 {self.hostname}")

    async def smtp_EHLO(self, hostname: str | None) -> None:
        """EHLO: what this connection can do now; AUTH only inside TLS, STARTTLS only outside."""
        self._introduce(hostname, extended=True)
        offers = ["PIPELINING", f"SIZE {self._lobby.settings.max_size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self._listener is Listener.STARTTLS and not self._secure:
            offers.append("STARTTLS")
        if self._secure and self._principal is None:
            offers.append("AUTH PLAIN LOGIN")
        for offer in (self.hostname, *offers):
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
        """AUTH PLAIN and LOGIN, with or without initial response."""
        mechanism, _, initial = (argument or "").partition(" ")
        self._require_auth_allowed()
        if mechanism.upper() == "PLAIN":
            user, password = login.plain_credentials(login.decoded(initial or await self._challenge("")))
        elif mechanism.upper() == "LOGIN":
            user = login.decoded(initial or await self._challenge("VXNlcm5hbWU6"))
            password = login.decoded(await self._challenge("UGFzc3dvcmQ6"))
        else:
            raise SMTPRefusal(504, "5.5.4", "Only PLAIN and LOGIN are known here")
        try:
            self._principal = login.log_in(self._lobby.directory, user, password, self._source)
        except UnauthorizedError:
            await self._refuse_login()
            return
        await self.push("235 2.7.0 Authentication successful")

    def _require_auth_allowed(self) -> None:
        if not self._extended:
            raise SMTPRefusal(503, "5.5.1", "Send EHLO first")
        if not self._secure:
            raise SMTPRefusal(538, "5.7.11", "Encryption is required for authentication")
        if self._principal is not None or self._transaction is not None:
            raise SMTPRefusal(503, "5.5.1", "Not now: already authenticated, or within a mail transaction")

    async def _challenge(self, text: str) -> bytes:
        self._say(f"334 {text}")
        line = await self._line(login.MAX_RESPONSE)
        if line is None:
            raise ConnectionResetError("gone while logging in")
        if isinstance(line, BadLine):
            raise SMTPRefusal(500, "5.5.2", line.reason)
        return line or b"="

    async def _refuse_login(self) -> None:
        """The same answer after the same time, whether the user exists or not."""
        self._failed_logins += 1
        await asyncio.sleep(self._lobby.delay.after_failure(self._source, self.loop.time()))
        if self._failed_logins >= self._lobby.settings.max_auth_tries:
            self._ending = True
            await self.push("421 4.7.0 Too many failed logins")
        else:
            await self.push("535 5.7.8 Authentication credentials invalid")

    def _caller(self) -> Principal | None:
        """Who is submitting: who logged in, or whom the source address stands for."""
        return self._principal or login.by_source(self._lobby.directory, self._source)

    # A mail.

    async def smtp_MAIL(self, argument: str | None) -> None:
        """MAIL FROM: the sender's domain must be registered for whoever logged in."""
        if not self._host_name:
            raise SMTPRefusal(503, "5.5.1", "Send EHLO first")
        if self._listener is Listener.STARTTLS and not self._secure:
            raise SMTPRefusal(530, "5.7.0", "Must issue a STARTTLS command first")
        caller = self._caller()
        if caller is None:
            raise SMTPRefusal(530, "5.7.0", "Authentication required")
        if self._transaction is not None:
            raise SMTPRefusal(503, "5.5.1", "One mail at a time: MAIL was already given")
        if not self._lobby.hallway.ready:
            raise SMTPRefusal(451, "4.3.0", "Not taking mail just now; please try again")
        self._transaction = self._lobby.reception.begin(caller, self._source, argument)
        await self.push("250 2.1.0 Ok")

    async def smtp_RCPT(self, argument: str | None) -> None:
        """RCPT TO: any valid address; whether mail goes there is decided behind the door."""
        if self._transaction is None:
            raise SMTPRefusal(503, "5.5.1", "Send MAIL first")
        self._lobby.reception.add_recipient(self._transaction, argument)
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
            receipt = await self._lobby.reception.submit(transaction, chunks, self._protocol(transaction))
        finally:
            self._busy = False
        self._mistakes = 0
        crashpoint("A5")
        await self.push(f"250 2.0.0 Ok: queued as {receipt.job_id}")
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

    def _protocol(self, transaction: Transaction) -> str:
        """How the mail came, for the Received line (RFC 3848, RFC 6531 4.3)."""
        if not self._extended:
            return "SMTP"
        kind = "UTF8SMTP" if transaction.smtputf8 else "ESMTP"
        return kind + "S" * self._secure + "A" * (self._principal is not None)

    # Besides.

    async def smtp_VRFY(self, argument: str | None) -> None:
        """VRFY: never tells who exists (RFC 5321 7.3)."""
        if not argument:
            raise SMTPRefusal(501, "5.5.4", "Syntax: VRFY <address>")
        await self.push("252 2.1.5 Cannot verify, but will take mail and try")

    async def smtp_HELP(self, argument: str | None) -> None:
        """HELP."""
        self._say(_HELP)

    async def smtp_QUIT(self, argument: str | None) -> None:
        """QUIT."""
        if argument:
            raise SMTPRefusal(501, "5.5.4", "Syntax: QUIT")
        self._ending = True
        await self.push("221 2.0.0 Bye")
