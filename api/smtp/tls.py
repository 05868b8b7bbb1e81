"""The TLS of the door: 1.2 and 1.3 only, forward secrecy, no renegotiation, no compression (RFC 8314 4.1, RFC 8996)."""

from __future__ import annotations

import ssl
from pathlib import Path

from depesche.schemas.errors import SetupError

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of 1.3 are all fine."""


def server_context(certificate: Path, private_key: Path) -> ssl.SSLContext:
    """The context for both ports, from a PEM chain and its PEM private key.

    Raises:
        SetupError: a file is missing, unreadable, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        context.load_cert_chain(certificate, private_key)
    except (OSError, ssl.SSLError) as fault:
        raise SetupError(
            f"The certificate {certificate} with the key {private_key} cannot be used ({fault}).",
            fix="Set smtp.certificate and smtp.private_key to a PEM chain and its key, or to nothing for a self-made one.",
        ) from fault
    return context
