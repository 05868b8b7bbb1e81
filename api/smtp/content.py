"""A received content made into the two parts of a message: checked, without dot-stuffing, in bulk operations only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from depesche.schemas.errors import InvalidRequestError

END_OF_HEADER = b"\r\n\r\n"
MAX_LINE = 1000
"""Longest line with its CRLF (RFC 5321 4.5.3.1.6, RFC 5322 2.1.1)."""
MAX_HEADER = 1 << 16


@dataclass(frozen=True, slots=True)
class Received:
    """A received message: ``header`` ends with the empty line, ``body`` is the rest; dots are un-stuffed in both."""

    header: bytes
    body: bytes


def received(chunks: Sequence[bytes | bytearray]) -> Received:
    """The message in the pieces of a content.

    Raises:
        InvalidRequestError: a bare CR, bare LF or NUL (which another server could read as the end of the message), a line
            over 998 characters, or a header larger than 64 KB.
    """
    header, body = _split(chunks)
    if len(header) > MAX_HEADER:
        raise InvalidRequestError("header size", public="The header is larger than 64 KB")
    return Received(_clean(header), _clean(body))


def _split(chunks: Sequence[bytes | bytearray]) -> tuple[bytes, bytes]:
    """Header with its empty line, and body. A large body is copied once."""
    first = chunks[0] if chunks else b""
    end = _end_of_header(first)
    if end is not None:
        body = bytes(first[end:]) if len(chunks) == 1 else b"".join((memoryview(first)[end:], *chunks[1:]))
        return bytes(first[:end]), body
    whole = b"".join(chunks)
    end = _end_of_header(whole)
    # A message may be all header (RFC 5322 3.5); the empty line is then added.
    return (whole[:end], whole[end:]) if end is not None else (whole + b"\r\n", b"")


def _end_of_header(data: bytes | bytearray) -> int | None:
    if data.startswith(b"\r\n"):
        return 2
    found = data.find(END_OF_HEADER, 0, MAX_HEADER)
    return None if found < 0 else found + len(END_OF_HEADER)


def _clean(part: bytes) -> bytes:
    """``part`` without dot-stuffing (RFC 5321 4.5.2), if all its lines are lawful."""
    lines = part.count(b"\n")
    if lines != part.count(b"\r") or lines != part.count(b"\r\n"):
        raise InvalidRequestError("bare CR or LF", public="A bare CR or LF is not allowed; lines end with CRLF")
    if b"\0" in part:
        raise InvalidRequestError("NUL", public="A NUL character is not allowed")
    if b"\r\n." in part:
        part = part.replace(b"\r\n.", b"\r\n")
    if part.startswith(b"."):
        part = part[1:]
    start, size = 0, len(part)
    while start < size:
        # One step covers as many whole lines as fit into the longest lawful one.
        end = part.rfind(b"\n", start, start + MAX_LINE)
        if end < 0:
            raise InvalidRequestError("long line", public="A line is longer than 998 characters")
        start = end + 1
    return part
