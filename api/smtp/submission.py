"""What the SMTP door takes: checks of sender, recipients and message, and the submission made of them (RFC 6409).

A message is only touched where the standard or the interface asks for it: control headers, Bcc, Return-Path and a return key
that is not ours to give here are taken out, a Received line is put in front, Date and Message-ID are added when missing. The
Received line names neither the client's address nor what it said in EHLO: both would tell every recipient about the inside of
the customer's network, and the address is in the job's sealed envelope for whoever must know.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Protocol

from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.things import Principal
from depesche.api.smtp import fields as headers
from depesche.api.smtp.commands import SMTPRefusal, mail_parameters, path_command
from depesche.api.smtp.content import Received, received
from depesche.api.smtp.controls import Controls, controls, is_control
from depesche.api.submission import Content, Receipt, Submission
from depesche.schemas.errors import ForbiddenSenderError, InvalidRequestError, NotAvailableError, TooLargeError
from depesche.schemas.records import Interface, JobRecipient, RecipientKind
from depesche.schemas.return_key import HEADER
from depesche.schemas.roles import ROLE_SENDERS, is_role
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import SMTPSettings
from depesche.schemas.values import Address

SMALL_MESSAGE = 1 << 15
"""Up to here header and body are archived as one part: one reference less in every record that follows."""
_NOT_SENT = frozenset({"bcc", "resent-bcc", "return-path", HEADER.lower()})


class Acceptance(Protocol):
    """The hallway as this door needs it."""

    ready: bool

    async def submit(self, submission: Submission) -> Receipt:
        """Take a job for good, even if the caller is cancelled meanwhile."""
        ...


@dataclass(slots=True)
class Transaction:
    """One mail on its way in: from MAIL to the end of the content."""

    principal: Principal
    client: str
    sender: Address
    domain: str
    smtputf8: bool
    recipients: dict[str, JobRecipient] = field(default_factory=dict)


class Reception:
    """Decides what is taken, and hands it to the hallway."""

    def __init__(
        self, settings: SMTPSettings, hallway: Acceptance, directory: Directory, clock: Clock = now_ms
    ) -> None:
        self._settings = settings
        self._hallway = hallway
        self._directory = directory
        self._clock = clock
        self._date = (0, "")

    def begin(self, principal: Principal, client: str, argument: str | None) -> Transaction:
        """The transaction that MAIL opens.

        Raises:
            SMTPRefusal: syntax, size, or an address that is none.
            ForbiddenSenderError: the null sender, a role account, or a domain that is not registered for the account.
        """
        command = path_command(argument, "FROM")
        announced = mail_parameters(command.parameters, self._settings.max_size)
        if not command.path:
            # Submission is for mail that somebody answers for; notices about mail are made by servers (RFC 6409 6.1).
            raise ForbiddenSenderError("null sender", public="The null sender may not submit mail")
        sender = _address(command.path, announced.smtputf8, "5.1.7")
        domain = self._require_sender(principal, sender)
        return Transaction(principal, client, sender, domain, announced.smtputf8)

    def add_recipient(self, transaction: Transaction, argument: str | None) -> None:
        """The recipient that RCPT names; one that was named before is taken once.

        Raises:
            SMTPRefusal: syntax (501), no address (550 5.1.3), one too many (452 4.5.3).
        """
        command = path_command(argument, "TO")
        if command.parameters:
            raise SMTPRefusal(555, "5.5.4", "A parameter is not recognised")
        address = str(_address(command.path, transaction.smtputf8, "5.1.3"))
        if len(transaction.recipients) >= self._settings.max_recipients and address not in transaction.recipients:
            raise SMTPRefusal(452, "4.5.3", f"More than {self._settings.max_recipients} recipients in one transaction")
        transaction.recipients.setdefault(
            address, JobRecipient(address=address, message=0, block=0, kind=RecipientKind.TO)
        )

    async def submit(self, transaction: Transaction, chunks: Sequence[bytes | bytearray], protocol: str) -> Receipt:
        """Take the message in ``chunks`` for the transaction's recipients.

        Args:
            transaction: with at least one recipient.
            chunks: content as received, dot-stuffed.
            protocol: how it came, for the Received line (RFC 3848, RFC 6531 4.3).

        Raises:
            Refusal, Outage: nothing was taken.
        """
        return await self._hallway.submit(self.submission(transaction, chunks, protocol))

    def submission(self, transaction: Transaction, chunks: Sequence[bytes | bytearray], protocol: str) -> Submission:
        """The job that a transaction and its content make; see ``submit``."""
        message = received(chunks)
        if len(message.header) + len(message.body) > self._settings.max_size:
            raise TooLargeError(public=f"The message is larger than {self._settings.max_size} bytes")
        fields = headers.parse(message.header, utf8=transaction.smtputf8)
        author = headers.from_address(fields)
        if author.domain != transaction.domain:
            raise ForbiddenSenderError("From", public="The domain of the From header must be that of the sender")
        self._require_sender(transaction.principal, author)
        asked = controls(fields)
        if asked.notification is not None:
            # Accepting a job and never pushing would be a silent lie; the endpoint is taken once there is a notifier.
            raise NotAvailableError("push", public="Push notifications are not available yet")
        content = self._content(transaction, message, fields, protocol)
        subject = headers.first(fields, "subject")
        return Submission(
            tenant=transaction.principal.tenant,
            account=transaction.principal.account,
            interface=Interface.SMTP,
            client=transaction.client,
            mail_from=str(transaction.sender),
            header_from=str(author),
            subject=headers.readable(subject.value) if subject else "",
            sender_domain=transaction.domain,
            messages=(content,),
            recipients=tuple(transaction.recipients.values()),
            smtputf8=_needs_smtputf8(transaction, message),
            reference_job=asked.reference,
            cost_center=asked.cost_center,
            campaign_id=asked.campaign_id,
            notification=asked.notification,
            idempotency_key=asked.idempotency_key,
            fingerprint=_fingerprint(transaction, message, asked),
        )

    def _require_sender(self, principal: Principal, sender: Address) -> str:
        if is_role(sender.local, ROLE_SENDERS):
            raise ForbiddenSenderError("role sender", public="Role accounts such as postmaster@ may not send")
        found = self._directory.sender_domain(sender.domain, principal.tenant, principal.account)
        if found is None:
            raise ForbiddenSenderError(f"{sender.domain} is not registered for {principal.account}")
        return found.name

    def _content(
        self, transaction: Transaction, message: Received, fields: Sequence[headers.Field], protocol: str
    ) -> Content:
        """The message as it will be sent."""
        message_id = headers.message_id(fields)
        dropped = [f for f in fields if f.name in _NOT_SENT or is_control(f)]
        dropped += [f for f in fields if f.name == "message-id" and message_id is None]
        own = b"".join(f.raw for f in fields if f not in dropped) if dropped else message.header[:-2]
        added = b""
        if headers.first(fields, "date") is None:
            added += f"Date: {self._now()}\r\n".encode()
        if message_id is None:
            message_id = f"{uuid.uuid4()}@{transaction.domain}"
            added += f"Message-ID: <{message_id}>\r\n".encode()
        trace = (
            f"Received: by {self._settings.hostname} with {protocol} id {secrets.token_hex(8)};\r\n\t{self._now()}\r\n"
        )
        header = b"".join((trace.encode(), own, added, b"\r\n"))
        parts = (header + message.body,) if len(message.body) <= SMALL_MESSAGE else (header, message.body)
        return Content(parts, len(header), message_id, message.leading_dots)

    def _now(self) -> str:
        """The date as a header has it; made once per second."""
        second = self._clock() // 1000
        if self._date[0] != second:
            self._date = (second, formatdate(second))
        return self._date[1]


def _address(path: str, smtputf8: bool, enhanced: str) -> Address:
    if not path.isascii() and not smtputf8:
        raise SMTPRefusal(553, "5.6.7", "An address with other than ASCII characters needs SMTPUTF8")
    try:
        return Address.parse(path)
    except InvalidRequestError as fault:
        raise SMTPRefusal(550, enhanced, fault.public) from fault


def _needs_smtputf8(transaction: Transaction, message: Received) -> bool:
    addresses = (str(transaction.sender), *transaction.recipients)
    return not message.header.isascii() or not all(map(str.isascii, addresses))


def _fingerprint(transaction: Transaction, message: Received, asked: Controls) -> str | None:
    """Tells a repetition with the same idempotency key from another mail: over all that the client sent."""
    if asked.idempotency_key is None:
        return None
    digest = hashlib.sha256("\n".join(["smtp", str(transaction.sender), *sorted(transaction.recipients), ""]).encode())
    digest.update(message.header)
    digest.update(message.body)
    return digest.hexdigest()
