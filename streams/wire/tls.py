"""The TLS side of a conversation: contexts, the chain that a host shows, and what a failure is called (RFC 8460 4.3)."""

from __future__ import annotations

import datetime
import functools
import ssl
from dataclasses import dataclass
from typing import Any, cast

from depesche.streams.mail.dane import TLSARecord, verify
from depesche.streams.wire.smtp_reply import printable

NOT_OFFERED = "starttls-not-supported"
_ANY_FAILURE = "validation-failure"
_EXPIRED, _WRONG_NAME = 10, 62
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED and X509_V_ERR_HOSTNAME_MISMATCH."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a host's certificate is held against.

    Attributes:
        context: what OpenSSL demands during the handshake.
        records: TLSA records of which one must vouch for the chain; none: nothing more is demanded.
        names: names that a certificate under a TLSA authority may have.
        by: who is content then, for the transcript; empty: nobody looked.
    """

    context: ssl.SSLContext
    records: tuple[TLSARecord, ...] = ()
    names: tuple[str, ...] = ()
    by: str = ""


@dataclass(frozen=True, slots=True)
class Secured:
    """How a handshake ended: protocol and cipher, or a failure with its result type (RFC 8460 4.3)."""

    tls: str = ""
    failure: str = ""
    result: str = ""


@functools.cache
def any_certificate() -> ssl.SSLContext:
    """TLS 1.2 or newer with whatever certificate (RFC 7435): encryption against listeners, no proof of who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def failed(fault: Exception) -> Secured:
    """What a handshake that raised ``fault`` is called."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        result = {_EXPIRED: "certificate-expired", _WRONG_NAME: "certificate-host-mismatch"}
        reason = printable(fault.verify_message.encode(), 200)
        return Secured(
            "", f"the certificate is not valid: {reason}", result.get(fault.verify_code, "certificate-not-trusted")
        )
    words = printable(str(fault).encode(), 200) or type(fault).__name__
    return Secured("", f"the TLS handshake failed: {words}", _ANY_FAILURE)


def judged(tls: ssl.SSLObject, check: Check) -> Secured:
    """Whether a finished handshake is enough; ``failure`` says what is missing."""
    cipher = tls.cipher()
    name = f"{tls.version()}/{cipher[0] if cipher else ''}"
    if not check.records:
        return Secured(name)
    objection = verify(peer_chain(tls), check.records, check.names, datetime.datetime.now(datetime.UTC))
    return Secured(name) if objection is None else Secured("", objection.reason, objection.result)


def peer_chain(tls: ssl.SSLObject) -> list[bytes]:
    """The certificates in DER as the host showed them, its own first.

    Python has this in public from 3.13 on; before, the same function stands one level deeper.
    """
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return [bytes(certificate) for certificate in public()]
    shown = cast(Any, tls)._sslobj.get_unverified_chain() or []
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in shown]
