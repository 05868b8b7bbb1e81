"""What a door hands to the hallway, and what it gets back. Values; REST and SMTP fill in the same ones."""

from __future__ import annotations

from dataclasses import dataclass

from depesche.schemas.identity import unit_id
from depesche.schemas.records import Interface, JobRecipient, NotificationEndpoint


@dataclass(frozen=True, slots=True)
class Content:
    """One message of a submission.

    Attributes:
        parts: joined in this order they are the message's final bytes: CRLF line ends only, not dot-stuffed. Messages of
            one job may share a part (the same bytes object), which is then stored once.
        header_size: bytes of the header, the empty line after it included.
        message_id: Message-ID without angle brackets.
        leading_dots: whether some line begins with a dot, if the door knows; looked up otherwise.
    """

    parts: tuple[bytes, ...]
    header_size: int
    message_id: str
    leading_dots: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job that a door has read, checked and authorised.

    Attributes:
        tenant, account: from the credential, never from the request.
        client: source address of the submitting machine.
        mail_from: envelope sender.
        header_from: address of the From header.
        subject: decoded, for search.
        sender_domain: the registered domain of both.
        recipients: position in this list = number of the unit.
        idempotency_key: as the caller gave it.
        fingerprint: hash of the canonical request, needed with a key.
        expires_at: milliseconds since 1970 UTC; nothing: the account's or the service's default.
    """

    tenant: str
    account: str
    interface: Interface
    client: str
    mail_from: str
    header_from: str
    subject: str
    sender_domain: str
    messages: tuple[Content, ...]
    recipients: tuple[JobRecipient, ...]
    smtputf8: bool = False
    reference_job: str | None = None
    cost_center: str | None = None
    campaign_id: str | None = None
    notification: NotificationEndpoint | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The yes: from here on the mail is ours.

    Attributes:
        job_id: UUIDv7.
        received_at: milliseconds since 1970 UTC.
        units: how many units the job has.
        replayed: whether this is the answer to an earlier submission with the same idempotency key.
    """

    job_id: str
    received_at: int
    units: int
    replayed: bool = False

    @property
    def unit_ids(self) -> tuple[str, ...]:
        """The units' ids, in the order of the recipients."""
        return tuple(unit_id(self.job_id, number) for number in range(self.units))
