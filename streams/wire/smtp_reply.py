"""What a mail host says: reads replies from bytes, whatever bytes they are (RFC 5321 4.2, RFC 2034).

Replies come from strangers. They may have many lines, 64 KB, other people's alphabets, terminal controls, or be no replies
at all; none of that may raise, grow without bound, or reach a screen unescaped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TEXT = 2_000
"""Characters of a reply that are kept."""
_MAX_REPLY = 256 * 1024
"""Bytes of one reply that are read; what goes on longer is no reply."""
_KEPT = 4 * MAX_TEXT
_ENHANCED = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?=[ \t]|$)")
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)


def printable(raw: bytes, limit: int = MAX_TEXT) -> str:
    """``raw`` as text that is safe to store and show: at most ``limit`` characters, nothing unprintable but ``\\n``."""
    text = raw[: 4 * limit].decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(
            char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
        )
    return text[:limit]


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply.

    Attributes:
        code: 200 to 599; 0 for no reply, and then ``raw`` says why in our own words.
        raw: what stood after the code, lines joined by LF, cut to a few thousand bytes.
    """

    code: int
    raw: bytes

    @property
    def first_digit(self) -> int:
        """2, 3, 4 or 5, by which alone a sender decides (RFC 5321 4.2.1); 0 for no reply."""
        return self.code // 100

    @property
    def enhanced(self) -> str:
        """The enhanced status code of the first line (RFC 2034), empty when there is none."""
        match = _ENHANCED.match(self.raw)
        return match[1].decode() if match else ""

    @property
    def text(self) -> str:
        """The words, safe to show."""
        return printable(self.raw)


class ReplyParser:
    """Takes bytes as they arrive and gives complete replies. A bare LF ends a line as well as CRLF does."""

    def __init__(self) -> None:
        self.broken = ""
        """Why nothing more can be read; empty while all is well."""
        self._rest = b""
        self._size = 0
        self._lines: list[bytes] = []
        self._kept = 0
        self._digit = b""

    def reset(self) -> None:
        """Forget what was not yet given out: plain text that came with the reply to STARTTLS (CVE-2011-0411)."""
        self._rest = b""
        self._forget()

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that ``data`` completes, in order; none any more once ``broken``."""
        replies: list[Reply] = []
        if self.broken:
            return replies
        *lines, self._rest = (self._rest + data if self._rest else data).split(b"\n")
        for line in lines:
            reply = self._take(line)
            if reply is not None:
                replies.append(reply)
            elif self.broken:
                return replies
        if self._size + len(self._rest) > _MAX_REPLY:
            self._break("the reply does not end")
        return replies

    def _take(self, line: bytes) -> Reply | None:
        self._size += len(line)
        match = _LINE.fullmatch(line[:-1] if line.endswith(b"\r") else line)
        if match is None or self._size > _MAX_REPLY:
            self._break("no SMTP reply: " + printable(line, 200) if match is None else "the reply does not end")
            return None
        code, sign, words = match[1], match[2], match[3] or b""
        if self._digit and code[:1] != self._digit:
            self._break("the lines of the reply have different codes")
            return None
        self._digit = code[:1]
        if self._kept < _KEPT:
            self._lines.append(words[: _KEPT - self._kept])
            self._kept += len(words) + 1
        if sign == b"-":
            return None
        reply = Reply(int(code), b"\n".join(self._lines))
        self._forget()
        return reply

    def _forget(self) -> None:
        self._size = self._kept = 0
        self._lines = []
        self._digit = b""

    def _break(self, reason: str) -> None:
        self.broken = reason
        self._rest = b""
        self._forget()
