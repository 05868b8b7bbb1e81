"""A mail from a stranger, taken apart within limits (RFC 5322, RFC 2045 to 2047), whatever its bytes are.

Returned mail is often broken: boundaries that never come, headers without a colon, character sets that do not exist, line ends
of another system. Nothing here raises for what a stranger wrote; what cannot be understood is kept as text. Sizes, depth and
number of parts are bounded, and the time is linear in the bytes that are read.
"""

from __future__ import annotations

import binascii
import html
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from depesche.streams.mail.folding import narrow
from depesche.streams.mail.patterns import Match, pattern

MAX_BYTES: Final = 1 << 20
"""Bytes of a mail that are read; a bounce says what it has to say long before."""
MAX_TEXT: Final = 256 * 1024
"""Characters of the text of one part that are read."""
_MAX_DEPTH: Final = 8
_MAX_PARTS: Final = 64
_MAX_HEADERS: Final = 400
_MAX_VALUE: Final = 8_192

_NAME = pattern(r"[!-9;-~]{1,100}")
_PARAMETER = pattern(r';\s*([\w*.-]{1,40})\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]+)')
_ENCODED_WORD = pattern(r"=\?([\w.:+-]{1,40})(?:\*[\w-]*)?\?([bq])\?([^?\s]*)\?=(?:\s+(=\?))?")
_CHARSET = pattern(
    r"(?:x-)?(?:utf|us-ascii|ascii|iso|latin|windows|cp|koi|shift|sjis|euc|gb|big5|hz|mac|ks_c|ansi|tis|ms)[\w-]*"
)
_UNSEEN = pattern(r"(?s)<(?:style|script|head|title)\b.*?</(?:style|script|head|title)\s*>|<!--.*?-->")
_BREAK = pattern(r"</?(?:br|p|div|tr|table|li|ul|ol|h[1-6]|td|th|blockquote|pre|hr)\b[^>]*>")
_TAG = pattern(r"""<(?:/?[a-z][a-z0-9:-]*(?:[\s/](?:"[^"]*"|'[^']*'|[^>"'])*)?|![^>]*)>""")
"""A tag; an address in angle brackets is none, one in the value of an attribute is part of it."""
_HUGE_REFERENCE = pattern(r"&#x?[0-9a-f]{8,};?")
_NO_TEXT: Final = dict.fromkeys(
    [*range(0, 9), 0xB, 0xC, *range(0xE, 0x20), 0x7F, *range(0x200B, 0x2010), 0xFEFF], None
) | {0xA0: " "}
"""Characters that are not read: controls and those without width; a no-break space is a space."""
_CODEC = {
    "unicode-1-1-utf-7": "utf-7",
    "ks_c_5601-1987": "cp949",
    "ansi": "cp1252",
    "x-sjis": "cp932",
    "shift_jis": "cp932",
}


@dataclass(frozen=True)
class Part:
    """One part of a mail, or the mail itself.

    Attributes:
        headers: names in lower case and unfolded values, in order.
        body: what follows the headers, line ends as LF; still transfer-encoded.
        parts: the parts of a multipart; of ``message/rfc822`` one, the mail inside.
    """

    headers: tuple[tuple[str, str], ...]
    body: bytes
    parts: tuple[Part, ...] = ()

    def get(self, name: str) -> str:
        """The first value of a header, empty when there is none."""
        return next((value for header, value in self.headers if header == name), "")

    def get_all(self, name: str) -> tuple[str, ...]:
        """All values of a header."""
        return tuple(value for header, value in self.headers if header == name)

    @cached_property
    def type(self) -> str:
        """Media type in lower case, ``text/plain`` when none is given (RFC 2045 5.2)."""
        return media_type(self.get("content-type"))

    def parameter(self, name: str) -> str:
        """A parameter of the content type."""
        return parameter(self.get("content-type"), name)

    @property
    def is_plain(self) -> bool:
        """Whether this is text to be read as it is; so is a multipart whose delimiters never came."""
        return self.type == "text/plain" or (self.type.startswith("multipart/") and not self.parts)

    @cached_property
    def content(self) -> bytes:
        """The body without its transfer encoding, line ends as LF where it is text."""
        encoding = self.get("content-transfer-encoding").lower()
        if "base64" in encoding:
            return _base64(self.body)
        if "quoted-printable" in encoding:
            return binascii.a2b_qp(self.body)
        return self.body

    @cached_property
    def text(self) -> str:
        """The content as text for reading: decoded, HTML stripped, at most `MAX_TEXT` characters."""
        text = decode(self.content, self.parameter("charset"))
        if self.type == "text/html":
            text = html_text(text)
        return narrow(text[:MAX_TEXT].translate(_NO_TEXT))

    def walk(self) -> Iterator[Part]:
        """This part and all below it, in order; mails inside the mail are not entered."""
        yield self
        if not self.type.startswith("message/"):
            for part in self.parts:
                yield from part.walk()


