"""What an answer means for the unit: delivered, tried again, or given up; and of what kind the reason is.

The first digit decides about the unit (RFC 5321 4.2.1), the enhanced code about the kind. "5xx is hard" is the mistake to
avoid: only a recipient or domain that does not exist is hard. The tables are data, so that classification by provider rules
can take their place without touching the courier.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["delivered", "deferred", "bounced"]
Kind = Literal["", "hard", "soft", "block"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer means.

    Attributes:
        verdict: what happens to the unit.
        reply_class: why, as in ``recipient_unknown``; ``unclassified`` when the codes do not tell.
        kind: ``hard``: this address is dead; ``block``: we are not welcome; ``soft``: anything else; empty when delivered.
        enhanced: the enhanced status code, given or derived.
    """

    verdict: Verdict
    reply_class: str
    kind: Kind
    enhanced: str


CLASSES: dict[str, tuple[str, Kind]] = {
    "1.0": ("address", "soft"),
    "1.1": ("recipient_unknown", "hard"),
    "1.2": ("domain_unknown", "hard"),
    "1.3": ("address_syntax", "hard"),
    "1.4": ("recipient_ambiguous", "soft"),
    "1.6": ("recipient_moved", "hard"),
    "1.7": ("sender_address", "block"),
    "1.8": ("sender_address", "block"),
    "1.10": ("null_mx", "hard"),
    "2.0": ("mailbox", "soft"),
    "2.1": ("mailbox_disabled", "soft"),
    "2.2": ("mailbox_full", "soft"),
    "2.3": ("too_large", "soft"),
    "2.4": ("mailing_list", "soft"),
    "3.0": ("system", "soft"),
    "3.1": ("system_full", "soft"),
    "3.2": ("system_closed", "soft"),
    "3.3": ("system_incapable", "soft"),
    "3.4": ("too_large", "soft"),
    "3.5": ("system", "soft"),
    "4.0": ("network", "soft"),
    "4.1": ("no_answer", "soft"),
    "4.2": ("bad_connection", "soft"),
    "4.3": ("dns", "soft"),
    "4.4": ("no_route", "soft"),
    "4.5": ("congestion", "soft"),
    "4.6": ("loop", "soft"),
    "4.7": ("expired", "soft"),
    "5.0": ("protocol", "soft"),
    "5.3": ("too_many_recipients", "soft"),
    "6.0": ("content", "block"),
    "6.3": ("eight_bit_not_taken", "soft"),
    "6.7": ("smtputf8_not_taken", "soft"),
    "7.0": ("policy", "block"),
    "7.1": ("policy", "block"),
    "7.5": ("tls", "soft"),
    "7.20": ("sender_auth", "block"),
    "7.21": ("sender_auth", "block"),
    "7.22": ("sender_auth", "block"),
    "7.23": ("sender_auth", "block"),
    "7.24": ("sender_auth", "block"),
    "7.25": ("sender_ptr", "block"),
    "7.26": ("sender_auth", "block"),
    "7.27": ("sender_null_mx", "block"),
    "7.28": ("rate", "block"),
    "7.29": ("sender_auth", "block"),
    "7.515": ("sender_auth", "block"),
}
"""Subject and detail of an enhanced status code (RFC 3463 and the IANA registry) to class and kind."""

SUBJECTS: dict[str, tuple[str, Kind]] = {
    "1": ("address", "soft"),
    "2": ("mailbox", "soft"),
    "3": ("system", "soft"),
    "4": ("network", "soft"),
    "5": ("protocol", "soft"),
    "6": ("content", "soft"),
    "7": ("policy", "block"),
}

STEPS: dict[str, str] = {
    "dns": "dns",
    "connect": "no_answer",
    "banner": "no_greeting",
    "ehlo": "no_greeting",
    "starttls": "tls",
    "mail": "connection_lost",
    "rcpt": "connection_lost",
    "data": "connection_lost",
    "content": "connection_lost",
    "dot": "connection_lost",
}
"""The class where there was no reply, by the step at which there was none."""

_AMBIGUOUS: tuple[str, Kind] = ("ambiguous", "soft")
_NEVER_FOR_GOOD = frozenset({530})
"""Refusals of what we did and not of the mail: "issue STARTTLS first" after TLS had failed."""


def judge(step: str, code: int, enhanced: str, *, tls: str = "", ambiguous: bool = False) -> Judgement:
    """What the answer ``code`` at ``step`` means.

    Args:
        step: how far the conversation had come, see ``AttemptDetail.step``.
        code: SMTP reply code, 0 for none.
        enhanced: enhanced status code, given by the host or, without a reply code, decided by ourselves; may be empty.
        tls: how the connection was encrypted, empty for plain text.
        ambiguous: whether the host may have the mail although no reply was read.
    """
    digit = code // 100 or int(enhanced[:1] or 4)
    if step == "dot" and digit == 2 and not ambiguous:
        return Judgement("delivered", "", "", enhanced or "2.0.0")
    for_good = digit == 5 and not ambiguous and step != "starttls" and not (code in _NEVER_FOR_GOOD and not tls)
    reply_class, kind = _AMBIGUOUS if ambiguous else _classified(step, code, enhanced)
    derived = enhanced or ("5.0.0" if for_good else _derived(step))
    return Judgement("bounced" if for_good else "deferred", reply_class, kind, derived)


def _classified(step: str, code: int, enhanced: str) -> tuple[str, Kind]:
    _, _, rest = enhanced.partition(".")
    if step == "starttls":
        # Whatever the host's words: there was no encryption where it had to be.
        return "tls", "soft"
    if rest in CLASSES:
        return CLASSES[rest]
    if rest and not rest.startswith("0"):
        return SUBJECTS.get(rest.partition(".")[0], ("unclassified", "soft"))
    if code == 0:
        return STEPS.get(step, "unclassified"), "soft"
    return ("busy", "soft") if code == 421 else ("unclassified", "soft")


def _derived(step: str) -> str:
    if step == "dns":
        return "4.4.3"
    return "4.4.1" if step in ("connect", "banner") else "4.4.2" if step in STEPS else "4.0.0"


_QUEUE_ID = (
    re.compile(r"queued (?:mail )?(?:for delivery )?as[: ]+<?([A-Za-z0-9._+-]{4,80})"),
    re.compile(r"\bid=([A-Za-z0-9._-]{4,80})"),
    re.compile(r"\bInternalId=([0-9]{4,30})"),
    re.compile(r"(\S{8,80}) - gsmtp\Z"),
    re.compile(r"\bkept in ([A-Za-z0-9._-]{1,80})"),
)


def queue_id(text: str) -> str:
    """The queue id in the words of an acceptance, as Postfix, Exim, Exchange and Google write it; empty if none is known.

    The words come from strangers: they are cut to 2,000 characters before, and each pattern looks at a character once.
    """
    for pattern in _QUEUE_ID:
        match = pattern.search(text)
        if match:
            return match[1]
    return ""
