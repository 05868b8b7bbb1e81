"""From a message to bytes on the wire, in one place: only whole CRLFs, dots stuffed, commands without line ends.

This is where we would be the "service A" of SMTP smuggling (threat 2): whatever leaves here reads the same to a strict and to a
lenient receiver, or it does not leave.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from depesche.schemas.errors import DepescheError

END = b".\r\n"
_ADDRESS = re.compile(r'(?:"(?:[^"\\]|\\.){0,500}"@)?[^<> "]{0,500}')
"""Angle brackets and blanks are only legal inside a quoted local part."""
_LF, _CR, _DOT = b"\n\r."


class UnsendableError(DepescheError):
    """A message or address of ours is not fit for the wire; it should never have come so far."""

    code = "unsendable"
    retryable = False


@dataclass(frozen=True, slots=True)
class Envelope:
    """The envelope of one transaction.

    Attributes:
        mail_from: return path, empty for none.
        recipient: envelope recipient, its domain an A-label.
        size: bytes of the content, for SIZE (RFC 1870).
        eight_bit: whether the content has bytes above 127 (RFC 6152).
        smtputf8: whether header or addresses need SMTPUTF8 (RFC 6531).
    """

    mail_from: str
    recipient: str
    size: int
    eight_bit: bool = False
    smtputf8: bool = False


def content(parts: Sequence[bytes], *, leading_dots: bool) -> bytes:
    """The parts joined and dot-stuffed (RFC 5321 4.5.2), ready to be followed by ``END``.

    Args:
        parts: message bytes; joined they end with CRLF.
        leading_dots: whether some line starts with a dot. A wrong no is noticed: it would end the mail in its middle.

    Raises:
        UnsendableError: a CR or LF stands alone, or the last line has no end.
    """
    whole = parts[0] if len(parts) == 1 else b"".join(parts)
    if not whole.endswith(b"\r\n"):
        raise UnsendableError("the content does not end with CRLF")
    # Vectors, because 200 KB cost 30 us this way, 300 us with bytes.count and 3 ms with a pattern.
    octets = np.frombuffer(whole, np.uint8)
    feeds = octets == _LF
    if feeds[0] or not np.array_equal(octets[:-1] == _CR, feeds[1:]):
        raise UnsendableError("the content has a lone CR or LF")
    if not leading_dots and octets[0] != _DOT and not (feeds[:-1] & (octets[1:] == _DOT)).any():
        return whole
    stuffed = whole.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if whole.startswith(b".") else stuffed


def mail_command(envelope: Envelope, extensions: frozenset[str]) -> bytes:
    """MAIL FROM with the parameters that the host offers and the message needs.

    Raises:
        UnsendableError: the address would leave its angle brackets.
    """
    parameters = ""
    if "SIZE" in extensions:
        parameters += f" SIZE={envelope.size}"
    if envelope.eight_bit and "8BITMIME" in extensions:
        parameters += " BODY=8BITMIME"
    if envelope.smtputf8 and "SMTPUTF8" in extensions:
        parameters += " SMTPUTF8"
    return f"MAIL FROM:<{_path(envelope.mail_from)}>{parameters}\r\n".encode()


def rcpt_command(envelope: Envelope) -> bytes:
    """RCPT TO.

    Raises:
        UnsendableError: the address would leave its angle brackets, or is empty.
    """
    if not envelope.recipient:
        raise UnsendableError("there is no recipient")
    return f"RCPT TO:<{_path(envelope.recipient)}>\r\n".encode()


def _path(address: str) -> str:
    if not address.isprintable() or not _ADDRESS.fullmatch(address):
        raise UnsendableError("the address is not fit for the wire")
    return address
