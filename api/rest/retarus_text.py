"""Texts of a JobRequest: from how the caller wrote them into the JSON to what the reader shall see (wire note 2.4)."""

from __future__ import annotations

import binascii
import re
from email.errors import HeaderParseError
from email.header import decode_header

from depesche.api.header_lines import readable
from depesche.api.mime_body import Text, charset_name, codec_of
from depesche.api.rest.attachments import decoded
from depesche.api.rest.models_retarus import TextPart
from depesche.api.rest.retarus_errors import field
from depesche.schemas.errors import InvalidRequestError

_FOLD = re.compile(r"\r?\n[ \t]+")


def subject_text(part: TextPart) -> Text:
    """The subject as its reader shall see it.

    Raises:
        Rejection: the charset is not known, the content is not encoded as it says, or it holds a control character.
    """
    with field("subject.charset", "INVALID_VALUE"):
        charset = charset_name(part.charset)
    with field("subject.content"):
        content = _decoded_subject(part, charset)
    with field("subject.content", "INVALID_VALUE"):
        readable(content, "subject")
    return Text(content, charset, base64=part.content_transfer_encoding == "base64")


def _decoded_subject(part: TextPart, charset: str) -> str:
    content = part.content or ""
    if part.content_encoding == "base64":
        return _from_octets(decoded(content), charset)
    if part.content_encoding == "plain":
        return content
    try:
        # The caller's mail library may have folded a long encoded subject.
        chunks = decode_header(_FOLD.sub(" ", content))
        return "".join(_chunk(octets, name or "us-ascii") for octets, name in chunks)
    except (HeaderParseError, binascii.Error) as fault:
        raise InvalidRequestError("encoded word", public="This is not an encoded word") from fault


def _chunk(octets: bytes | str, charset: str) -> str:
    return octets if isinstance(octets, str) else _from_octets(octets, charset_name(charset))


def body_text(part: TextPart, path: str) -> Text:
    """A text part as its reader shall see it.

    Args:
        part: content, and how it is encoded.
        path: ``body`` or ``alternative``.

    Raises:
        Rejection: the charset is not known, or the content is not encoded as it says.
    """
    with field(f"{path}.charset", "INVALID_VALUE"):
        charset = charset_name(part.charset)
    content = part.content or ""
    with field(f"{path}.content"):
        if part.content_encoding == "base64":
            content = _from_octets(decoded(content), charset)
        elif part.content_encoding == "quoted-printable":
            content = _from_octets(_from_quoted_printable(content), charset)
    return Text(content, charset, base64=part.content_transfer_encoding == "base64")


def _from_quoted_printable(text: str) -> bytes:
    if not text.isascii():
        raise InvalidRequestError("quoted-printable", public="This is not quoted-printable")
    return binascii.a2b_qp(text)


def _from_octets(octets: bytes, charset: str) -> str:
    try:
        return codec_of(charset).decode(octets, "strict")[0]
    except UnicodeDecodeError as fault:
        raise InvalidRequestError("charset", public="These bytes are not of that charset") from fault
