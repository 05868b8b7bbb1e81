"""What an answer about a unit can mean: a closed list of classes, each with its kind and a sentence in English and German.

A class says *why*, its kind says *what follows*. Only three classes are hard, because only they say that nobody will ever read
mail at this address: the first digit of a reply code does not (`5xx` is more often a full mailbox, a blocked IP address or a
policy than a dead address). Replies, bounces and reports are all put into these classes (`streams/mail/classify.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What follows from an answer."""

    HARD = "hard"
    """The address is dead: do not send there again."""
    SOFT = "soft"
    """Not this mail or not now; the address may be fine."""
    BLOCK = "block"
    """We or our mail are refused; the address may be fine, the sender must change something."""
    COMPLAINT = "complaint"
    """Somebody complains: the recipient about the mail, or a receiver about its authentication; the class says which."""
    NOT_A_BOUNCE = "not_a_bounce"
    """Nothing follows."""


class ReplyClass(StrEnum):
    """Why a unit was refused, deferred or returned."""

    RECIPIENT_UNKNOWN = "recipient_unknown"
    DOMAIN_UNKNOWN = "domain_unknown"
    RECIPIENT_MOVED = "recipient_moved"
    MAILBOX_FULL = "mailbox_full"
    RECIPIENT_DISABLED = "recipient_disabled"
    RECIPIENT_REFUSED = "recipient_refused"
    NO_MAIL_HOST = "no_mail_host"
    MESSAGE_TOO_LARGE = "message_too_large"
    CONTENT_REFUSED = "content_refused"
    SENDER_REFUSED = "sender_refused"
    RELAY_DENIED = "relay_denied"
    RATE_LIMITED = "rate_limited"
    GREYLISTED = "greylisted"
    NETWORK = "network"
    TLS = "tls"
    SYNTAX = "syntax"
    SYSTEM = "system"
    EXPIRED = "expired"
    UNCLASSIFIED = "unclassified"
    POLICY = "policy"
    REPUTATION = "reputation"
    AUTH_FAILED = "auth_failed"
    CONTENT_SPAM = "content_spam"
    CONTENT_VIRUS = "content_virus"
    COMPLAINT = "complaint"
    UNSUBSCRIBED = "unsubscribed"
    NOT_SPAM = "not_spam"
    AUTH_REPORT = "auth_report"
    AUTO_REPLY = "auto_reply"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class ClassMeaning:
    """What a class means.

    Attributes:
        kind: what follows from it.
        english: a sentence for support staff.
        german: the same in German.
    """

    kind: Kind
    english: str
    german: str