def read_letter(mail: bytes) -> Part:
    """Take a mail apart. Line ends may be CRLF, LF or CR; the same mail gives the same result in each form."""
    raw = one_line_end(mail[:MAX_BYTES])
    # An mbox file puts a line before each mail, and some systems put empty ones.
    raw = raw.lstrip(b"\n")
    if raw.startswith((b"From ", b">From ")):
        raw = raw.partition(b"\n")[2]
    return _read(raw, 0, [_MAX_PARTS])


def split_mails(content: bytes) -> tuple[bytes, ...]:
    """The mails of an mbox file (RFC 4155): it begins with a ``From `` line, and so does each mail in it; else the one mail."""
    raw = one_line_end(content)
    if not raw.startswith(b"From "):
        return (content,)
    lines = raw.split(b"\n")
    starts = [
        index
        for index, line in enumerate(lines)
        if line.startswith(b"From ") and (not index or not lines[index - 1].strip()) and _is_header(lines, index + 1)
    ]
    return tuple(b"\n".join(lines[a:b]) for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)) or (content,)


def one_line_end(raw: bytes) -> bytes:
    """CRLF, CR CR LF and CR as LF."""
    if b"\r" not in raw:
        return raw
    while b"\r\r\n" in raw:
        raw = raw.replace(b"\r\r\n", b"\r\n")
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def read_headers(raw: bytes) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Headers in front and the body behind them; no headers when the first line is none."""
    headers: list[tuple[str, str]] = []
    position, size = 0, len(raw)
    while position < size and len(headers) < _MAX_HEADERS:
        end = raw.find(b"\n", position)
        end = size if end < 0 else end
        line = raw[position:end]
        if not line.strip():
            return tuple(headers), raw[end + 1 :]
        name, colon, value = line.partition(b":")
        if line[:1] in b" \t" and headers:
            before, so_far = headers[-1]
            if len(so_far) < _MAX_VALUE:
                headers[-1] = (before, f"{so_far} {_header_text(line.strip())}".strip())
        elif colon and _NAME.fullmatch(name.decode("latin-1").rstrip()):
            headers.append((name.decode("latin-1").rstrip().lower(), _header_text(value.strip()[:_MAX_VALUE])))
        elif not headers:
            return (), raw
        position = end + 1
    return tuple(headers), raw[position:]


def media_type(value: str) -> str:
    """The media type of a Content-Type value."""
    name = value.partition(";")[0].strip().lower()
    return name if "/" in name else "text/plain"


def parameter(value: str, name: str) -> str:
    """A parameter of a header value such as Content-Type (RFC 2045 5.1), without quotes."""
    for match in _PARAMETER.finditer(value):
        if match[1].lower() == name:
            text = match[2]
            return text[1:-1].replace("\\", "") if text.startswith('"') else text
    return ""


def decode(content: bytes, charset: str) -> str:
    """Bytes as text: by their character set if it is one, else by what they look like; never raises."""
    name = charset.strip().strip("'\"").lower()
    if b"\x1b$" in content or b"\x1b(" in content:
        name = "iso-2022-jp"
    name = _CODEC.get(name, name)
    content = content[: 4 * MAX_TEXT]
    # Only real character sets: Python's codecs also unpack archives and decode punycode in quadratic time.
    for codec in (name if _CHARSET.fullmatch(name) else "ascii", "utf-8"):
        try:
            return _lines(content.decode(codec))
        except (LookupError, UnicodeError):
            continue
    return _lines(content.decode("iso-2022-jp" if name == "iso-2022-jp" else "cp1252", "replace"))


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode_words(value: str) -> str:
    """A header value with its encoded words decoded (RFC 2047); blanks between two of them vanish."""

    def decoded(match: Match) -> str:
        text = match[3].encode("utf-8")
        raw = _base64(text) if match[2].lower() == "b" else binascii.a2b_qp(text.replace(b"_", b" "))
        return decode(raw, match[1]).replace("\n", " ") + (match.group(4) or "")

    for _ in range(4):
        before, value = value, _ENCODED_WORD.sub(decoded, value[:_MAX_VALUE])
        if value == before:
            break
    return value


def html_text(markup: str) -> str:
    """What a reader of HTML sees, roughly: block elements become lines, everything else in angle brackets vanishes."""
    text = _BREAK.sub("\n", _UNSEEN.sub(" ", markup.replace("\n", " ")))
    text = _TAG.sub("", text)
    return html.unescape(_HUGE_REFERENCE.sub(" ", text)).replace("\u00a0", " ")


def _read(raw: bytes, depth: int, budget: list[int]) -> Part:
    headers, body = read_headers(raw)
    part = Part(headers, body)
    if depth >= _MAX_DEPTH:
        return part
    if part.type.startswith("multipart/"):
        pieces = _split(body, part.parameter("boundary"), budget)
        return Part(headers, body, tuple(_read(piece, depth + 1, budget) for piece in pieces))
    if depth == 0 and part.type == "text/plain" and (mark := _bare_report(body)):
        # A forwarding program dropped the header that says it is a multipart.
        pieces = _split(body, mark, budget)
        return Part(
            (("content-type", "multipart/mixed"), *headers), body, tuple(_read(one, 1, budget) for one in pieces)
        )
    if part.type in ("message/rfc822", "message/global"):
        return Part(headers, body, (_read(one_line_end(part.content).lstrip(b"\n"), depth + 1, budget),))
    return part


def _split(body: bytes, boundary: str, budget: list[int]) -> list[bytes]:
    """The pieces between delimiter lines; a boundary that was not declared is guessed from the first line that looks like one."""
    lines = body.split(b"\n")
    declared = b"--" + boundary.encode("utf-8", "replace").strip() if boundary.strip() else b""
    # The guess stays bytes: a delimiter that is no UTF-8 would not come back the same from a decoding.
    return (_between(lines, declared, budget) if declared else []) or _between(lines, _guess(lines), budget)


def _between(lines: list[bytes], mark: bytes, budget: list[int]) -> list[bytes]:
    pieces: list[bytes] = []
    current: list[bytes] | None = None
    for line in lines if mark else ():
        # Some gateways indent the delimiter or put blanks behind it.
        bare = line.strip()
        if bare not in (mark, mark + b"--"):
            if current is not None:
                current.append(line)
            continue
        if current is not None:
            pieces.append(b"\n".join(current))
        if bare != mark or budget[0] <= 0:
            return pieces
        current = []
        budget[0] -= 1
    if current is not None:
        pieces.append(b"\n".join(current))
    return pieces


def _bare_report(body: bytes) -> str:
    """The boundary of a report whose parts stand in a mail that does not say it has any; empty when there is none."""
    lines = body.split(b"\n")
    for index, line in enumerate(lines[:-1]):
        following = lines[index + 1].lower()
        if line.startswith(b"--") and following.startswith(_REPORT_PARTS):
            return line.strip()[2:].decode("utf-8", "replace")
    return ""


def _is_header(lines: list[bytes], index: int) -> bool:
    name, colon, _ = lines[index].partition(b":") if index < len(lines) else (b"", b"", b"")
    return bool(colon) and _NAME.fullmatch(name.decode("latin-1")) is not None


def _guess(lines: list[bytes]) -> bytes:
    return next((line.strip() for line in lines[:200] if line.startswith(b"--") and line.strip(b"- \t")), b"")


def _header_text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8").replace("\x00", "")
    except UnicodeDecodeError:
        return raw.decode("latin-1").replace("\x00", "")


_REPORT_PARTS: Final = (b"content-type: message/delivery-status", b"content-type: message/feedback-report")


def _base64(raw: bytes) -> bytes:
    try:
        return binascii.a2b_base64(raw + b"===")
    except binascii.Error:
        kept = raw.translate(None, bytes(set(range(256)) - set(_BASE64_LETTERS)))
        return binascii.a2b_base64(kept[: len(kept) // 4 * 4])


_BASE64_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
