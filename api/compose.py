"""From what a REST caller asked for to the bytes that will be signed and sent.

The header is built per recipient block, the body once for all of them, so that a job to a hundred blocks is archived and
hashed as one body. Every value that becomes part of a header is judged after decoding, and the finished header is read
again by ``header_lines.check_header`` before anybody says yes (threat 7 of the reliability note).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal
from urllib.parse import urlsplit

from depesche.api.header_lines import MAX_LINE, HeaderLine, address_line, check_header, readable, text_line, token_line
from depesche.api.mime_body import Entity, Text
from depesche.api.submission import Content
from depesche.schemas.errors import DepescheError, InvalidRequestError
from depesche.schemas.values import Address, Mailbox

Priority = Literal["HIGH", "NORMAL", "LOW"]

_CUSTOM_NAME = re.compile(r"[Xx]-[A-Za-z0-9._-]{1,74}\Z")
_RESERVED = ("x-retarus-", "x-depesche-")
_MESSAGE_ID = re.compile(r"[!-;=?-~]{1,900}\Z")
_URL = re.compile(r"[!#-;=?-Z\[\]_a-z~%]{1,900}\Z")
_IMPORTANCE: dict[str, tuple[str, str]] = {"HIGH": ("1", "high"), "LOW": ("5", "low")}
_NOBODY = "undisclosed-recipients:;"


@dataclass(frozen=True, slots=True)
class Heading:
    """What the header of one message says.

    Attributes:
        sender: the From field.
        to, cc: shown recipients; blind ones have no place here.
        reply_to: where answers go; empty: to the sender.
        subject: as its reader shall see it.
        more: further fields, from the functions beneath.
    """

    sender: Mailbox
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    reply_to: tuple[Mailbox, ...]
    subject: Text
    more: tuple[HeaderLine, ...] = ()

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address in it can only travel with SMTPUTF8 (RFC 6531)."""
        shown = (self.sender, *self.to, *self.cc, *self.reply_to)
        return any(mailbox.address.needs_smtputf8 for mailbox in shown)


def compose(heading: Heading, body: Entity, payload: bytes, now: datetime | None = None) -> Content:
    """One message: a header part of its own and the body part that it shares with its siblings.

    Args:
        heading: what the header says.
        body: from ``build_body``.
        payload: the joined pieces of ``body``; hand the same object to all messages of a job.
        now: the Date; an argument so that tests choose it.

    Raises:
        InvalidRequestError: a value cannot stand in a header.
        TooLargeError: the header is larger than 100 KB.
    """
    # Shown as it is written, but refused if a reader that decodes it would find a line end in it.
    readable(heading.subject.content, "/subject")
    message_id = f"{uuid.uuid4()}@{heading.sender.address.domain}"
    lines = (
        *_address_lines(heading),
        text_line("Subject", heading.subject.content, force_base64=heading.subject.base64),
        token_line("Date", format_datetime(now or datetime.now(UTC))),
        token_line("Message-ID", f"<{message_id}>"),
        *heading.more,
        token_line("MIME-Version", "1.0"),
        *body.fields,
    )
    header = b"".join(line.octets for line in lines) + b"\r\n"
    check_header(header, [line.name for line in lines], utf8=heading.needs_smtputf8)
    return Content(parts=(header, payload), header_size=len(header), message_id=message_id)


def _address_lines(heading: Heading) -> tuple[HeaderLine, ...]:
    shown = [("From", (heading.sender,)), ("To", heading.to), ("Cc", heading.cc), ("Reply-To", heading.reply_to)]
    lines = [address_line(name, _named(mailboxes, name)) for name, mailboxes in shown if mailboxes]
    if not heading.to and not heading.cc:
        lines.insert(1, token_line("To", _NOBODY))
    return tuple(lines)


def _named(mailboxes: Sequence[Mailbox], field: str) -> list[Mailbox]:
    pointer = "/" + field.lower().replace("-", "_")
    return [Mailbox(readable(mailbox.name, pointer), mailbox.address) for mailbox in mailboxes]


