"""Keys and passwords of our own making: 160 random bits, shown once, stored as a keyed hash.

Form: ``dp_live_<key id>_<secret>``; a scanner for leaked secrets finds the prefix. Because we make the secrets, a fast
keyed hash is right (threat 14 of the reliability note); a slow one would only help against guessable passwords.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass

PREFIX = "dp_live_"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A fresh secret: what the holder is given, and what is stored instead."""

    key_id: str
    secret: str
    hash: str

    @property
    def token(self) -> str:
        """The bearer token: prefix, key id and secret in one."""
        return f"{PREFIX}{self.key_id}_{self.secret}"

    def __repr__(self) -> str:
        return f"NewSecret({self.key_id!r})"


def new_secret(pepper: bytes) -> NewSecret:
    """A new key id (50 bits, public) with a secret of 160 bits."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(10))
    secret = base64.b32encode(secrets.token_bytes(20)).decode().lower()
    return NewSecret(key_id, secret, hash_of(secret, pepper))


def hash_of(secret: str, pepper: bytes) -> str:
    """HMAC-SHA-256 of a secret in hexadecimal."""
    return hmac.digest(pepper, secret.encode(), "sha256").hex()


def split_token(token: str) -> tuple[str, str]:
    """Key id and secret of a bearer token; two empty strings when it has not our form."""
    if not token.startswith(PREFIX):
        return "", ""
    key_id, _, secret = token.removeprefix(PREFIX).partition("_")
    return key_id, secret
