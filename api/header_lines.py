"""Header lines that mean exactly what was asked for, and the independent check that they do.

The ``email`` package's header registry decodes encoded words in a value and folds the result again; on many interpreters
that lets ``=?utf-8?q?a=0D=0ABcc:_x?=`` become a ``Bcc`` line (CVE-2024-6923, CVE-2026-1299). So a line is built here from
parts that cannot hold a line end: text becomes ASCII words or encoded words (RFC 2047), nothing is ever decoded after it was
checked, and ``check_header`` reads the finished bytes again without knowing how they were made.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.quoprimime import header_encode as quoted_printable_word
from email.quoprimime import header_length

from depesche.schemas.errors import InvalidRequestError, TooLargeError
from depesche.schemas.values import Mailbox, has_control

MAX_LINE = 998
"""Octets of a line without its CRLF (RFC 5322 2.1.1)."""
MAX_HEADER = 100 * 1024
"""Octets of a whole header; Postfix discards what is beyond its ``header_size_limit`` of 100 KB."""
_SOFT_LINE = 78
_MAX_WORD = 900
_WORD_TEXT = 63
"""Octets between ``=?utf-8?q?`` and ``?=`` in an encoded word of at most 75 (RFC 2047 2)."""
_PLAIN = re.compile(r"[\x20-\x7e]*\Z")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_FIELD = re.compile(rb"([!-9;-~]+):(.*)\Z", re.DOTALL)
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n")


@dataclass(frozen=True, slots=True)
class HeaderLine:
    """One field: its name and its finished bytes, folded, with CRLF at the end."""

    name: str
    octets: bytes


def readable(text: str, pointer: str) -> str:
    """``text`` with encoded words decoded, so that what the reader would see is what is judged.

    Raises:
        InvalidRequestError: a control character, U+2028, U+2029 or a lone surrogate is in it, openly or encoded.
    """
    _refuse_control(text, pointer)
    if "=?" not in text:
        return text
    try:
        seen = str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        # Not an encoded word after all; it will be shown as it is written.
        return text
    _refuse_control(seen, pointer)
    return seen


def _refuse_control(text: str, pointer: str) -> None:
    if has_control(text):
        raise InvalidRequestError(
            "control character in a header value", public="A header value holds a control character", pointer=pointer
        )


def encoded_words(text: str, first: int = _WORD_TEXT, *, force_base64: bool = False) -> list[str]:
    """``text`` as encoded words of at most 75 characters, each decodable on its own (RFC 2047 2, 5, 6.2).

    Args:
        text: without control characters.
        first: octets that fit into the first word's text, which stands behind the field's name.
        force_base64: B encoding, also where Q would be shorter.
    """
    base64_is_shorter = header_length(text.encode()) > 4 * len(text.encode()) / 3
    use_base64 = force_base64 or base64_is_shorter
    words: list[str] = []
    chunk, length, room = "", 0, first
    for character in text:
        octets = character.encode()
        cost = len(octets) if use_base64 else header_length(octets)
        if chunk and length + cost > (room // 4 * 3 if use_base64 else room):
            words.append(_encoded_word(chunk, use_base64))
            chunk, length, room = "", 0, _WORD_TEXT
        chunk, length = chunk + character, length + cost
    return [*words, _encoded_word(chunk, use_base64)] if chunk else words


def _encoded_word(chunk: str, use_base64: bool) -> str:
    if use_base64:
        return f"=?utf-8?b?{base64.b64encode(chunk.encode()).decode()}?="
    return quoted_printable_word(chunk.encode(), "utf-8")


def _folded(name: str, tokens: Iterable[str]) -> HeaderLine:
    """The field with a line break before each token that would pass 78 characters; a token holds its leading blank."""
    lines = [f"{name}:"]
    for token in tokens:
        if len(lines[-1]) + len(token) > _SOFT_LINE and lines[-1] != f"{name}:":
            lines.append(token)
        else:
            lines[-1] += token
    return HeaderLine(name, "\r\n".join(lines).encode() + b"\r\n")


def text_line(name: str, text: str, *, force_base64: bool = False) -> HeaderLine:
    """An unstructured field (RFC 5322 2.2.1) that shows exactly ``text``, which holds no control character."""
    text = text.strip(" ")
    words = re.findall(r" *[^ ]+", text)
    plain = _PLAIN.match(text) and "=?" not in text and all(len(word) <= _MAX_WORD for word in words)
    if plain and not force_base64:
        return _folded(name, [f" {words[0]}", *words[1:]] if words else [])
    room = max(16, _WORD_TEXT - len(name) - 1)
    return _folded(name, (f" {word}" for word in encoded_words(text, room, force_base64=force_base64)))


def address_line(name: str, mailboxes: Sequence[Mailbox]) -> HeaderLine:
    """An address list (RFC 5322 3.4); names are without control characters, addresses are parsed."""
    tokens: list[str] = []
    for number, mailbox in enumerate(mailboxes, 1):
        comma = "," if number < len(mailboxes) else ""
        tokens += [f" {word}" for word in _display_name(mailbox.name)]
        tokens.append(f" <{mailbox.address}>{comma}" if mailbox.name else f" {mailbox.address}{comma}")
    return _folded(name, tokens)


def _display_name(name: str) -> list[str]:
    if not name:
        return []
    if not _PLAIN.match(name) or "=?" in name:
        return encoded_words(name, _WORD_TEXT - 12)
    if _PHRASE.match(name):
        return name.split(" ")
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return [f'"{escaped}"']


def token_line(name: str, *tokens: str) -> HeaderLine:
    """A structured field of ready tokens, folded between them; each was validated by whoever made it."""
    return _folded(name, (f" {token}" for token in tokens))


def check_header(block: bytes, intended: Sequence[str], *, utf8: bool = False) -> None:
    """Read ``block`` as a stranger would and compare the field names seen with the intended ones, in order.

    Args:
        block: header with the empty line after it.
        intended: names, each once, in order.
        utf8: whether octets above 127 may stand in it (RFC 6532).

    Raises:
        InvalidRequestError: another name is seen, a name is there twice, a line is longer than 998 octets, or an octet
            has no place in a header.
        TooLargeError: the header is larger than 100 KB.
    """
    if len(block) > MAX_HEADER:
        raise TooLargeError("header", public="The header is larger than 100 KB")
    fields = _fields(block, utf8)
    seen = [name.lower() for name, _ in fields]
    if seen != [name.lower() for name in intended] or len(set(seen)) != len(seen):
        raise _injected("the names seen are not the names intended")
    for _, value in fields:
        if "=?" in value:
            # An encoded word that decodes to a line end may be written out by somebody further down the road.
            readable(value, "/headers")


def _fields(block: bytes, utf8: bool) -> list[tuple[str, str]]:
    if not block.endswith(b"\r\n\r\n") or _FORBIDDEN.search(block) or not (utf8 or block.isascii()):
        raise _injected("an octet without a place in a header")
    fields: list[tuple[str, str]] = []
    for line in block[:-4].split(b"\r\n"):
        match = _FIELD.match(line)
        if len(line) > MAX_LINE or not line.strip(b" \t"):
            raise _injected("a line is empty or too long")
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] = (fields[-1][0], fields[-1][1] + line.decode())
        elif match:
            fields.append((match[1].decode("ascii"), match[2].decode()))
        else:
            raise _injected("a line is no field")
    return fields


def _injected(cause: str) -> InvalidRequestError:
    return InvalidRequestError(cause, public="A value cannot be put into a message header", pointer="/headers")
