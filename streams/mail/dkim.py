"""DKIM signatures (RFC 6376), made fast: the key is loaded once and the body's hash comes from the door.

``c=relaxed/simple``: header fields survive being folded anew on the way, the body is hashed as it is sent. dkimpy and OpenDKIM
verify what is made here; neither signs, because a signature of theirs costs more than all the rest of a message.

**What is signed** (RFC 6376 5.4): every field in ``GUARDED`` and ``SIGNED`` that is present, each instance, the bottom one
first. **What is listed once more than present** (5.4.2, 8.15), so that a field added on the way breaks the signature: the
fields that decide what a reader sees or where his answer goes. Those in ``ALWAYS_GUARDED`` even when there is none, because an
added Reply-To or a second Subject is how a signed mail is misused; the other ``GUARDED`` ones only when present, because
relays may add a missing Date or Message-ID (RFC 6409 8).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

ALWAYS_GUARDED: Final = (b"from", b"reply-to", b"subject", b"to", b"cc", b"content-type")
GUARDED: Final = (
    *ALWAYS_GUARDED,
    b"sender",
    b"date",
    b"message-id",
    b"mime-version",
    b"content-transfer-encoding",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
)
SIGNED: Final = (
    b"in-reply-to",
    b"references",
    b"list-id",
    b"list-help",
    b"list-subscribe",
    b"list-post",
    b"list-owner",
    b"list-archive",
    b"feedback-id",
    b"cfbl-address",
    b"cfbl-feedback-id",
    b"x-csa-complaints",
)

_ORDER: Final = (*GUARDED, *SIGNED)
_KNOWN: Final = frozenset(_ORDER)
_COLUMNS: Final = 76
_OTHER_SPACE: Final = re.compile(rb"[\x0b\x0c]")
_WSP: Final = re.compile(rb"[ \t]+")
_PADDING: Final = padding.PKCS1v15()
_SHA256: Final = hashes.SHA256()


@dataclass(frozen=True, slots=True)
class SignedFields:
    """The part of a header that signatures cover; the same for every key.

    Attributes:
        names: the value of ``h=``, one entry per listed instance.
        canonical: the relaxed form of the fields in that order, each with CRLF (RFC 6376 3.4.2, 3.7).
    """

    names: tuple[bytes, ...]
    canonical: bytes

    def also(self, field: bytes) -> SignedFields:
        """These fields and one more, which stands above them.

        Args:
            field: the whole field with CRLF at its end; none of its name is among these.
        """
        name, _, value = field.removesuffix(b"\r\n").partition(b":")
        name = name.lower()
        return SignedFields((*self.names, name), b"%b%b:%b\r\n" % (self.canonical, name, relaxed(value)))


def signed_fields(header: bytes) -> SignedFields:
    """What of ``header`` is signed.

    Args:
        header: the header with CRLF line ends; an empty line at its end does not matter.

    Raises:
        ValueError: there is no From field; such a message cannot be signed (RFC 6376 5.4).
    """
    present = _instances(header)
    if b"from" not in present:
        raise ValueError("a message without a From field cannot be signed")
    names: list[bytes] = []
    canonical: list[bytes] = []
    for name in _ORDER:
        values = present.get(name)
        if values is not None:
            names += [name] * len(values)
            canonical += [name + b":" + relaxed(value) + b"\r\n" for value in reversed(values)]
            if name in GUARDED:
                names.append(name)
        elif name in ALWAYS_GUARDED:
            names.append(name)
    return SignedFields(tuple(names), b"".join(canonical))


def _instances(header: bytes) -> dict[bytes, list[bytes]]:
    """The values of the fields we know, by lower-case name, from top to bottom, still folded."""
    found: dict[bytes, list[bytes]] = {}
    current: list[bytes] | None = None
    for line in header.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            if current is not None:
                current[-1] += b"\r\n" + line
            continue
        name, colon, value = line.partition(b":")
        # RFC 5322 4.5 knows blanks before the colon; relaxed drops them.
        name = name.rstrip(b" \t").lower()
        if colon and name in _KNOWN:
            current = found.setdefault(name, [])
            current.append(value)
        else:
            current = None
    return found


def relaxed(value: bytes) -> bytes:
    """A field's value in relaxed form: unfolded, runs of blanks as one, none at the ends (RFC 6376 3.4.2)."""
    if _OTHER_SPACE.search(value):
        # split() would take these two for blanks; the RFC does not.
        return _WSP.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return b" ".join(value.split())


