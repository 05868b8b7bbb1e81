"""Identifiers: made in one place, deterministic where a repetition must give the same one."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import uuid

_EVENTS = uuid.UUID("7d8a2c0e-5b0f-5c9e-9a51-3f3a0a6f6f10").bytes


def new_job_id(now_ms: int | None = None) -> str:
    """A UUIDv7 (RFC 9562 5.7): sorts by time, cannot be guessed."""
    ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    tail = secrets.randbits(74)
    value = (ms & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | (tail >> 62) << 64 | 0x2 << 62 | (tail & ((1 << 62) - 1))
    return str(uuid.UUID(int=value))


def unit_id(job_id: str, number: int) -> str:
    """The id of the ``number``-th recipient of a job."""
    return f"{job_id}.{number}"


def job_of(unit: str) -> str:
    """The job id within a unit id."""
    return unit.partition(".")[0]


def event_id(unit: str, type_: str, attempt: int, position: str = "") -> str:
    """UUIDv5 (RFC 9562 5.5) of unit, type, attempt and source position: the same fact always has the same id.

    Args:
        unit: unit id.
        type_: event type.
        attempt: delivery attempt, 0 before the first.
        position: what else tells two facts apart, such as ``topic/partition/offset`` of a report that came back.
    """
    return _uuid5(f"{unit}|{type_}|{attempt}|{position}")


def alert_id(key: str, state: str, before: str) -> str:
    """UUIDv5 of an alert's key, its state and what was said about it before: whoever says the next thing says the same id.

    Args:
        key: kind, severity and subject.
        state: raised or cleared.
        before: id of the alert that was said last under this key, or the place where the log begins when there is none.
    """
    return _uuid5(f"alert|{key}|{state}|{before}")


def _uuid5(name: str) -> str:
    digest = bytearray(hashlib.sha1(_EVENTS + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def recipient_key(secret: bytes, address: str) -> str:
    """Keyed hash of a recipient: HMAC-SHA-256 with the tenant's secret, 32 hexadecimal digits.

    The domain is case-insensitive; the local part is lowered as well, because no provider that matters tells them apart
    and a suppression that misses ``Ada@`` for ``ada@`` would be worse.
    """
    return hmac.digest(secret, address.lower().encode(), "sha256")[:16].hex()


def person_key(pepper: bytes, address: str) -> str:
    """Keyed hash of a recipient under a key of the service, the same for all customers; see ``recipient_key``."""
    return recipient_key(pepper, address)
