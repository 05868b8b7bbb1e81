"""MIME bodies: text, HTML, attachments and inline pictures become one run of bytes, built once for all recipient blocks.

Everything leaves as seven-bit text with CRLF line ends, so that no far side needs 8BITMIME and what is signed is what
arrives. The parts' headers come from ``header_lines`` and are checked like the message's own.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import encode_rfc2231
from typing import Literal

from depesche.api.header_lines import MAX_LINE, HeaderLine, check_header, encoded_words, readable, token_line
from depesche.schemas.errors import InvalidRequestError

_LINE_END = re.compile(r"\r\n|\r|\n")
_UNSAFE = bytes(octet for octet in range(256) if octet not in b"\t\r\n" and not 0x20 <= octet <= 0x7E)
_TYPE = re.compile(r"([A-Za-z0-9!#$&^_.+-]{1,70})/([A-Za-z0-9!#$&^_.+-]{1,70})\Z")
_PARAMETER = re.compile(
    r"\s*([A-Za-z0-9!#$&^_.+-]+)=(?:([A-Za-z0-9!#$&^_.+-]+)|\"([\x20\x21\x23-\x5b\x5d-\x7e]*)\")\s*\Z"
)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9 !#$&()+,.;=@^_{}~\[\]-]{1,60}\Z")
_CONTENT_ID = re.compile(r"[!#-;=?A-Z\[\]^-~]{1,100}\Z")
_BASE64_LINE = 76

KEPT_CHARSETS = {
    "us-ascii": "ascii",
    "utf-8": "utf-8",
    **{f"iso-8859-{n}": f"iso8859-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)},
    **{f"windows-{n}": f"cp{n}" for n in range(1250, 1259)},
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "shift_jis": "shift_jis",
    "euc-jp": "euc-jp",
    "euc-kr": "euc-kr",
    "gbk": "gbk",
    "gb18030": "gb18030",
    "big5": "big5",
}
"""Name in MIME to codec, for charsets that leave ASCII as it is, so that they may stand in a text part."""
READ_CHARSETS = {
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "utf-32": "utf-32",
    "utf-32le": "utf-32-le",
    "utf-32be": "utf-32-be",
    "iso-2022-jp": "iso2022_jp",
    "iso-2022-kr": "iso2022_kr",
}
"""Charsets that are understood but sent as UTF-8, because a MIME text part cannot hold them (RFC 2781 4)."""
_ALIASES = {
    "ascii": "us-ascii",
    "utf8": "utf-8",
    "latin1": "iso-8859-1",
    "latin-1": "iso-8859-1",
    "cp1252": "windows-1252",
}


def charset_name(text: str) -> str:
    """The name under which a charset is known here.

    Raises:
        InvalidRequestError: it is none of those listed; Python's own list holds codecs that are no charsets.
    """
    name = text.strip().lower()
    name = _ALIASES.get(name, name)
    if name not in KEPT_CHARSETS and name not in READ_CHARSETS:
        raise InvalidRequestError(f"charset {name!r}", public="This charset is not known")
    return name


def codec_of(charset: str) -> codecs.CodecInfo:
    """The codec of a name that ``charset_name`` gave."""
    return codecs.lookup(KEPT_CHARSETS.get(charset) or READ_CHARSETS[charset])


@dataclass(frozen=True, slots=True)
class Text:
    """A text as its reader shall see it, and how the sender wants it to travel.

    Attributes:
        content: the text; any line ends.
        charset: wanted charset; UTF-8 is used where it cannot hold the text.
        base64: whether base64 is demanded; else the lightest encoding that is safe.
    """

    content: str
    charset: str = "utf-8"
    base64: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """An attachment, or with ``content_id`` a picture that the HTML shows (RFC 2392)."""

    name: str
    content_type: str
    content: bytes
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    """A MIME entity: the fields that describe it, and its octets in pieces that are joined only once."""

    fields: tuple[HeaderLine, ...]
    pieces: tuple[bytes, ...]

    @property
    def header(self) -> bytes:
        """Its own header with the empty line after it."""
        return b"".join(field.octets for field in self.fields) + b"\r\n"


def build_body(text: Text | None, html: Text | None, files: Sequence[File]) -> Entity:
    """The whole body: ``mixed(alternative(text, related(html, pictures)), attachments)``, with the layers that are needed.

    Without HTML a picture is an attachment like any other.

    Raises:
        InvalidRequestError: an attachment's type, name or content id is not valid.
    """
    pictures = [_file(file) for file in files if file.content_id and html]
    others = [_file(file) for file in files if not (file.content_id and html)]
    shown = [_text("plain", text)] if text or not html else []
    if html:
        page = _text("html", html)
        shown.append(_multipart("related", [page, *pictures], 'type="text/html"') if pictures else page)
    body = _multipart("alternative", shown) if len(shown) > 1 else shown[0]
    return _multipart("mixed", [body, *others]) if others else body


def _text(subtype: str, text: Text | None) -> Entity:
    text = text or Text("")
    content = "\r\n".join(_LINE_END.split(text.content))
    charset = text.charset if text.charset in KEPT_CHARSETS else "utf-8"
    try:
        octets = content.encode(KEPT_CHARSETS[charset])
    except UnicodeEncodeError:
        charset, octets = "utf-8", _utf8(content)
    octets = octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"
    encoding, payload = _encoded(octets, text.base64)
    fields = (token_line("Content-Type", f"text/{subtype};", f'charset="{charset}"'), _transfer(encoding))
    return Entity(fields, (payload,))


def _utf8(content: str) -> bytes:
    try:
        return content.encode()
    except UnicodeEncodeError as fault:
        raise InvalidRequestError("lone surrogate", public="The text is not valid Unicode") from fault


def _transfer(encoding: str) -> HeaderLine:
    return token_line("Content-Transfer-Encoding", encoding)


def _encoded(octets: bytes, force_base64: bool) -> tuple[Literal["7bit", "quoted-printable", "base64"], bytes]:
    special = len(octets) - len(octets.translate(None, _UNSAFE))
    if force_base64 or special * 3 > len(octets):
        return "base64", base64_lines(octets)
    if special or max(map(len, octets.split(b"\r\n"))) > MAX_LINE:
        return "quoted-printable", binascii.b2a_qp(octets, istext=True)
    return "7bit", octets


def base64_lines(octets: bytes) -> bytes:
    """Base64 in lines of 76 characters with CRLF (RFC 2045 6.8)."""
    text = base64.b64encode(octets)
    return b"".join([text[at : at + _BASE64_LINE] + b"\r\n" for at in range(0, len(text), _BASE64_LINE)])


def described(file: File) -> tuple[HeaderLine, ...]:
    """The fields that describe an attachment.

    Raises:
        InvalidRequestError: type, name or content id is not valid; ``pointer`` is ``content_type``, ``filename`` or
            ``content_id``.
    """
    name = _file_name(file.name)
    main, parameters = _content_type(file.content_type)
    tokens = [f"{token};" for token in (main, *parameters)]
    fields = [token_line("Content-Type", *tokens, *_name_for_old_readers(name)), _transfer("base64")]
    fields.append(_disposition("inline" if file.content_id else "attachment", name))
    if file.content_id:
        content_id = file.content_id.removeprefix("<").removesuffix(">")
        if not _CONTENT_ID.match(content_id):
            raise InvalidRequestError("id", public="The content id is not valid", pointer="content_id")
        fields.append(token_line("Content-ID", f"<{content_id}>"))
    return tuple(fields)


def _file(file: File) -> Entity:
    return Entity(described(file), (base64_lines(file.content),))


def _joined(tokens: Sequence[str]) -> list[str]:
    return [f"{token};" for token in tokens[:-1]] + [tokens[-1]]


def _content_type(text: str) -> tuple[str, list[str]]:
    """Type and parameters; a message is sent as octet-stream, because it may not be in base64 (RFC 2046 5.2)."""
    main, *rest = text.split(";")
    match = _TYPE.match(main.strip())
    parameters = [_PARAMETER.match(parameter) for parameter in rest if parameter.strip()]
    if match is None or match[1].lower() == "multipart" or None in parameters:
        raise InvalidRequestError("type", public="The content type is not valid", pointer="content_type")
    if match[1].lower() == "message":
        return "application/octet-stream", []
    kept = [p for p in parameters if p and p[1].lower() not in ("name", "boundary")]
    return match[0].lower(), [f'{p[1]}="{p[2] or p[3] or ""}"' for p in kept]


def _file_name(text: str) -> str:
    name = readable(text, "filename").strip()
    name = re.split(r"[/\\]", name)[-1].strip(". ")
    if not name:
        raise InvalidRequestError("name", public="The attachment's name is not valid", pointer="filename")
    return name


def _name_for_old_readers(name: str) -> list[str]:
    """``name=`` with encoded words: against RFC 2047 5, but what Outlook reads where RFC 2231 puzzles it."""
    if _PLAIN_NAME.match(name):
        return [f'name="{name}"']
    *words, last = encoded_words(name, 50)
    first, *more = [*words, f'{last}"']
    return [f'name="{first}', *more]


def _disposition(kind: str, name: str) -> HeaderLine:
    """The file name in RFC 2231 form; long ones in numbered pieces, cut between the escapes."""
    if _PLAIN_NAME.match(name):
        return token_line("Content-Disposition", f"{kind};", f'filename="{name}"')
    value = encode_rfc2231(name, "utf-8")
    pieces = re.findall(r"(?:%[0-9A-F]{2}|[^%]){1,18}", value)
    if len(pieces) == 1:
        return token_line("Content-Disposition", f"{kind};", f"filename*={value}")
    numbered = [f"filename*{number}*={piece}" for number, piece in enumerate(pieces)]
    return token_line("Content-Disposition", *_joined([kind, *numbered]))


def _multipart(subtype: str, parts: Sequence[Entity], parameter: str = "") -> Entity:
    boundary = f"=_{secrets.token_hex(16)}"
    pieces: list[bytes] = []
    for part in parts:
        check_header(part.header, [field.name for field in part.fields])
        pieces += [f"--{boundary}\r\n".encode(), part.header, *part.pieces, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    parameters = [*([parameter] if parameter else []), f'boundary="{boundary}"']
    fields = (token_line("Content-Type", *_joined([f"multipart/{subtype}", *parameters])),)
    return Entity(fields, tuple(pieces))