class Signer:
    """Signs for one domain with one key; make it once and keep it, because loading a key costs more than signing."""

    def __init__(self, selector: str, domain: str, private_key: bytes) -> None:
        """Load the key.

        Args:
            selector: ``s=``.
            domain: ``d=``, an A-label.
            private_key: PKCS#8 DER of an RSA or Ed25519 key; its kind decides ``a=``.

        Raises:
            ValueError: not such a key, or RSA below 1024 bits (RFC 8301 3.2).
        """
        key = load_der_private_key(private_key, None)
        if isinstance(key, RSAPrivateKey):
            if key.key_size < 1024:
                raise ValueError(f"an RSA key of {key.key_size} bits must not sign")
            self.algorithm = "rsa-sha256"
        elif isinstance(key, Ed25519PrivateKey):
            self.algorithm = "ed25519-sha256"
        else:
            raise ValueError(f"DKIM knows no {type(key).__name__}")
        self.selector = selector
        self.domain = domain
        self._key = key
        self._start = _folded([b"v=1;", b"a=" + self.algorithm.encode() + b";", b"c=relaxed/simple;"], 16)
        self._start += b"\r\n\t" + _folded([b"d=" + domain.encode() + b";", b"s=" + selector.encode() + b";"], 8)

    def sign(self, header: bytes, body_sha256: bytes, now: int) -> bytes:
        """The DKIM-Signature field of a message; see ``sign_fields``."""
        return self.sign_fields(signed_fields(header), body_sha256, now)

    def sign_fields(self, fields: SignedFields, body_sha256: bytes, now: int) -> bytes:
        """The DKIM-Signature field, folded below 79 columns, with CRLF at its end; to be put in front of the header.

        Args:
            fields: what is signed.
            body_sha256: SHA-256 of the body in simple form (``schemas.canonical``).
            now: seconds since 1970 UTC, for ``t=``.
        """
        body_hash = base64.b64encode(body_sha256)
        value = b" %b\r\n\tt=%d; bh=%b;\r\n\t%b\r\n\tb=" % (self._start, now, body_hash, _listed(fields.names))
        signature = self._signature(fields.canonical + b"dkim-signature:" + relaxed(value))
        return b"DKIM-Signature:" + value + _broken(base64.b64encode(signature)) + b"\r\n"

    def _signature(self, text: bytes) -> bytes:
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(text, _PADDING, _SHA256)
        # RFC 8463 3: Ed25519 signs the hash, not the text.
        return self._key.sign(sha256(text).digest())


def sign_all(signers: Sequence[Signer], header: bytes, body_sha256: bytes, now: int) -> bytes:
    """The DKIM-Signature fields of all ``signers``, one after the other; the header is read once."""
    return sign_all_fields(signers, signed_fields(header), body_sha256, now) if signers else b""


def sign_all_fields(signers: Sequence[Signer], fields: SignedFields, body_sha256: bytes, now: int) -> bytes:
    """The same for fields that were read before."""
    return b"".join([signer.sign_fields(fields, body_sha256, now) for signer in signers])


@lru_cache(maxsize=256)
def _listed(names: tuple[bytes, ...]) -> bytes:
    """``h=`` folded; kept, because one sender's mails all have the same fields."""
    words = [name + b":" for name in names[:-1]] + [names[-1] + b";"]
    return _folded([b"h=" + words[0], *words[1:]], 8, b"")


def _folded(words: Sequence[bytes], column: int, blank: bytes = b" ") -> bytes:
    """``words`` joined with ``blank``, a line break and a tab where a line would get too long."""
    text = words[0]
    column += len(text)
    for word in words[1:]:
        if column + len(blank) + len(word) > _COLUMNS:
            text += b"\r\n\t" + word
            column = 8 + len(word)
        else:
            text += blank + word
            column += len(blank) + len(word)
    return text


def _broken(text: bytes) -> bytes:
    """Base64 in lines: the first has ``b=`` in front of it."""
    width = _COLUMNS - 8
    first, rest = text[: width - 2], text[width - 2 :]
    return b"\r\n\t".join([first, *(rest[i : i + width] for i in range(0, len(rest), width))])
