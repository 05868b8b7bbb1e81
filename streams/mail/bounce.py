"""Reading whatever comes back: delivery reports, feedback reports, automatic answers, and bounces in nobody's format.

One entry, `read`: bytes in, one report for each recipient out. It never raises for what a stranger wrote, is bounded in time, and
says nothing rather than something wrong: a mail that is none of these gives no report. It does not know whether a report is
genuine; only our key in the return path or in the returned headers can tell that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from depesche.streams.mail.arf import complaints
from depesche.streams.mail.dsn import RETURNED_TYPES, read_status
from depesche.streams.mail.letter import Part, read_letter
from depesche.streams.mail.returns.automatic import automatic_answer
from depesche.streams.mail.returns.case import Case
from depesche.streams.mail.returns.cut import ends_within, is_open, without_last_line
from depesche.streams.mail.returns.notices import is_notice, read_notice
from depesche.streams.mail.returns.report import Report, Source

_MAX_NESTING: Final = 3


def read(mail: bytes) -> tuple[Report, ...]:
    """What a returned mail says, one report for each recipient; empty when it is nothing of the kind.

    Args:
        mail: the whole mail; line ends may be CRLF, LF or CR. At most `letter.MAX_BYTES` are read.
    """
    reports = _read(read_letter(mail), 0)
    doubtful = [one for one in reports if one.verdict.suppress and (is_open(mail, one) or ends_within(mail, one))]
    if not doubtful:
        return reports
    # What the mail says also without its last line does not hang on how that line went on.
    shorter = _read(read_letter(without_last_line(mail)), 0)
    firm = {one.recipient for one in shorter if one.verdict.suppress and not is_open(mail, one)}
    return tuple(_in_doubt(one) if one in doubtful and one.recipient not in firm else one for one in reports)


def _in_doubt(report: Report) -> Report:
    return replace(report, verdict=replace(report.verdict, suppress=False))


def _read(letter: Part, depth: int) -> tuple[Report, ...]:
    """The first reader that understands the mail, the surest forms first."""
    case = Case.of(letter)
    if is_notice(case.words):
        # What is left of a notice that broke on the way is no prose: the sender stands in it beside the recipient.
        return read_notice(case.words)
    known_form = complaints(letter) or _delivery_reports(case)
    if known_form:
        return known_form
    if not case.is_bounce:
        return automatic_answer(letter) or _passed_on(case, depth)
    return case.by_words(case.recipients) or _passed_on(case, depth) or case.by_words(case.returned_recipient)


def _delivery_reports(case: Case) -> tuple[Report, ...]:
    """Reports from the fields of RFC 3464, in a part of their own or among the words."""
    for text in case.status_texts:
        report = read_status(text)
        found = case.by_fields(report) if report is not None else ()
        if found:
            return found
    return ()


def _passed_on(case: Case, depth: int) -> tuple[Report, ...]:
    """A bounce that somebody passed on inside another mail."""
    if depth >= _MAX_NESTING:
        return ()
    letters = [part.parts[0] for part in case.letter.walk() if part.type in RETURNED_TYPES and part.parts]
    if not letters and case.prose.returned:
        letters = [read_letter(case.prose.returned.encode("utf-8", "replace"))]
    for letter in letters:
        inner = Case.of(letter)
        found = _read(letter, depth + 1) if inner.from_daemon or inner.has_status else ()
        if any(report.source in (Source.DSN, Source.PROSE) for report in found):
            return found
    return ()
