"""What an entry of the suppression list means for a unit: the reason it is dropped for, and the words that say why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from depesche.analytics.archive.keyring import Keyring
from depesche.schemas.codec import decode
from depesche.schemas.errors import ContentLostError, UndecodableError
from depesche.schemas.records import (
    DropReason,
    Personal,
    Suppression,
    SuppressionEvidence,
    SuppressionGround,
    SuppressionReason,
    SuppressionState,
)

MOST_WORDS: Final = 500
DROP_REASON: Final[Mapping[SuppressionReason, DropReason]] = {
    SuppressionReason.TEMPORARY: DropReason.TEMPORARY_SUPPRESSED,
    SuppressionReason.BOUNCED: DropReason.PREVIOUSLY_BOUNCED,
}
"""Retarus' words for the kinds of suppression (wire note 5); all others are SUPPRESSED."""
SUPPRESSION_REASONS: Final = frozenset({*DROP_REASON.values(), DropReason.SUPPRESSED})


def drop_reason(entry: Suppression) -> DropReason:
    """What a unit that the entry blocks is dropped for."""
    return DROP_REASON.get(entry.reason, DropReason.SUPPRESSED)


def in_force(entry: Suppression, now: int) -> bool:
    """Whether the entry suppresses at ``now`` (milliseconds since 1970 UTC)."""
    return entry.state is SuppressionState.ACTIVE and (entry.until is None or entry.until > now)


def strictest(entries: Iterable[Suppression | None]) -> Suppression | None:
    """The entry that lasts longest; of two alike the one that comes first."""
    found = [entry for entry in entries if entry is not None]
    return max(found, key=lambda entry: (entry.until is None, entry.until or 0), default=None)


def ground_of(entry: Suppression) -> SuppressionGround | None:
    """The facts behind the strictest ground."""
    for ground in entry.grounds:
        if f"{ground.origin}/{ground.reason.value}/{ground.days}" == entry.ground:
            return ground
    return None


def evidence_of(entry: Suppression) -> SuppressionEvidence | None:
    """The youngest fact of the strictest ground."""
    ground = ground_of(entry)
    return ground.evidence[-1] if ground is not None and ground.evidence else None


def personal_of(evidence: SuppressionEvidence, keyring: Keyring) -> Personal | None:
    """The address and the reply behind a fact; None when they were not kept or their key was erased."""
    if not evidence.key_id or not evidence.sealed_personal:
        return None
    try:
        key = keyring.key(evidence.key_id)
        return decode(Personal, key.open(evidence.sealed_personal, b"event|" + evidence.event_id.encode()))
    except (ContentLostError, UndecodableError):
        return None


def address_of(entry: Suppression, keyring: Keyring) -> str | None:
    """The recipient's address; None when no fact keeps it or its key was erased."""
    for ground in entry.grounds:
        for evidence in reversed(ground.evidence):
            personal = personal_of(evidence, keyring)
            if personal is not None and personal.recipient:
                return personal.recipient
    return None


def finding(entry: Suppression, keyring: Keyring | None) -> str:
    """When and why somebody was suppressed, in the form of wire note 4.2.

    Args:
        entry: in force.
        keyring: opens what the far side said; None where the reader may not know it (another customer's mail).
    """
    evidence = evidence_of(entry)
    if evidence is None:
        return f'ts="", reason="{entry.reason.value}"'
    personal = personal_of(evidence, keyring) if keyring is not None else None
    words = _words(entry, evidence, (personal.reply_text or "") if personal else "", own=keyring is not None)
    return f'ts="{moment(evidence.at)}", reason="{words[:MOST_WORDS]}"'


def _words(entry: Suppression, evidence: SuppressionEvidence, reply: str, *, own: bool) -> str:
    code = f"[{evidence.enhanced_code}] " if evidence.enhanced_code else ""
    if entry.reason in DROP_REASON:
        said = " ".join(part for part in (str(evidence.code or ""), reply) if part)
        about = f"host {evidence.host} said: {said}" if own and evidence.host and said else evidence.reply_class
        return _plain(f"{code}bounced ({about})")
    if entry.reason is SuppressionReason.MANUAL:
        return _plain(f"suppressed by hand ({evidence.note})" if own and evidence.note else "suppressed by hand")
    return entry.reason.value


def _plain(text: str) -> str:
    """On one line and without the quotes that end it."""
    return " ".join(text.replace('"', "'").split())


def moment(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
