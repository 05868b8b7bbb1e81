"""The commands of a submission session: logging in, and who may send (RFC 6409, 4954)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.things import Principal
from depesche.api.smtp import login
from depesche.api.smtp.commands import SMTPRefusal
from depesche.api.smtp.conversation import Conversation
from depesche.api.smtp.guard import LoginDelay
from depesche.api.smtp.intake import BadLine
from depesche.api.smtp.server import Listener, Lobby
from depesche.api.smtp.submission import Reception, Transaction
from depesche.schemas.errors import UnauthorizedError


@dataclass(slots=True, eq=False, kw_only=True)
class SubmissionLobby(Lobby):
    """What all submission sessions share: beside the rest, who is known, who takes their mail, and the delay of wrong logins."""

    directory: Directory
    reception: Reception
    delay: LoginDelay


class Dialogue(Conversation[Transaction]):
    """A connection that submits mail."""

    _help = "214 2.0.0 EHLO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT; see RFC 5321 and RFC 6409"

    def __init__(self, lobby: SubmissionLobby, listener: Listener) -> None:
        super().__init__(lobby, listener)
        self._shared = lobby
        self._principal: Principal | None = None
        self._failed_logins = 0

    async def _greet(self) -> None:
        if self._listener is Listener.RELAY and self._caller() is None and self._entered:
            self.dismiss("554 5.7.1 Your address is not registered here")
        else:
            await super()._greet()

    def _offers(self) -> list[str]:
        """As everywhere, and AUTH inside TLS."""
        login_offered = self._secure and self._principal is None
        return [*super()._offers(), *(["AUTH PLAIN LOGIN"] if login_offered else [])]

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
            self._principal = login.log_in(self._shared.directory, user, password, self._source)
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
        await asyncio.sleep(self._shared.delay.after_failure(self._source, self.loop.time()))
        if self._failed_logins >= self._lobby.settings.max_auth_tries:
            self._ending = True
            await self.push("421 4.7.0 Too many failed logins")
        else:
            await self.push("535 5.7.8 Authentication credentials invalid")

    def _caller(self) -> Principal | None:
        """Who is submitting: who logged in, or whom the source address stands for."""
        return self._principal or login.by_source(self._shared.directory, self._source)

    # A mail.

    def _require_mail_allowed(self) -> None:
        if self._listener is Listener.STARTTLS and not self._secure:
            raise SMTPRefusal(530, "5.7.0", "Must issue a STARTTLS command first")
        if self._caller() is None:
            raise SMTPRefusal(530, "5.7.0", "Authentication required")

    def _begin(self, argument: str | None) -> Transaction:
        """The sender's domain must be registered for whoever logged in."""
        caller = self._caller()
        if caller is None:
            raise SMTPRefusal(530, "5.7.0", "Authentication required")
        return self._shared.reception.begin(caller, self._source, argument)

    def _add_recipient(self, transaction: Transaction, argument: str | None) -> None:
        """Any valid address; whether mail goes there is decided behind the door."""
        self._shared.reception.add_recipient(transaction, argument)

    async def _accept(self, transaction: Transaction, chunks: Sequence[bytes | bytearray]) -> str:
        receipt = await self._shared.reception.submit(transaction, chunks, self._protocol(transaction))
        return receipt.job_id

    def _protocol(self, transaction: Transaction) -> str:
        """How the mail came, for the Received line (RFC 3848, RFC 6531 4.3)."""
        if not self._extended:
            return "SMTP"
        kind = "UTF8SMTP" if transaction.smtputf8 else "ESMTP"
        return kind + "S" * self._secure + "A" * (self._principal is not None)
