"""DANE for SMTP (RFC 7672, 6698, 7671): whether the chain that a host shows is one that its TLSA records vouch for. Pure.

Python's ``ssl`` cannot do this: it only knows certificate authorities. So the connection is made with whatever certificate, and
before a word is said on it the chain is held against the records here. Usage 3 (DANE-EE) is a comparison with the host's own
certificate, whose names and dates do not matter (RFC 7672 3.1.1). Usage 2 (DANE-TA) makes one certificate of the chain the only
authority, from which there must be a valid chain to the host's certificate, with the host's name in it (3.1.2, 3.2.2).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256, sha512

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from depesche.streams.mail.sts import matches

TRUST_ANCHOR, END_ENTITY = 2, 3
_USAGES = (TRUST_ANCHOR, END_ENTITY)
_SELECTORS = (0, 1)
_DIGEST_SIZES = {1: 32, 2: 64}
_MOST_CERTIFICATES = 10


@dataclass(frozen=True, slots=True)
class TLSARecord:
    """One TLSA record (RFC 6698 2.1).

    Attributes:
        usage: 2: an authority; 3: the host itself; 0 and 1 speak of public authorities and are not for SMTP (RFC 7672 3.1.3).
        selector: what is meant of a certificate: 0: all of it; 1: its public key.
        matching: how it is written: 0: as it is; 1: SHA-256; 2: SHA-512.
        data: the certificate, key or digest.
    """

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def usable(self) -> bool:
        """Whether an SMTP client can go by it."""
        known = self.usage in _USAGES and self.selector in _SELECTORS
        return known and (bool(self.data) if self.matching == 0 else len(self.data) == _DIGEST_SIZES.get(self.matching))

    def fits(self, certificate: x509.Certificate) -> bool:
        """Whether it means ``certificate``."""
        if self.selector == 0:
            chosen = certificate.public_bytes(Encoding.DER)
        else:
            chosen = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if self.matching == 0:
            return chosen == self.data
        return (sha256 if self.matching == 1 else sha512)(chosen).digest() == self.data

    def __str__(self) -> str:
        """As a zone file has it."""
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"


@dataclass(frozen=True, slots=True)
class Dane:
    """What DNSSEC says about the certificate of a mail host.

    Attributes:
        base: the name below which the records stand, which is also the name to ask the host for.
        records: its TLSA records, all of them; there is at least one unless ``failed``.
        failed: the records could not be had, although the zone is signed: somebody may be hiding them (RFC 7672 2.1).
    """

    base: str
    records: tuple[TLSARecord, ...] = ()
    failed: bool = False

    @property
    def usable(self) -> tuple[TLSARecord, ...]:
        """The records that a client can go by; none: encrypt, but nobody can be recognised (RFC 7672 2.2)."""
        return tuple(record for record in self.records if record.usable)


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a chain is not the one that the records vouch for: the result type of RFC 8460 4.3, and a sentence's end."""

    result: str
    reason: str


def verify(
    chain: Sequence[bytes], records: Sequence[TLSARecord], names: Sequence[str], now: datetime.datetime
) -> Objection | None:
    """What is wrong with a chain; nothing when some usable record vouches for it.

    Args:
        chain: the certificates in DER as the host showed them, its own first.
        records: usable TLSA records.
        names: under which of these names the host may be known: the TLSA base and the domain that it takes mail for.
        now: when, with a time zone.
    """
    try:
        shown = [x509.load_der_x509_certificate(der) for der in chain[:_MOST_CERTIFICATES]]
    except ValueError:
        return Objection("validation-failure", "the host's certificate cannot be read")
    if not shown:
        return Objection("validation-failure", "the host shows no certificate")
    if any(record.usage == END_ENTITY and _fits(record, shown[0]) for record in records):
        return None
    anchors = [found for record in records if record.usage == TRUST_ANCHOR for found in _anchors(record, shown)]
    if not anchors:
        return Objection("certificate-not-trusted", "the host's certificate fits none of its TLSA records")
    objections = [_chain_objection(shown, anchor, names, now) for anchor in anchors]
    return None if None in objections else objections[0]


def _fits(record: TLSARecord, certificate: x509.Certificate) -> bool:
    try:
        return record.fits(certificate)
    except ValueError:
        # A key of a kind that nobody here knows fits no digest of a key.
        return False


def _anchors(record: TLSARecord, shown: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The authorities that a record means: from the chain, or the one that stands in the record as a whole."""
    found = [certificate for certificate in shown[1:] if _fits(record, certificate)]
    if not found and (record.selector, record.matching) == (0, 0):
        try:
            found = [x509.load_der_x509_certificate(record.data)]
        except ValueError:
            return []
    return found


def _chain_objection(
    shown: Sequence[x509.Certificate], anchor: x509.Certificate, names: Sequence[str], now: datetime.datetime
) -> Objection | None:
    leaf = shown[0]
    name = _name_in(leaf, names)
    if name is None:
        return Objection("certificate-host-mismatch", "the host's certificate is for another name")
    others = [certificate for certificate in shown[1:] if certificate != anchor]
    builder = (
        PolicyBuilder()
        .store(Store([anchor]))
        .time(now)
        .extension_policies(
            ca_policy=ExtensionPolicy.permit_all().require_present(
                x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority
            ),
            ee_policy=ExtensionPolicy.permit_all().require_present(
                x509.SubjectAlternativeName, Criticality.AGNOSTIC, None
            ),
        )
    )
    try:
        builder.build_server_verifier(x509.DNSName(name)).verify(leaf, others)
    except VerificationError:
        if not all(certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc for certificate in shown):
            return Objection("certificate-expired", "the host's certificate, or one above it, has expired")
        return Objection("certificate-not-trusted", "no valid chain leads from the TLSA record's authority to the host")
    return None


def _is_authority(_: Policy, __: x509.Certificate, constraints: x509.BasicConstraints | None) -> None:
    if constraints is None or not constraints.ca:
        raise ValueError("not the certificate of an authority")


def _name_in(certificate: x509.Certificate, names: Sequence[str]) -> str | None:
    """The first of ``names`` that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return None
    present = extension.value.get_values_for_type(x509.DNSName)
    return next((name for name in names if any(matches(name, pattern) for pattern in present)), None)
