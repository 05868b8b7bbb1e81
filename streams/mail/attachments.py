"""Large attachments taken out of a message and decoded, so that a scanner need not read their Base64 text.

clamd reads a mail of 200 KB twice, once as the text it is and once decoded, and takes twice the time for it. An attachment is
taken out only where every reader of mail must see the same in it, so that nothing is hidden from a scanner by being taken out:
it is a part of the mail's own multipart, between two lines that are the declared boundary and nothing more, under well-formed
headers; its text is letters of Base64 and nothing else, in whole groups, with padding at its end only. Were a line taken for a
boundary that is none to others, the letters before it would shift all that follows for them. All else stays in the message for
the scanner's own reading of mail.
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
_LONGEST_TOP: Final = 1 << 16

_ENCODED: Final = re.compile(rb"^content-transfer-encoding:[ \t]*base64[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_ATTACHED: Final = re.compile(
    rb"^content-type:[ \t]*(?:application|image|audio|video|font|model)/", re.IGNORECASE | re.MULTILINE
)
_WELL_FORMED: Final = re.compile(rb"(?:[!-9;-~]+:[^\r\n\0]*(?:\r\n[ \t][^\r\n\0]*)*\r\n)+\Z")
_BOUNDARY: Final = re.compile(
    rb"^content-type:[ \t]*multipart/[a-z-]+;(?:\r\n)?[ \t]*boundary="
    rb"(?:\"([A-Za-z0-9'()+_,./:=?-]{1,70})\"|([A-Za-z0-9'+_.-]{1,70}))[ \t]*\r\n(?![ \t])",
    re.IGNORECASE | re.MULTILINE,
)
_NAMES: Final = (b"content-transfer-encoding", b"content-type")


def attachments_apart(message: bytes) -> tuple[bytes, ...]:
    """The message without its large attachments, and behind it each of them decoded; the message alone if there is none.

    Args:
        message: header and body with CRLF line ends.
    """
    mark = _own_boundary(message)
    kept: list[bytes] = []
    taken: list[bytes] = []
    done = 0
    at = message.find(mark + b"\r\n") if mark else -1
    for _ in range(MAX_LOOKED_AT):
        if at < 0 or len(taken) == MAX_TAKEN or len(message) - at < LARGE:
            break
        begin = at + len(mark) + 2
        start = message.find(b"\r\n\r\n", at, at + _LONGEST_HEADER) + 4
        end = _end(message, start, mark) if start >= 4 and _is_attachment(message[begin : start - 2]) else -1
        content = _decoded(message[start:end]) if end - start >= LARGE else None
        if content is not None:
            kept += [message[done:start], STAND_IN]
            taken.append(content)
            done = end + 2
        # A line behind the closing one is no boundary any more.
        following = find_by(message, mark, 2, max(begin - 2, end))
        at = following if message.startswith(b"\r\n", following + len(mark)) else -1
    return (b"".join((*kept, message[done:])), *taken)


def _own_boundary(message: bytes) -> bytes:
    """How a line begins that parts the message, with the line end before it; empty if not every reader sees the same one."""
    header = message[: message.find(b"\r\n\r\n", 0, _LONGEST_TOP) + 2]
    names = header.lower()
    if (
        not _WELL_FORMED.match(header)
        or _NAMES[0] in names
        or names.count(_NAMES[1]) != 1
        or names.count(b"boundary") != 1
    ):
        return b""
    told = _BOUNDARY.search(header)
    return b"\r\n--" + (told[1] or told[2]) if told else b""


def _is_attachment(header: bytes) -> bool:
    """Whether a part's header says in one way only that it is an attachment in Base64 (RFC 2045 5 and 6)."""
    if not (_WELL_FORMED.match(header) and _ENCODED.search(header) and _ATTACHED.search(header)):
        return False
    names = header.lower()
    return all(names.count(name) == 1 for name in _NAMES)


def _end(message: bytes, start: int, mark: bytes) -> int:
    """Where the next boundary's line begins, if nothing in between has a letter of it that Base64 does not know; else -1."""
    end = message.find(b"-", start) - 2
    behind = end + len(mark)
    return end if message.startswith(mark, end) and message[behind : behind + 2] in (b"\r\n", b"--") else -1


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
