"""Recipients as a door judges them: one that is not valid never refuses a job, it is taken along with its reason.

The workshop then drops that unit with an event, so that whoever looks for it finds out why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from depesche.api.header_lines import readable
from depesche.schemas.errors import InvalidRequestError
from depesche.schemas.records import DropReason, JobRecipient, RecipientKind
from depesche.schemas.roles import is_role
from depesche.schemas.values import MAX_PATH, Address, Mailbox

Suppressed = Callable[[Address], DropReason | None]
"""Why the suppression list forbids writing to an address; None: it does not."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A recipient after the door's check.

    Attributes:
        address: bare address; as written where it is not valid.
        kind: role in the header.
        mailbox: what the header shows; nothing when the address is not valid.
        reason: why nothing will be sent, if so.
    """

    address: str
    kind: RecipientKind
    mailbox: Mailbox | None
    reason: DropReason | None = None

    def unit(self, message: int, block: int, reference: str | None) -> JobRecipient:
        """The recipient as the job's record has it."""
        return JobRecipient(
            address=self.address,
            message=message,
            block=block,
            kind=self.kind,
            reference=reference,
            invalid=self.reason.value if self.reason else None,
        )


def checked(
    text: str, parse: Callable[[], Mailbox], kind: RecipientKind, roles: Collection[str], suppressed: Suppressed
) -> Checked:
    """A recipient, judged.

    Args:
        text: as the caller wrote it, for the answer.
        parse: gives the mailbox, or raises InvalidRequestError.
        kind: role in the header.
        roles: local parts that get no mail.
        suppressed: asks the suppression list.
    """
    try:
        mailbox = parse()
        readable(mailbox.name, "name")
    except InvalidRequestError:
        return Checked(_bare(text), kind, None, DropReason.INVALID_ADDRESS)
    role = is_role(mailbox.address.local, roles)
    reason = DropReason.FORBIDDEN_RECIPIENT if role else suppressed(mailbox.address)
    return Checked(str(mailbox.address), kind, mailbox, reason)


def _bare(text: str) -> str:
    inner = text.rpartition("<")[2].partition(">")[0] if "<" in text else text
    printable = "".join(c for c in inner.strip() if c.isprintable() and not "\ud800" <= c <= "\udfff")
    return printable[:MAX_PATH]


def shown(recipients: Sequence[Checked], kind: RecipientKind) -> tuple[Mailbox, ...]:
    """The mailboxes that the header shows for one role; one that cannot be written down is left out."""
    return tuple(r.mailbox for r in recipients if r.kind is kind and r.mailbox)
