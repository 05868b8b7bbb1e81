"""The door on the return path: takes what comes back to us, for nobody else, and never passes anything on.

It takes mail for the return domain only: ``b1-KEY`` (the return path of one mail), ``u1-KEY`` (a mailto unsubscribe), ``fbl``
(the address that feedback loops are registered with), and ``postmaster`` and ``abuse``, which every domain must have (RFC 2142,
RFC 5321 4.5.1). Whether a key was made here is seen from the key alone, so a wrong one is refused at RCPT, in the words in which
every missing mailbox is. That tells a forger nothing he could use: he learns that he has not guessed 128 bits, and nothing about
which mails there are (decision 26). Nobody logs in, the null sender is welcome, and nothing is ever answered.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from depesche.api.returned_mail import Delivery
from depesche.api.smtp.commands import SMTPRefusal, mail_parameters, path_command
from depesche.api.smtp.conversation import Conversation
from depesche.api.smtp.door import MAX_UNFINISHED_BYTES, Doorway
from depesche.api.smtp.guard import ConnectionLimit
from depesche.api.smtp.intake import Budget
from depesche.api.smtp.server import Listener, Lobby
from depesche.schemas.errors import SetupError, TooLargeError
from depesche.schemas.return_key import Purpose, ReturnKeys
from depesche.schemas.settings import ReturnsSettings, Settings, SMTPSettings

OFFICES = frozenset({"postmaster", "abuse", "fbl"})
MAX_REFUSED = 50
"""Refused recipients on one connection; whoever tries more is looking for something."""
_ADDRESSED = frozenset({Purpose.BOUNCE, Purpose.UNSUBSCRIBE})


class Keeping(Protocol):
    """What is behind this door: ``api.returned_mail.Keeper``."""

    ready: bool

    async def keep(self, delivery: Delivery) -> str:
        """Keep a mail for good, even if the caller is cancelled meanwhile; gives its id."""
        ...


@dataclass(slots=True)
class ReturnTransaction:
    """One mail on its way back: from MAIL to the end of the content."""

    mail_from: str
    recipients: list[str] = field(default_factory=list)


class Addresses:
    """Which recipients are ours."""

    def __init__(self, settings: ReturnsSettings, keys: ReturnKeys) -> None:
        self._domains = frozenset(name.lower() for name in (settings.domain, *settings.more_domains) if name)
        self._keys = keys

    def check(self, path: str) -> None:
        """Raise SMTPRefusal unless mail to ``path`` is for us: 550 5.7.1 for another domain, 550 5.1.1 for no mailbox of ours."""
        local, at, domain = path.rpartition("@")
        if not at and path.lower() == "postmaster":
            # RFC 5321 4.5.1: the postmaster without a domain is the one of whoever is asked.
            return
        if domain.lower() not in self._domains:
            raise SMTPRefusal(550, "5.7.1", "No mail is passed on here")
        if local.lower() in OFFICES or any(self._keys.unit(purpose, local) for purpose in _ADDRESSED):
            return
        raise SMTPRefusal(550, "5.1.1", "No such mailbox here")


@dataclass(slots=True, eq=False, kw_only=True)
class ReturnLobby(Lobby):
    """What all connections of this door share: beside the rest, whose mail is taken, and who keeps it."""

    addresses: Addresses
    keeper: Keeping


class ReturnConversation(Conversation[ReturnTransaction]):
    """A connection that brings something back."""

    def __init__(self, lobby: ReturnLobby, listener: Listener) -> None:
        super().__init__(lobby, listener)
        self._shared = lobby
        self._refused = 0

    def _begin(self, argument: str | None) -> ReturnTransaction:
        """Whatever calls itself the sender may; nothing depends on it."""
        command = path_command(argument, "FROM")
        mail_parameters(command.parameters, self._lobby.settings.max_size)
        return ReturnTransaction(command.path)

    def _add_recipient(self, transaction: ReturnTransaction, argument: str | None) -> None:
        command = path_command(argument, "TO")
        if command.parameters:
            raise SMTPRefusal(555, "5.5.4", "A parameter is not recognised")
        try:
            self._shared.addresses.check(command.path)
        except SMTPRefusal:
            self._refused += 1
            if self._refused > MAX_REFUSED:
                self._ending = True
                raise SMTPRefusal(421, "4.7.0", "Too many recipients that are not here") from None
            raise
        if command.path in transaction.recipients:
            return
        if len(transaction.recipients) >= self._lobby.settings.max_recipients:
            limit = self._lobby.settings.max_recipients
            raise SMTPRefusal(452, "4.5.3", f"More than {limit} recipients in one transaction")
        transaction.recipients.append(command.path)

    async def _accept(self, transaction: ReturnTransaction, chunks: Sequence[bytes | bytearray]) -> str:
        content = unstuffed(chunks)
        limit = self._lobby.settings.max_size
        if len(content) > limit:
            raise TooLargeError(public=f"The message is larger than {limit} bytes")
        recipients = tuple(transaction.recipients)
        delivery = Delivery(content, transaction.mail_from, recipients, self._source, self._host_name)
        return await self._shared.keeper.keep(delivery)


def unstuffed(chunks: Sequence[bytes | bytearray]) -> bytes:
    """A content without dot-stuffing (RFC 5321 4.5.2).

    Bare line ends, long lines and NUL stay as they are: a bounce quotes whatever it bounces, nothing is passed on from here to a
    server that could read an end of mail into it, and its readers take every form of line end.
    """
    content = b"".join(chunks)
    content = content.replace(b"\r\n.", b"\r\n")
    return content[1:] if content.startswith(b".") else content


class ReturnDoor:
    """The door as a service; without a return domain or a port it stays closed."""

    name = "inbound"

    def __init__(self, settings: Settings, keeper: Keeping, keys: ReturnKeys, tls: ssl.SSLContext | None) -> None:
        """Make the door; it opens in ``run``.

        Args:
            settings: limits and addresses are in ``settings.returns``, times in ``settings.smtp``.
            keeper: keeps the mails, and tells whether it can.
            keys: read the addresses.
            tls: for STARTTLS.

        Raises:
            SetupError: it is to be opened, but there is no certificate.
        """
        returns, limits = settings.returns, limits_of(settings)
        if tls is None and limits.port:
            raise SetupError("The door of the return path has no certificate.", fix="Set smtp.certificate.")
        lobby = ReturnLobby(
            settings=limits,
            gate=keeper,
            tls=tls,
            connections=ConnectionLimit(limits.max_connections, limits.max_connections_per_ip),
            budget=Budget(MAX_UNFINISHED_BYTES),
            addresses=Addresses(returns, keys),
            keeper=keeper,
        )
        ports = {Listener.STARTTLS: limits.port}
        self._doorway = Doorway(lobby, functools.partial(ReturnConversation, lobby), ports, "returns.port")

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled; see ``Doorway.serve``."""
        await self._doorway.serve(ready)


def limits_of(settings: Settings) -> SMTPSettings:
    """The limits of a connection to this door: its own where it has them, else those of submission."""
    returns = settings.returns
    return settings.smtp.model_copy(
        update={
            "host": returns.host,
            "port": returns.port if returns.domain else 0,
            "hostname": returns.hostname or settings.smtp.hostname,
            "max_size": returns.max_size,
            "max_recipients": returns.max_recipients,
            "max_connections": returns.max_connections,
            "max_connections_per_ip": returns.max_connections_per_ip,
        }
    )
