"""Large attachments taken out of a message and decoded, so that a scanner need not read their Base64 text.

clamd reads a mail of 200 KB twice, once as the text it is and once decoded, and takes twice the time for it. An attachment is
taken out only where every reader of mail must see the same in it, so that nothing is hidden from a scanner by being taken out:
its text is letters of Base64 and nothing else, in whole groups, with padding at its end only. Whoever does not decode it sees
letters; whoever does sees what is given here. All else stays in the message for the scanner's own reading of mail.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

import pybase64

from depesche.schemas.landmark import find_by
from depesche.streams.mail.parts import padded_at_end_only

LARGE: Final = 32 << 10
"""Bytes of Base64 text from which on taking an attachment out costs a scanner less than it saves."""
MAX_TAKEN: Final = 8
"""Attachments that are taken out of one message: each is a request to the scanner."""
MAX_LOOKED_AT: Final = 500
"""Lines of one message that are looked at as a boundary, so that a mail made of such lines costs no more than another."""
STAND_IN: Final = b"VGhpcyBhdHRhY2htZW50IGlzIHNjYW5uZWQgYnkgaXRzZWxmLg==\r\n"
"""What stands in the message instead: a short text, because an empty or cut-off file could count as a broken one."""
_LONGEST_HEADER: Final = 4096

_ENCODED: Final = re.compile(rb"^content-transfer-encoding:[ \t]*base64[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_ATTACHED: Final = re.compile(
    rb"^content-type:[ \t]*(?:application|image|audio|video|font|model)/", re.IGNORECASE | re.MULTILINE
)
_NAMES: Final = (b"content-transfer-encoding", b"content-type")


def attachments_apart(message: bytes) -> tuple[bytes, ...]:
    """The message without its large attachments, and behind it each of them decoded; the message alone if there is none.

    Args:
        message: header and body with CRLF line ends.
    """
    kept: list[bytes] = []
    taken: list[bytes] = []
    done = 0
    at = find_by(message, b"\r\n--", 2)
    for _ in range(MAX_LOOKED_AT):
        if at < 0 or len(taken) == MAX_TAKEN or len(message) - at < LARGE:
            break
        start = message.find(b"\r\n\r\n", at, at + _LONGEST_HEADER) + 4
        end = _end(message, start) if start >= 4 and _is_attachment(message[at:start]) else -1
        content = _decoded(message[start:end]) if end - start >= LARGE else None
        if content is not None:
            kept += [message[done:start], STAND_IN]
            taken.append(content)
            done = end
        at = find_by(message, b"\r\n--", 2, max(at + 1, end - 2))
    return (b"".join((*kept, message[done:])), *taken)


def _is_attachment(header: bytes) -> bool:
    """Whether a part's header says in one way only that it is an attachment in Base64 (RFC 2045 5 and 6)."""
    if not (_ENCODED.search(header) and _ATTACHED.search(header)):
        return False
    names = header.lower()
    return all(names.count(name) == 1 for name in _NAMES)


def _end(message: bytes, start: int) -> int:
    """Where the next boundary's line begins, if nothing in between has a letter of it that Base64 does not know; else -1."""
    hyphen = message.find(b"-", start)
    return hyphen if hyphen >= 0 and message[hyphen - 2 : hyphen + 2] == b"\r\n--" else -1


def _decoded(text: bytes) -> bytes | None:
    """What the text means, if it means the same to everybody."""
    body = text.rstrip(b"\r\n")
    letters = len(body) - body.count(b"\r") - body.count(b"\n")
    if letters % 4 or not padded_at_end_only(body):
        return None
    try:
        content = pybase64.b64decode(body)
    except binascii.Error:
        return None
    # The decoder passes over whatever is no letter; then something is missing here.
    return content if len(content) == letters // 4 * 3 - body[-2:].count(b"=") else None
