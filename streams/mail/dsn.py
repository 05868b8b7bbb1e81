"""Reading delivery reports (RFC 3464 in RFC 6522): every recipient's block, in whatever case and order its fields come.

Many systems write these fields without being quite standard: all blocks without a blank line between them, the type missing, the
fields in a plain text part or behind ``> `` of somebody's forwarding. So this reader takes fields, not parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from depesche.streams.mail.letter import Part, read_headers
from depesche.streams.mail.patterns import pattern
from depesche.streams.mail.returns.addresses import bare_address, set_apart
from depesche.streams.mail.returns.report import Action, Returned

MAX_RECIPIENTS: Final = 100
"""Recipients of one report that are read. Our own mail has one recipient in each transaction."""
MAX_PROSE: Final = 64 * 1024
"""Characters of the words for people that are read."""

_FIELD = pattern(r"([a-z][a-z0-9-]{1,60})\s?:(?:\s*(.*))?")
_QUOTE = pattern(r"^(?:[>|] ?)+")
_STATUS = pattern(r"#?([245]\.\d{1,3}\.\d{1,3})\W*(.*)")
_TYPE = pattern(r"([a-z][a-z0-9-]{1,30})\s*;\s*(.*)")
_RECIPIENT_FIELDS: Final = frozenset(
    {"final-recipient", "original-recipient", "x-actual-recipient", "action", "status", "diagnostic-code", "remote-mta"}
)
_MAX_FIELD: Final = 4_096
_ACTIONS: Final = {
    "failed": Action.FAILED,
    "failure": Action.FAILED,
    "fail": Action.FAILED,
    "error": Action.FAILED,
    "expired": Action.FAILED,
    "undeliverable": Action.FAILED,
    "delayed": Action.DELAYED,
    "delay": Action.DELAYED,
    "delivered": Action.DELIVERED,
    "deliverable": Action.DELIVERED,
    "relayed": Action.RELAYED,
    "expanded": Action.EXPANDED,
}
HUMAN_TYPES: Final = ("text/plain", "text/html")
STATUS_TYPES: Final = ("message/delivery-status", "message/global-delivery-status")
RECEIPT_TYPE: Final = "message/disposition-notification"
"""A receipt (RFC 8098); some systems refuse a mail in this form."""
RETURNED_TYPES: Final = (
    "message/rfc822",
    "message/global",
    "text/rfc822-headers",
    "text/rfc822",
    "message/rfc822-headers",
    "message/global-headers",
    "message/partial",
)


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """The fields about one recipient (RFC 3464 2.3); what was not given is empty.

    Attributes:
        final_recipient: the address the reporter tried, without its type.
        original_recipient: the address the sender gave.
        action: what happened; None when the field is missing or says something unknown.
        status: enhanced status code.
        status_comment: what stands behind the code, as "host name lookup failure".
        diagnostic_type: ``smtp``, ``x-postfix`` ...
        diagnostic: the words.
        remote_mta: the far host.
    """

    final_recipient: str = ""
    original_recipient: str = ""
    action: Action | None = None
    status: str = ""
    status_comment: str = ""
    diagnostic_type: str = ""
    diagnostic: str = ""
    remote_mta: str = ""

    @property
    def recipient(self) -> str:
        """The address this is about: the final one; the original one where that is none or a name of an inner host."""
        if "." in self.final_recipient.rpartition("@")[2]:
            return self.final_recipient
        return self.original_recipient or self.final_recipient


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """A delivery report.

    Attributes:
        reporting_mta: who reports.
        envelope_id: ENVID of the sender (RFC 3461 4.4).
        recipients: one entry for each recipient, in order.
    """

    reporting_mta: str
    envelope_id: str
    recipients: tuple[RecipientStatus, ...]


def read_dsn(letter: Part) -> DeliveryReport | None:
    """The delivery report in a mail; None when none of its parts is one."""
    for part in letter.walk():
        if part.type in STATUS_TYPES:
            return read_status(part.text)
    return None


def read_status(text: str) -> DeliveryReport | None:
    """The delivery report in fields, wherever they stand; None when no recipient's fields are there."""
    about: dict[str, str] = {}
    recipients: list[dict[str, str]] = []
    block: dict[str, str] = {}
    for name, value in _fields(text):
        starts_anew = name == "" or (name in block and name in ("final-recipient", "original-recipient", "action"))
        if starts_anew and block:
            _close(block, about, recipients)
            block = {}
        if name and len(recipients) < MAX_RECIPIENTS:
            block.setdefault(name, value)
    _close(block, about, recipients)
    if not recipients:
        return None
    return DeliveryReport(
        reporting_mta=_typed(about.get("reporting-mta", ""))[1],
        envelope_id=about.get("original-envelope-id", ""),
        recipients=tuple(_recipient(one) for one in recipients),
    )


