"""Whether a sender may send: its domain is registered, and it is a person or a program, not an office."""

from __future__ import annotations

from collections.abc import Collection

from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.things import Principal
from depesche.schemas.errors import ForbiddenSenderError
from depesche.schemas.roles import ROLE_RECIPIENTS, ROLE_SENDERS, is_role
from depesche.schemas.values import Mailbox


def require_sender(directory: Directory, principal: Principal, sender: Mailbox) -> str:
    """The registered domain of ``sender``.

    Raises:
        ForbiddenSenderError: the domain is not registered for this account, or the local part is a role account.
    """
    if is_role(sender.address.local, ROLE_SENDERS):
        raise ForbiddenSenderError("role sender", public="Role accounts such as postmaster@ may not send")
    found = directory.sender_domain(sender.address.domain, principal.tenant, principal.account)
    if found is None:
        raise ForbiddenSenderError(f"{sender.address.domain} is not registered")
    return found.name


def roles_of(directory: Directory, account: str) -> Collection[str]:
    """Role accounts that get no mail from this account: its own list, or the default one."""
    found = directory.book.account(account)
    own = found[1].role_recipients if found else None
    return ROLE_RECIPIENTS if own is None else own
