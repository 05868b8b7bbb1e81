"""Attachments as the REST door takes them: decoded strictly, and not of a kind that every mailbox provider refuses."""

from __future__ import annotations

import binascii
import unicodedata

from depesche.schemas.errors import ForbiddenError, InvalidRequestError

_RUN_CODE = """
ade adp apk appx bat cab chm cmd com cpl dll dmg exe hta ins isp jar js jse lib lnk mde msc msi msix msp mst pif ps1
reg scf scr sct shb sys url vb vbe vbs vhd vxd wsc wsf wsh xll
"""
FORBIDDEN_EXTENSIONS = frozenset(_RUN_CODE.split())
"""File types that run code; the large providers refuse mail with them. The vendor's own list is not published."""


def require_allowed(name: str) -> None:
    """Refuse an attachment that would run.

    Raises:
        ForbiddenError: the extension is forbidden.
    """
    plain = unicodedata.normalize("NFKC", name).strip().rstrip(". ").lower()
    extension = plain.rpartition(".")[2] if "." in plain else ""
    if extension in FORBIDDEN_EXTENSIONS:
        raise ForbiddenError(f"extension {extension}", public=f"Attachments of type .{extension} are not taken")


def decoded(text: str) -> bytes:
    """The bytes behind base64 (RFC 4648 4); line breaks and blanks are allowed, as mail libraries write them.

    Raises:
        InvalidRequestError: it is not base64.
    """
    try:
        plain = text.encode("ascii")
        if any(blank in plain for blank in (b"\n", b"\r", b" ", b"\t")):
            plain = plain.translate(None, b"\r\n\t ")
        return binascii.a2b_base64(plain, strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as fault:
        raise InvalidRequestError("base64", public="This is not base64") from fault