CLASS_MEANING: Final[dict[ReplyClass, ClassMeaning]] = {
    ReplyClass.RECIPIENT_UNKNOWN: ClassMeaning(
        Kind.HARD, "There is no such mailbox.", "Dieses Postfach gibt es nicht."
    ),
    ReplyClass.DOMAIN_UNKNOWN: ClassMeaning(
        Kind.HARD, "There is no such mail domain.", "Diese Maildomain gibt es nicht."
    ),
    ReplyClass.RECIPIENT_MOVED: ClassMeaning(
        Kind.HARD, "The recipient is no longer at this address.", "Der Empfänger ist unter dieser Adresse nicht mehr."
    ),
    ReplyClass.MAILBOX_FULL: ClassMeaning(Kind.SOFT, "The mailbox is full.", "Das Postfach ist voll."),
    ReplyClass.RECIPIENT_DISABLED: ClassMeaning(
        Kind.SOFT,
        "The mailbox exists but is disabled, suspended or unused.",
        "Das Postfach gibt es, es ist aber gesperrt, stillgelegt oder unbenutzt.",
    ),
    ReplyClass.RECIPIENT_REFUSED: ClassMeaning(
        Kind.SOFT,
        "The recipient was refused without saying whether the mailbox exists.",
        "Der Empfänger wurde abgelehnt, ohne zu sagen, ob es das Postfach gibt.",
    ),
    ReplyClass.NO_MAIL_HOST: ClassMeaning(
        Kind.SOFT, "The domain exists but takes no mail.", "Die Domain gibt es, sie nimmt aber keine Mail an."
    ),
    ReplyClass.MESSAGE_TOO_LARGE: ClassMeaning(
        Kind.SOFT, "The mail is larger than the far side takes.", "Die Mail ist größer, als die Gegenseite annimmt."
    ),
    ReplyClass.CONTENT_REFUSED: ClassMeaning(
        Kind.SOFT,
        "The far side does not take mail of this form (headers, attachments, encoding).",
        "Die Gegenseite nimmt Mail in dieser Form nicht an (Kopfzeilen, Anhänge, Kodierung).",
    ),
    ReplyClass.SENDER_REFUSED: ClassMeaning(
        Kind.SOFT,
        "This sender address may not write to this recipient.",
        "Diese Absenderadresse darf diesem Empfänger nicht schreiben.",
    ),
    ReplyClass.RELAY_DENIED: ClassMeaning(
        Kind.SOFT,
        "The host does not take mail for this domain.",
        "Der Mailserver nimmt für diese Domain keine Mail an.",
    ),
    ReplyClass.RATE_LIMITED: ClassMeaning(
        Kind.SOFT,
        "Too much mail at once; the far side asks us to slow down.",
        "Zu viel Mail auf einmal; die Gegenseite bittet um ein langsameres Tempo.",
    ),
    ReplyClass.GREYLISTED: ClassMeaning(
        Kind.SOFT,
        "The far side wants to see whether we try again (greylisting).",
        "Die Gegenseite will sehen, ob wir es erneut versuchen (Greylisting).",
    ),
    ReplyClass.NETWORK: ClassMeaning(
        Kind.SOFT, "The mail host could not be reached.", "Der Mailserver war nicht erreichbar."
    ),
    ReplyClass.TLS: ClassMeaning(
        Kind.SOFT,
        "No encrypted connection as required could be made.",
        "Eine verschlüsselte Verbindung wie verlangt kam nicht zustande.",
    ),
    ReplyClass.SYNTAX: ClassMeaning(
        Kind.SOFT, "The far side did not understand a command.", "Die Gegenseite hat einen Befehl nicht verstanden."
    ),
    ReplyClass.SYSTEM: ClassMeaning(
        Kind.SOFT, "The far side has trouble of its own.", "Die Gegenseite hat selbst eine Störung."
    ),
    ReplyClass.EXPIRED: ClassMeaning(
        Kind.SOFT, "It could not be delivered in time.", "Sie konnte nicht rechtzeitig zugestellt werden."
    ),
    ReplyClass.UNCLASSIFIED: ClassMeaning(
        Kind.SOFT,
        "The answer fits no rule; it is counted so that a rule can be written.",
        "Die Antwort passt auf keine Regel; sie wird gezählt, damit eine Regel entstehen kann.",
    ),
    ReplyClass.POLICY: ClassMeaning(
        Kind.BLOCK, "A rule of the far side forbids this mail.", "Eine Regel der Gegenseite verbietet diese Mail."
    ),
    ReplyClass.REPUTATION: ClassMeaning(
        Kind.BLOCK,
        "Our IP address or host is blocked, listed or of bad repute.",
        "Unsere IP-Adresse oder unser Host ist gesperrt, gelistet oder hat einen schlechten Ruf.",
    ),
    ReplyClass.AUTH_FAILED: ClassMeaning(
        Kind.BLOCK,
        "The mail did not pass SPF, DKIM or DMARC.",
        "Die Mail hat SPF, DKIM oder DMARC nicht bestanden.",
    ),
    ReplyClass.CONTENT_SPAM: ClassMeaning(
        Kind.BLOCK, "The content was taken for spam.", "Der Inhalt wurde für Spam gehalten."
    ),
    ReplyClass.CONTENT_VIRUS: ClassMeaning(
        Kind.BLOCK, "The content was taken for a virus.", "Der Inhalt wurde für einen Virus gehalten."
    ),
    ReplyClass.COMPLAINT: ClassMeaning(
        Kind.COMPLAINT, "The recipient reported the mail as spam.", "Der Empfänger hat die Mail als Spam gemeldet."
    ),
    ReplyClass.UNSUBSCRIBED: ClassMeaning(
        Kind.COMPLAINT, "The recipient wants no more mail.", "Der Empfänger möchte keine Mail mehr."
    ),
    ReplyClass.NOT_SPAM: ClassMeaning(
        Kind.NOT_A_BOUNCE,
        "The recipient says the mail is not spam.",
        "Der Empfänger sagt, die Mail sei kein Spam.",
    ),
    ReplyClass.AUTH_REPORT: ClassMeaning(
        Kind.COMPLAINT,
        "A report about SPF, DKIM or DMARC, not about a recipient.",
        "Ein Bericht über SPF, DKIM oder DMARC, nicht über einen Empfänger.",
    ),
    ReplyClass.AUTO_REPLY: ClassMeaning(
        Kind.NOT_A_BOUNCE, "An automatic answer, such as out of office.", "Eine Abwesenheits- oder andere Autoantwort."
    ),
    ReplyClass.DELIVERED: ClassMeaning(
        Kind.NOT_A_BOUNCE, "A report that the mail was delivered.", "Ein Bericht, dass die Mail zugestellt wurde."
    ),
}
"""Every class with what it means; complete by test."""

HARD_CLASSES: Final = frozenset(name for name, meaning in CLASS_MEANING.items() if meaning.kind is Kind.HARD)
"""The only classes after which an address counts as dead."""
