"""The simple canonical body of DKIM (RFC 6376 3.4.3), hashed once at the door and used by the signer as ``bh``."""

from __future__ import annotations

import hashlib


def body_sha256(body: bytes) -> bytes:
    """SHA-256 of ``body`` in simple canonical form: empty lines at its end become one CRLF, an empty body is one CRLF.

    Args:
        body: everything after the empty line that ends the header; CRLF line ends only.
    """
    if not body.endswith(b"\r\n"):
        return hashlib.sha256(body + b"\r\n").digest()
    end = len(body)
    while body[end - 4 : end] == b"\r\n\r\n":
        end -= 2
    if end == 2 and body[:2] == b"\r\n":
        return hashlib.sha256(b"\r\n").digest()
    return hashlib.sha256(memoryview(body)[:end]).digest()
