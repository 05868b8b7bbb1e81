"""Making DKIM keys and the DNS records that publish them. The signer is in the workshop; the keys are at rest here."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]
RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class NewDKIMKey:
    """A fresh key pair.

    Attributes:
        private_key: PKCS#8 DER; seal it before it is stored.
        public_key: Base64 for the p= tag (RFC 6376 3.6.1; RFC 8463 4.2 wants the 32 raw bytes for Ed25519).
    """

    algorithm: Algorithm
    private_key: bytes
    public_key: str

    def __repr__(self) -> str:
        return f"NewDKIMKey({self.algorithm!r})"


def new_dkim_key(algorithm: Algorithm = "rsa-sha256") -> NewDKIMKey:
    """Make a key: RSA with 2048 bits (RFC 8301 3.2) or Ed25519."""
    private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
    if algorithm == "rsa-sha256":
        private = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        private = ed25519.Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return NewDKIMKey(algorithm, der, base64.b64encode(public).decode())


def record_text(algorithm: str, public_key: str) -> str:
    """The TXT record's text, unsplit (RFC 6376 3.6.1)."""
    return f"v=DKIM1; k={'rsa' if algorithm == 'rsa-sha256' else 'ed25519'}; p={public_key}"


def record_name(selector: str, domain: str) -> str:
    """Where the record stands (RFC 6376 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def split_text(text: str) -> tuple[str, ...]:
    """A TXT text in strings of at most 255 octets (RFC 6376 3.6.2.2), as zone files want it."""
    return tuple(text[i : i + 255] for i in range(0, len(text), 255))
