"""The canonical body of a message and its hash, computed once at the door.

One SHA-256 serves twice: as the archive's integrity check and as the ``bh=`` of every DKIM signature (design section 5.1,
RFC 6376 3.4.3). Both rooms that need it, the doors and the workshop, read it here.
"""

from __future__ import annotations

import hashlib

CRLF = b"\r\n"


def body_sha256(body: bytes) -> bytes:
    """SHA-256 of ``body`` in DKIM's simple canonical form: empty lines at its end count as one line end.

    Args:
        body: everything after the header's empty line, with CRLF line ends; not copied.

    Returns:
        32 bytes. An empty body is hashed as one CRLF, and a missing last CRLF is added (RFC 6376 3.4.3).
    """
    digest = hashlib.sha256(memoryview(body)[: _end_of_content(body)])
    digest.update(CRLF)
    return digest.digest()


def _end_of_content(body: bytes) -> int:
    """Where the run of CRLF pairs at the end begins; a step per pair would let a stranger spend our time."""
    start = len(body.rstrip(CRLF))
    tail = body[start:]
    if not tail.endswith(CRLF):
        return len(body)
    # Only whole pairs go. In clean input the tail is nothing else; a doubled CR or LF ends the run of pairs.
    pairs = max(tail.rfind(b"\n\n"), tail.rfind(b"\r\r")) + 1
    return start + pairs + (tail[pairs : pairs + 1] == b"\n")