def human_text(letter: Part) -> str:
    """The words for people: all text parts before our own mail comes back, HTML only where no plain text says anything."""
    plain: list[str] = []
    marked_up: list[str] = []
    for part in letter.walk():
        if part.type in RETURNED_TYPES or part.type.startswith("message/feedback"):
            break
        if part.is_plain:
            plain.append(part.text)
        elif part.type == "text/html":
            marked_up.append(part.text)
    text, marked = "\n".join(plain), "\n".join(marked_up)
    # A plain part that names nobody ("your program does not show HTML") is not what is to be read.
    says_nothing = not text.strip() or ("@" not in text and "@" in marked)
    return set_apart((marked if says_nothing else text)[:MAX_PROSE])


def returned_headers(letter: Part) -> Returned:
    """The headers of our mail that came back with the report, wherever in it they are a part of their own."""
    for part in letter.walk():
        if part.type in RETURNED_TYPES:
            headers = part.parts[0].headers if part.parts else headers_of(part.text)
            if headers:
                return Returned(headers, bare_address(next((v for n, v in headers if n == "return-path"), "")))
    return Returned()


def headers_of(text: str) -> tuple[tuple[str, str], ...]:
    """The headers at the beginning of a text."""
    return read_headers(text.lstrip("\n").encode("utf-8", "replace"))[0]


def _fields(text: str) -> Iterator[tuple[str, str]]:
    """Fields in order, unfolded, names in lower case; an empty name stands for a blank line."""
    name, value = "", ""
    for raw in _unquoted(text.split("\n")):
        if raw[:1] in (" ", "\t") and name and raw.strip():
            value = f"{value} {raw.strip()}"[:_MAX_FIELD]
            continue
        if name:
            yield name, value
            name = ""
        line = raw.strip()
        match = _FIELD.fullmatch(line[:_MAX_FIELD])
        if match is not None:
            name, value = match[1].lower(), (match.group(2) or "").strip()
        elif not line:
            yield "", ""
    if name:
        yield name, value


def _unquoted(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield _QUOTE.sub("", line) if line[:1] in (">", "|") else line


def _close(block: dict[str, str], about: dict[str, str], recipients: list[dict[str, str]]) -> None:
    """Put a finished block where it belongs: about one recipient, or about the whole mail."""
    says_what = _action(block.get("action", "")) is not None and _STATUS.match(block.get("status", "")) is not None
    if "final-recipient" in block or "original-recipient" in block or says_what:
        recipients.append({name: value for name, value in block.items() if name in _RECIPIENT_FIELDS})
    for name, value in block.items():
        if name not in _RECIPIENT_FIELDS:
            about.setdefault(name, value)


def _recipient(block: dict[str, str]) -> RecipientStatus:
    kind, diagnostic = _typed(block.get("diagnostic-code", ""))
    status = _STATUS.match(block.get("status", ""))
    found = RecipientStatus(
        final_recipient=bare_address(block.get("final-recipient", "")),
        original_recipient=bare_address(block.get("original-recipient", "")),
        action=_action(block.get("action", "")),
        status=status[1] if status is not None else "",
        status_comment=status[2].strip("() ") if status is not None else block.get("status", ""),
        diagnostic_type=kind,
        diagnostic=diagnostic,
        remote_mta=_typed(block.get("remote-mta", ""))[1].partition(" ")[0],
    )
    if not found.recipient:
        found = replace(found, final_recipient=bare_address(block.get("x-actual-recipient", "")))
    return found


def _action(value: str) -> Action | None:
    word = value.strip().partition(" ")[0].strip(";,.()").lower()
    return _ACTIONS.get(word)


def _typed(value: str) -> tuple[str, str]:
    """Type and value of ``smtp; 550 no`` (RFC 3464 2.1.2); an empty type where the writer left it out."""
    match = _TYPE.fullmatch(value)
    return (match[1].lower(), match[2].strip()) if match is not None else ("", value.strip())
