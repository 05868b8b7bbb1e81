"""The key of a unit that survives whatever a far side does to our mail: opaque, unforgeable, the same in every repetition.

It stands in the return path (``b1-TOKEN@domain``), in a signed header line (``h1-TOKEN``) and in the address of a mailto
unsubscribe (``u1-TOKEN@domain``). Feedback reports mask every address; the header remains.

    token = base32( AES-SIV( key; purpose, version; job id, number ) )        34 bytes, 55 characters, any case

AES-SIV (RFC 5297) is deterministic, so a unit has one key however often it is prepared, and its tag of 128 bits is what a forger
would have to guess. The purpose is bound in: a key that was given out for one is worthless for another. The figure in front names
the secret, so that a new one can come into use while the old one is still read.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from depesche.schemas.identity import unit_id

HEADER: Final = "X-Depesche-Key"
"""Name of the header line; it is ours alone, and taken out of what is submitted."""
PATTERN: Final = r"[bhu][1-9]-[a-z2-7]{55}"
"""A whole key in lower case, for whoever looks for one in a text; whether it is one tells ``ReturnKeys.unit`` only."""
KEPT_AS: Final = "_returns"
"""Under this name instead of a customer's are the keys that seal what came back; whose it is nobody knows when it comes."""
LENGTH: Final = 58
MAX_NUMBER: Final = 0xFFFF
SECRET_BYTES: Final = 32
_PADDING: Final = "="
_LABEL: Final = b"depesche return key"


class Purpose(StrEnum):
    """What a key was given out for."""

    BOUNCE = "b"
    HEADER = "h"
    UNSUBSCRIBE = "u"


class ReturnKeys:
    """Makes and reads keys. Stateless but for the secrets; safe to share."""

    def __init__(self, secrets: Mapping[str, bytes], current: str = "1") -> None:
        """Take the secrets.

        Args:
            secrets: version (one figure, 1 to 9) to a secret of 32 bytes; all of them are read.
            current: the version that new keys are made with.

        Raises:
            ValueError: a version or the length of a secret is wrong, or ``current`` is not among them.
        """
        for version, secret in secrets.items():
            if len(version) != 1 or version not in "123456789" or len(secret) != SECRET_BYTES:
                raise ValueError("a version is one figure from 1 to 9, a secret has 32 bytes")
        if current not in secrets:
            raise ValueError(f"there is no secret {current}")
        self._ciphers = {version: AESSIV(secret) for version, secret in secrets.items()}
        self._current = current

    def token(self, purpose: Purpose, job_id: str, number: int) -> str:
        """The key of the ``number``-th unit of a job: 58 characters in lower case, fit for a local part (RFC 5321 4.5.3.1.1).

        Raises:
            ValueError: the job id is no UUID in its usual form, or the number is not between 0 and 65,535.
        """
        job = uuid.UUID(job_id)
        if str(job) != job_id or not 0 <= number <= MAX_NUMBER:
            raise ValueError("not a unit that can have a return key")
        plain = job.bytes + number.to_bytes(2, "big")
        sealed = self._ciphers[self._current].encrypt(plain, _bound(purpose, self._current))
        text = base64.b32encode(sealed).decode().rstrip(_PADDING).lower()
        return f"{purpose.value}{self._current}-{text}"

    def unit(self, purpose: Purpose, token: str) -> str | None:
        """The id of the unit that ``token`` was made for; None for everything that was not made here for this purpose.

        Case does not matter. The time does not depend on how much of a forged key is right.
        """
        text = token.lower()
        if len(text) != LENGTH or not text.isascii() or text[0] != purpose.value or text[2] != "-":
            return None
        cipher = self._ciphers.get(text[1])
        sealed = _unarmoured(text[3:])
        if cipher is None or sealed is None:
            return None
        try:
            plain = cipher.decrypt(sealed, _bound(purpose, text[1]))
        except InvalidTag:
            return None
        return unit_id(str(uuid.UUID(bytes=plain[:16])), int.from_bytes(plain[16:], "big"))


def _unarmoured(text: str) -> bytes | None:
    """The bytes in base32; None unless this is the one way to write them (the last character has three bits to spare)."""
    upper = text.upper()
    try:
        sealed = base64.b32decode(upper + _PADDING * (-len(upper) % 8))
    except (binascii.Error, ValueError):
        return None
    return sealed if base64.b32encode(sealed).decode().rstrip(_PADDING) == upper else None


def _bound(purpose: Purpose, version: str) -> list[bytes]:
    return [_LABEL, purpose.value.encode(), version.encode()]
