"""What can happen to a unit: a closed list, each with a sentence in English and German and its Retarus words.

The Retarus words are phase, state, type and subType (wire note 4.3). Search, portal, webhooks and reports read it here.
"""

from __future__ import annotations

from dataclasses import dataclass

from depesche.schemas.records import DropReason, EventType


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an event type means.

    Attributes:
        final: whether it ends the unit's way (design section 5, promise 2).
        english: a sentence for support staff.
        german: the same in German.
        phase, state, type, subtype: Retarus' words; empty where Retarus has none.
    """

    final: bool
    english: str
    german: str
    phase: str = ""
    state: str = ""
    type: str = ""
    subtype: str = ""


MEANING: dict[EventType, Meaning] = {
    EventType.ACCEPTED: Meaning(
        False,
        "We have taken the mail and keep it safe.",
        "Wir haben die Mail angenommen und sicher verwahrt.",
        "PROCESS",
        "INITIAL",
        "STARTED",
        "PROCESSING_STARTED",
    ),
    EventType.DROPPED: Meaning(
        True,
        "We will not send this mail; the reason says why.",
        "Wir senden diese Mail nicht; der Grund steht dabei.",
        "PRE_PROCESS",
        "FINISHED",
        "DROPPED",
        "VALIDATION_ERROR",
    ),
    EventType.SCANNED: Meaning(False, "The virus scanners found nothing.", "Die Virenscanner haben nichts gefunden."),
    EventType.RENDERED: Meaning(
        False, "The template was filled in for this recipient.", "Die Vorlage wurde für diesen Empfänger ausgefüllt."
    ),
    EventType.SIGNED: Meaning(
        False,
        "The mail is signed (DKIM) and ready for delivery.",
        "Die Mail ist signiert (DKIM) und bereit zur Zustellung.",
        "PROCESS",
        "INTERMEDIATE",
        "PROCESSED",
        "PROCESSING_FINISHED",
    ),
    EventType.DEFERRED: Meaning(
        False,
        "The far side could not take it yet; we will try again.",
        "Die Gegenseite konnte sie noch nicht annehmen; wir versuchen es erneut.",
        "DELIVER",
        "INTERMEDIATE",
        "DEFERRED",
        "SOFT_BOUNCE",
    ),
    EventType.DELIVERED: Meaning(
        True,
        "The recipient's mail server has taken the mail.",
        "Der Mailserver des Empfängers hat die Mail angenommen.",
        "DELIVER",
        "FINISHED",
        "DELIVERED",
        "OK",
    ),
    EventType.BOUNCED: Meaning(
        True,
        "The far side refused the mail for good.",
        "Die Gegenseite hat die Mail endgültig abgelehnt.",
        "DELIVER",
        "FINISHED",
        "BOUNCED",
        "HARD_BOUNCE",
    ),
    EventType.EXPIRED: Meaning(
        True,
        "All attempts failed until the mail's time was up.",
        "Alle Versuche schlugen fehl, bis die Frist der Mail abgelaufen war.",
        "DELIVER",
        "FINISHED",
        "BOUNCED",
        "SOFT_BOUNCE",
    ),
    EventType.COMPLAINED: Meaning(
        False,
        "The recipient marked the mail as spam.",
        "Der Empfänger hat die Mail als Spam gemeldet.",
        "POST_PROCESS",
        "POST_DELIVERY",
        "FEEDBACK_LOOP",
        "COMPLAINT",
    ),
    EventType.OPENED: Meaning(
        False,
        "The mail was opened.",
        "Die Mail wurde geöffnet.",
        "POST_PROCESS",
        "POST_DELIVERY",
        "OPENED",
        "INFORMATION",
    ),
    EventType.CLICKED: Meaning(
        False,
        "A link in the mail was clicked.",
        "Ein Link in der Mail wurde angeklickt.",
        "POST_PROCESS",
        "POST_DELIVERY",
        "CLICKED",
        "INFORMATION",
    ),
    EventType.UNSUBSCRIBED: Meaning(
        False,
        "The recipient unsubscribed.",
        "Der Empfänger hat sich abgemeldet.",
        "POST_PROCESS",
        "POST_DELIVERY",
        "UNSUBSCRIBED",
        "INFORMATION",
    ),
    EventType.STORED: Meaning(
        False,
        "The mail is kept for Trace & Recover.",
        "Die Mail wird für Trace & Recover aufbewahrt.",
        "PROCESS",
        "INTERMEDIATE",
        "TRACE_RECOVER_STORE",
        "OK",
    ),
    EventType.RESENT: Meaning(
        False,
        "The mail was sent again as a new job.",
        "Die Mail wurde als neuer Auftrag erneut gesendet.",
        "RESEND",
        "POST_DELIVERY",
        "TRACE_RECOVER",
        "OK",
    ),
    EventType.CANCELLED: Meaning(
        True,
        "The sender or an operator cancelled the mail.",
        "Der Absender oder ein Betreiber hat die Mail abgebrochen.",
        "DELIVER",
        "FINISHED",
        "DROPPED",
        "CANCELLED",
    ),
    EventType.FAILED: Meaning(
        True,
        "We could not process the mail; our operators were told.",
        "Wir konnten die Mail nicht verarbeiten; unsere Betreuung ist informiert.",
        "PROCESS",
        "FINISHED",
        "DROPPED",
        "PROCESSING_FAILED",
    ),
}

ANNOTATIONS_FROM = 100_000
"""Sequences from here on tell what happened after the final state (a late bounce, an open). They are never a second end; of all
these only a late bounce changes where the unit stands."""

LATE_BOUNCE = Meaning(
    False,
    "The far side had taken the mail, and sent it back later.",
    "Die Gegenseite hatte die Mail angenommen und später zurückgeschickt.",
    "DELIVER",
    "FINISHED",
    "BOUNCED",
    "HARD_BOUNCE",
)
"""Of a bounced event that is no second end: the unit was delivered (or still is under way), and a report came to the return path."""

FINAL_TYPES = frozenset(kind for kind, meaning in MEANING.items() if meaning.final)

DROP_REASON: dict[DropReason, tuple[str, str, str]] = {
    DropReason.INVALID_ADDRESS: (
        "INVALID_ADDRESS",
        "The recipient's address is not valid.",
        "Die Adresse des Empfängers ist ungültig.",
    ),
    DropReason.FORBIDDEN_RECIPIENT: (
        "FORBIDDEN_RECIPIENT",
        "Role accounts such as postmaster@ get no mail from us.",
        "Funktionsadressen wie postmaster@ erhalten von uns keine Mail.",
    ),
    DropReason.FORBIDDEN_SENDER: (
        "VALIDATION_ERROR",
        "The sender domain is no longer registered.",
        "Die Absenderdomain ist nicht mehr registriert.",
    ),
    DropReason.SUPPRESSED: (
        "SUPPRESSED",
        "The recipient is on the suppression list.",
        "Der Empfänger steht auf der Sperrliste.",
    ),
    DropReason.TEMPORARY_SUPPRESSED: (
        "TEMPORARY_SUPPRESSED",
        "The recipient's mailbox did not take mail lately; it is tried again later.",
        "Das Postfach des Empfängers nahm zuletzt keine Mail an; später wird es wieder versucht.",
    ),
    DropReason.PREVIOUSLY_BOUNCED: (
        "PREVIOUSLY_BOUNCED",
        "Mail to this recipient bounced before.",
        "Mail an diesen Empfänger kam schon einmal zurück.",
    ),
    DropReason.VIRUS_DETECTED: (
        "VIRUS_DETECTED",
        "A scanner found a virus; the whole job was discarded.",
        "Ein Scanner fand einen Virus; der ganze Auftrag wurde verworfen.",
    ),
    DropReason.PROCESSING_FAILED: (
        "PROCESSING_FAILED",
        "The mail could not be processed.",
        "Die Mail konnte nicht verarbeitet werden.",
    ),
    DropReason.VALIDATION_ERROR: (
        "VALIDATION_ERROR",
        "The recipient did not pass validation.",
        "Der Empfänger hat die Prüfung nicht bestanden.",
    ),
    DropReason.INVALID_DKIM_SIGNATURE: (
        "INVALID_DKIM_SIGNATURE",
        "The DKIM signature did not verify.",
        "Die DKIM-Signatur ließ sich nicht bestätigen.",
    ),
}
"""Drop reason to Retarus subType and the sentences for it."""