def finished(body: Entity) -> bytes:
    """The body's octets in one piece, checked: CRLF only, no NUL, no line above 998 octets (RFC 5322 2.1.1, 2.3).

    Raises:
        DepescheError: a part was encoded wrongly, which is a fault of ours and not the caller's.
    """
    payload = b"".join(body.pieces)
    pairs = payload.count(b"\r\n")
    if payload.count(b"\r") != pairs or payload.count(b"\n") != pairs or b"\0" in payload:
        raise DepescheError("composed body has a bare CR, a bare LF or a NUL")
    if max(map(len, payload.split(b"\r\n"))) > MAX_LINE:
        raise DepescheError("composed body has a line above 998 octets")
    return payload


def priority_lines(priority: Priority | None) -> tuple[HeaderLine, ...]:
    """X-Priority and Importance (RFC 4021 2.1.54); nothing for the normal case."""
    if priority not in _IMPORTANCE:
        return ()
    number, word = _IMPORTANCE[priority]
    return token_line("X-Priority", number), token_line("Importance", word)


def reply_lines(message_id: str | None) -> tuple[HeaderLine, ...]:
    """In-Reply-To and References for a message id with or without its angle brackets (RFC 5322 3.6.4).

    Raises:
        InvalidRequestError: it is not one message id.
    """
    if not message_id:
        return ()
    bare = message_id.strip().removeprefix("<").removesuffix(">")
    if not _MESSAGE_ID.match(bare):
        raise InvalidRequestError("in-reply-to", public="This is not a message id")
    return token_line("In-Reply-To", f"<{bare}>"), token_line("References", f"<{bare}>")


def unsubscribe_lines(target: str | None) -> tuple[HeaderLine, ...]:
    """List-Unsubscribe for an address or an https address, several separated by commas (RFC 2369 3.2); nothing for "".

    One-click (RFC 8058) is not claimed for an address of which we do not know that it takes the POST.

    Raises:
        InvalidRequestError: neither an address nor an https address; plain http is refused (mission B4).
    """
    targets = [_unsubscribe_target(part.strip()) for part in (target or "").split(",") if part.strip()]
    return (token_line("List-Unsubscribe", *_with_commas(targets)),) if targets else ()


def _unsubscribe_target(text: str) -> str:
    inner = text.removeprefix("<").removesuffix(">")
    url = inner if "://" in inner or inner.lower().startswith("mailto:") else f"mailto:{Address.parse(inner)}"
    try:
        parts = urlsplit(url)
        valid = bool(_URL.match(url)) and (
            (parts.scheme == "https" and bool(parts.hostname)) or (parts.scheme == "mailto" and "@" in parts.path)
        )
    except ValueError:
        valid = False
    if not valid:
        raise InvalidRequestError("list-unsubscribe", public="This is neither an address nor an https address")
    return f"<{url}>"


def _with_commas(tokens: Sequence[str]) -> list[str]:
    return [f"{token}," for token in tokens[:-1]] + [tokens[-1]]


def custom_lines(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[HeaderLine, ...]:
    """The caller's own X- fields.

    Raises:
        InvalidRequestError: the name is not an X- name or is reserved, is given twice, or the value holds a control
            character, openly or in an encoded word; ``pointer`` is the name.
    """
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    lines = tuple(_custom_line(name, value) for name, value in pairs)
    if len({line.name.lower() for line in lines}) != len(lines):
        raise InvalidRequestError("header twice", public="A header is given twice", pointer=pairs[-1][0])
    return lines


def _custom_line(name: str, value: str) -> HeaderLine:
    if not _CUSTOM_NAME.match(name) or name.lower().startswith(_RESERVED):
        raise InvalidRequestError(
            "header name", public="Own headers begin with X- and hold letters, digits and - _ . only", pointer=name
        )
    return text_line(name, readable(value, name))
