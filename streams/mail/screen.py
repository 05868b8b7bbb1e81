"""Whether a unit may go out at all, decided from values only, in the manner of maddy's check results: a verdict, no effect.

The order is fixed and the first objection counts: what the door found, the sender, the address, the role account.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from depesche.analytics.directory.things import OwnedDomain
from depesche.schemas.errors import InvalidRequestError
from depesche.schemas.records import Account, Customer, DropReason, JobRecipient, Status
from depesche.schemas.values import Address

ROLE_RECIPIENTS: Final = frozenset(
    {
        "postmaster",
        "abuse",
        "hostmaster",
        "webmaster",
        "noc",
        "security",
        "usenet",
        "news",
        "uucp",
        "ftp",
        "www",
        "mailer-daemon",
        "root",
        "noreply",
    }
)
"""Local parts that get no mail unless the account says otherwise: the technical ones of RFC 2142 and of every mail system.

Deliberately narrow. ``info``, ``sales`` or ``support`` are how companies are reached, and lists that hold them (or ``shop``, or
``test``) would refuse ordinary mail; a customer may widen or empty the list (``Account.role_recipients``).
"""


@dataclass(frozen=True, slots=True)
class Drop:
    """The unit will not be sent.

    Attributes:
        reason: why, as the log tells it.
        explanation: one sentence for support staff; it is told as a personal field.
        cause_id: the event that led to it, if one did.
    """

    reason: DropReason
    explanation: str
    cause_id: str | None = None


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wants to send, as the directory has it now."""

    tenant: str
    account_id: str
    customer: Customer | None
    account: Account | None
    domain: OwnedDomain | None


def screen_sender(sender: Sender) -> Drop | None:
    """Whether the sender may still send: since the door said yes, a domain may have been taken away or an account locked.

    A domain must be registered to this customer, be active and be open to this account. ``locked`` on customer or account
    stops what was already accepted (the operator's stop for abuse); ``disabled`` only stops new submissions.
    """
    domain = sender.domain
    if domain is None or domain.tenant != sender.tenant:
        return Drop(DropReason.FORBIDDEN_SENDER, "the sender domain is not registered for this customer")
    if domain.value.status is not Status.ACTIVE:
        return Drop(DropReason.FORBIDDEN_SENDER, "the sender domain is not active")
    if domain.value.accounts and sender.account_id not in domain.value.accounts:
        return Drop(DropReason.FORBIDDEN_SENDER, "the sender domain is not open to this account")
    for who, thing in (("customer", sender.customer), ("account", sender.account)):
        if thing is not None and thing.status is Status.LOCKED:
            return Drop(DropReason.FORBIDDEN_SENDER, f"the {who} is locked")
    return None


def screen_recipient(recipient: JobRecipient, role_recipients: Collection[str] = ROLE_RECIPIENTS) -> Drop | Address:
    """The recipient's address, or why it gets no mail.

    Args:
        recipient: as the door wrote it down, with its objection if it had one.
        role_recipients: local parts in lower case that get no mail.
    """
    if recipient.invalid is not None:
        return Drop(_reason(recipient.invalid), "refused at the door")
    try:
        address = Address.parse(recipient.address)
    except InvalidRequestError as fault:
        return Drop(DropReason.INVALID_ADDRESS, str(fault))
    if _bare(address.local) in role_recipients:
        return Drop(DropReason.FORBIDDEN_RECIPIENT, "a role account")
    return address


def role_recipients_of(account: Account | None) -> Collection[str]:
    """The list in force for an account: its own, or the default."""
    if account is None or account.role_recipients is None:
        return ROLE_RECIPIENTS
    return frozenset(local.lower() for local in account.role_recipients)


def _reason(word: str) -> DropReason:
    try:
        return DropReason(word)
    except ValueError:
        # A door of a newer version may know more reasons than we do.
        return DropReason.VALIDATION_ERROR


def _bare(local: str) -> str:
    """The local part in lower case; ``"postmaster"`` in quotes is the same mailbox (RFC 5321 4.1.2)."""
    if local.startswith('"') and local.endswith('"'):
        local = local[1:-1].replace("\\", "")
    return local.lower()
