"""The header of a submitted message: its fields, read in one pass without parsing the message.

Strict where two readers could see two things (a name with blanks before the colon, a line that is no field, two From
fields), because whoever registered the sender must be who the recipient sees.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header

from depesche.schemas.errors import ForbiddenSenderError, InvalidRequestError
from depesche.schemas.values import Address, has_control

MAX_FIELDS = 1000
AT_MOST_ONCE = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "bcc", "date", "subject", "message-id", "in-reply-to", "references"}
)
"""RFC 5322 3.6."""
_NAME = re.compile(rb"([!-9;-~]{1,76}):")
_FOLD = re.compile(r"\r\n(?=[ \t])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
_MESSAGE_ID = re.compile(r"<?([^<>\s\x00-\x1f\x7f]{1,500})>?\Z")
# One mailbox: nothing that could hide a second address stands outside of quotes. The classes do not overlap, so the
# pattern cannot be made to search long.
_ADDRESS = r'(?:"(?:[^"\\\r\n]|\\[^\r\n])*"|[^\s"(),:;<>@\[\\\]]+)@[^\s"(),:;<>@\[\\\]]+'
_PHRASE = r'(?:[^"(),:;<>@\[\\\]]|"(?:[^"\\\r\n]|\\[^\r\n])*")*'
_COMMENT = r"(?:\([^()\\]*\)\s*)?"
_FROM = re.compile(rf"\s*(?:{_PHRASE}<(?P<angle>{_ADDRESS})>|(?P<bare>{_ADDRESS}))\s*{_COMMENT}\Z")


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in lower case, and all its bytes with the CRLF at the end."""

    name: str
    raw: bytes

    @property
    def value(self) -> str:
        """The body of the field, unfolded, without blanks around it."""
        text = self.raw.partition(b":")[2].decode("utf-8", "replace")
        return _FOLD.sub("", text).strip()


def parse(header: bytes, *, utf8: bool) -> list[Field]:
    """The fields of ``header`` in order.

    Args:
        header: with CRLF line ends and the empty line at its end.
        utf8: whether UTF-8 may stand in it (the client said SMTPUTF8, RFC 6531 3.4).

    Raises:
        InvalidRequestError: a line is no field, too many fields, a field twice that may be there once, or octets above 127
            that are not announced or not UTF-8.
    """
    if not header.isascii():
        _check_utf8(header, utf8)
    fields: list[Field] = []
    names: set[str] = set()
    for line in header[:-4].split(b"\r\n") if len(header) > 4 else ():
        if line[:1] in (b" ", b"\t") and fields and line.strip():
            last = fields[-1]
            fields[-1] = Field(last.name, last.raw + line + b"\r\n")
            continue
        match = _NAME.match(line)
        if match is None:
            raise InvalidRequestError("malformed header", public="A line of the header is not a header field")
        name = match[1].decode().lower()
        if name in names and name in AT_MOST_ONCE:
            raise _twice(name)
        names.add(name)
        fields.append(Field(name, line + b"\r\n"))
    if len(fields) > MAX_FIELDS:
        raise InvalidRequestError("fields", public=f"The header has more than {MAX_FIELDS} fields")
    return fields


def _twice(name: str) -> InvalidRequestError | ForbiddenSenderError:
    if name == "from":
        # Which of the two a reader shows is anybody's guess; the sender must be the registered one.
        return ForbiddenSenderError("two From fields", public="The message must have exactly one From header")
    return InvalidRequestError("field twice", public=f"The header field {name} may appear only once")


def _check_utf8(header: bytes, utf8: bool) -> None:
    try:
        header.decode("utf-8", "strict" if utf8 else "replace")
    except UnicodeDecodeError as fault:
        raise InvalidRequestError("header encoding", public="The header is not UTF-8") from fault
    if not utf8:
        raise InvalidRequestError(
            "8-bit header", public="The header holds 8-bit characters; use encoded words or SMTPUTF8"
        )


def from_address(fields: Sequence[Field]) -> Address:
    """The one address in the one From field.

    Raises:
        ForbiddenSenderError: there is no From, or not exactly one address in it.
    """
    found = [field for field in fields if field.name == "from"]
    if len(found) != 1:
        raise ForbiddenSenderError("no From", public="The message must have exactly one From header")
    match = _FROM.match(found[0].value)
    try:
        return Address.parse((match["angle"] or match["bare"]) if match else "")
    except InvalidRequestError as fault:
        raise ForbiddenSenderError(
            "From", public="The From header must hold exactly one valid address of your domain"
        ) from fault


def first(fields: Sequence[Field], name: str) -> Field | None:
    """The first field with this name (in lower case), if there is one."""
    for field in fields:
        if field.name == name:
            return field
    return None


def message_id(fields: Sequence[Field]) -> str | None:
    """The Message-ID without its angle brackets; nothing when there is none or nothing usable in it."""
    field = first(fields, "message-id")
    match = _MESSAGE_ID.match(field.value) if field else None
    return match[1] if match else None


def readable(value: str) -> str:
    """``value`` with encoded words decoded (RFC 2047) and without control characters, for search and for people."""
    if "=?" in value:
        # What turns out to be no encoded word after all is kept as it is written.
        with contextlib.suppress(HeaderParseError, LookupError, ValueError):
            value = str(make_header(decode_header(value)))
    if has_control(value):
        value = _CONTROLS.sub(" ", value).encode("utf-8", "replace").decode()
    return value
