"""What a returned mail means for a unit: bounced, complained, unsubscribed, or nothing at all.

Nothing: a delay, a receipt, an automatic answer, "this is not spam", a report about authentication, and what is not understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from depesche.schemas.records import EventType
from depesche.schemas.reply_classes import CLASS_MEANING, ReplyClass
from depesche.schemas.return_key import Purpose, ReturnKeys
from depesche.streams.mail import bounce
from depesche.streams.mail.letter import read_letter
from depesche.streams.mail.returns.addresses import bare_address, same_address
from depesche.streams.mail.returns.automatic import answers_by_itself
from depesche.streams.mail.returns.keys import Found, find_units
from depesche.streams.mail.returns.report import Action, Reply, Report, Source, verdict

_TYPES: Final = {
    Action.COMPLAINED: EventType.COMPLAINED,
    Action.UNSUBSCRIBED: EventType.UNSUBSCRIBED,
    Action.FAILED: EventType.BOUNCED,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A returned mail, read.

    Attributes:
        units: what it is about; empty when no key of ours was found.
        reports: what it says, one for each recipient that it names.
        automatic: whether a program answered by itself.
        sender: who it says it is from.
    """

    units: tuple[Found, ...]
    reports: tuple[Report, ...]
    automatic: bool
    sender: str


@dataclass(frozen=True, slots=True)
class Fact:
    """What happened to a unit, and the report that says so."""

    type: EventType
    report: Report


def read_returned(mail: bytes, recipients: Sequence[str], keys: ReturnKeys) -> Reading:
    """Read a returned mail. Never raises for what a stranger wrote; the time is linear in its size.

    Args:
        mail: as received.
        recipients: envelope recipients that it came to.
        keys: find the units.
    """
    letter = read_letter(mail)
    units = find_units(letter, recipients, keys)
    reports = bounce.read(mail) if units else ()
    return Reading(units, reports, bool(answers_by_itself(letter)), bare_address(letter.get("from")))


def fact_of(reading: Reading, purpose: Purpose, recipient: str) -> Fact | None:
    """What a reading means for one of its units; None: nothing.

    Args:
        reading: see there.
        purpose: of the key that named the unit.
        recipient: whom the unit was for, empty when that is not known any more. It chooses among several reports, no more.
    """
    if purpose is Purpose.UNSUBSCRIBE:
        return _unsubscribed(reading)
    wanted = [report for report in reading.reports if _counts(report)]
    if not wanted:
        return None
    about = [report for report in wanted if recipient and same_address(recipient, report.recipient)]
    chosen = (about or wanted)[0]
    return Fact(_TYPES[chosen.action], chosen)


def _counts(report: Report) -> bool:
    # A letter "unsubscribe" is an order only at the address that was made for it.
    return report.action in _TYPES and report.source is not Source.UNSUBSCRIBE


def _unsubscribed(reading: Reading) -> Fact | None:
    """Any mail that a person sends to the address of a mailto unsubscribe is one (RFC 2369 3.2), whatever its subject."""
    said = reading.reports[0] if reading.reports else None
    if said is not None:
        return Fact(EventType.UNSUBSCRIBED, said) if said.action is Action.UNSUBSCRIBED else None
    if reading.automatic:
        return None
    found = ReplyClass.UNSUBSCRIBED
    weighed = verdict(found, CLASS_MEANING[found].kind, "address:unsubscribe", suppress=True)
    report = Report(reading.sender, Action.UNSUBSCRIBED, Reply(), weighed, Source.UNSUBSCRIBE, feedback_type="opt-out")
    return Fact(EventType.UNSUBSCRIBED, report)
