"""Reading whatever comes back: delivery reports, feedback reports, automatic answers, and bounces in nobody's format.

One entry, `read`: bytes in, one report for each recipient out. It never raises for what a stranger wrote, is bounded in time, and
says nothing rather than something wrong: a mail that is none of these gives no report. It does not know whether a report is
genuine; only our key in the return path or in the returned headers can tell that.
"""

from __future__ import annotations

from typing import Final

from depesche.streams.mail.arf import complaints
from depesche.streams.mail.dsn import (
    RETURNED_TYPES,
    STATUS_TYPES,
    DeliveryReport,
    headers_of,
    human_text,
    read_status,
    returned_headers,
)
from depesche.streams.mail.letter import Part, decode_words, read_letter
from depesche.streams.mail.returns.addresses import bare_address, find_addresses
from depesche.streams.mail.returns.automatic import automatic_answer
from depesche.streams.mail.returns.mentions import Mention, find_mentions
from depesche.streams.mail.returns.phrases import phrases
from depesche.streams.mail.returns.prose import Prose, read_prose
from depesche.streams.mail.returns.replies import read_reply
from depesche.streams.mail.returns.report import Reply, Report, Returned, Source
from depesche.streams.mail.returns.weighing import quoted_replies, weigh, what_happened

_MAX_NESTING: Final = 3
_OWN_HEADERS: Final = ("from", "to", "reply-to", "sender", "errors-to", "return-path", "cc")


def read(mail: bytes) -> tuple[Report, ...]:
    """What a returned mail says, one report for each recipient; empty when it is nothing of the kind.

    Args:
        mail: the whole mail; line ends may be CRLF, LF or CR. At most `letter.MAX_BYTES` are read.
    """
    return _read(read_letter(mail), 0)


def _read(letter: Part, depth: int) -> tuple[Report, ...]:
    reports = complaints(letter)
    if reports:
        return reports
    prose = read_prose(human_text(letter))
    returned = _returned(letter, prose)
    for status in _status_texts(letter):
        report = read_status(status)
        if report is not None:
            found = _from_dsn(letter, report, prose, returned)
            if found:
                return found
    bounced = _is_bounce(letter, prose)
    if not bounced:
        return automatic_answer(letter) or _inside(letter, prose, depth)
    return (
        _from_prose(letter, prose, returned) or _inside(letter, prose, depth) or _from_returned(letter, prose, returned)
    )


def _from_dsn(letter: Part, report: DeliveryReport, prose: Prose, returned: Returned) -> tuple[Report, ...]:
    """One report for each block of fields; an address that is missing there is taken from the words."""
    mentions = {one.address.lower(): one for one in find_mentions(prose, _own_addresses(letter))}
    spare = _named(letter, mentions)
    alone = len(report.recipients) == 1
    found: list[Report] = []
    for status in report.recipients:
        recipient = status.recipient or (spare[0] if alone and len(spare) == 1 else "")
        if not recipient and not status.original_recipient:
            continue
        mention = mentions.get(recipient.lower())
        action = status.action or what_happened(prose.text, decode_words(letter.get("subject")))
        answer = read_reply(status.diagnostic, enhanced=status.status, host=status.remote_mta)
        weighed = weigh(
            [answer, *_answers(prose, recipient, mention, alone=alone)],
            _beside(mention),
            [status.status_comment, *_elsewhere(prose, mention, alone=alone)],
            action,
        )
        original = status.original_recipient if status.original_recipient != recipient else ""
        found.append(Report(recipient, action, weighed.reply, weighed.verdict, Source.DSN, original, "", returned))
    return tuple(found)


def _from_prose(letter: Part, prose: Prose, returned: Returned) -> tuple[Report, ...]:
    """One report for each recipient that headers or words name."""
    mentions = {one.address.lower(): one for one in find_mentions(prose, _own_addresses(letter))}
    recipients = _named(letter, mentions)
    return _by_words(letter, prose, returned, recipients, mentions)


def _from_returned(letter: Part, prose: Prose, returned: Returned) -> tuple[Report, ...]:
    """A report about the one recipient of the mail that came back, where the words name none."""
    for name in ("x-failed-recipients", "x-original-to", "delivered-to", "to"):
        addresses = list(dict.fromkeys(find_addresses(decode_words(returned.get(name)))))
        if len(addresses) == 1:
            return _by_words(letter, prose, returned, addresses, {})
    return ()


def _by_words(
    letter: Part, prose: Prose, returned: Returned, recipients: list[str], mentions: dict[str, Mention]
) -> tuple[Report, ...]:
    subject = decode_words(letter.get("subject"))
    action = what_happened(prose.text, subject)
    alone = len(recipients) == 1
    found: list[Report] = []
    for recipient in recipients:
        mention = mentions.get(recipient.lower())
        answers = _answers(prose, recipient, mention, alone=alone)
        weighed = weigh(answers, _beside(mention), [*_elsewhere(prose, mention, alone=alone), subject], action)
        found.append(Report(recipient, action, weighed.reply, weighed.verdict, Source.PROSE, returned=returned))
    return tuple(found)


def _answers(prose: Prose, recipient: str, mention: Mention | None, *, alone: bool) -> list[Reply]:
    """Replies that the words quote about a recipient; about a single one, all that they quote."""
    near = mention.after if mention is not None else ""
    quoted = [*quoted_replies(near, recipient), *(quoted_replies(prose.text, recipient) if alone else ())]
    host = read_reply(near).host
    return [read_reply(text, host=host) for text in dict.fromkeys(quoted)]


def _beside(mention: Mention | None) -> list[str]:
    """What the reporter says about a recipient in its own words, from the address on."""
    return [mention.after] if mention is not None else []


def _elsewhere(prose: Prose, mention: Mention | None, *, alone: bool) -> list[str]:
    """What else it says: in front of the address, and about a single recipient anywhere."""
    return [*((mention.before,) if mention is not None else ()), *((prose.text,) if alone else ())]


def _named(letter: Part, mentions: dict[str, Mention]) -> list[str]:
    """The failed recipients: those in X-Failed-Recipients, else those the words mention."""
    header = ", ".join(letter.get_all("x-failed-recipients"))
    return list(dict.fromkeys(find_addresses(decode_words(header)))) or [one.address for one in mentions.values()]


def _status_texts(letter: Part) -> list[str]:
    """Texts that may hold the fields of a delivery report: its own parts, else the words for people."""
    parts = [part.text for part in letter.walk() if part.type in STATUS_TYPES]
    return parts or [human_text(letter)]


def _returned(letter: Part, prose: Prose) -> Returned:
    """The headers of our mail, from a part of their own or from below the words."""
    found = returned_headers(letter)
    if not found.headers and prose.returned:
        headers = headers_of(prose.returned)
        found = Returned(headers, bare_address(next((value for name, value in headers if name == "return-path"), "")))
    return found


def _inside(letter: Part, prose: Prose, depth: int) -> tuple[Report, ...]:
    """A bounce that somebody passed on inside another mail."""
    if depth >= _MAX_NESTING:
        return ()
    letters = [part.parts[0] for part in letter.walk() if part.type in RETURNED_TYPES and part.parts]
    if not letters and prose.returned:
        letters = [read_letter(prose.returned.encode("utf-8", "replace"))]
    for inner in letters:
        if _from_daemon(inner) or any(part.type in STATUS_TYPES for part in inner.walk()):
            found = _read(inner, depth + 1)
            if any(report.source in (Source.DSN, Source.PROSE) for report in found):
                return found
    return ()


def _is_bounce(letter: Part, prose: Prose) -> bool:
    """Whether a mail tells of a delivery at all; an automatic answer or an ordinary letter does not."""
    if letter.get("x-failed-recipients") or any(part.type in STATUS_TYPES for part in letter.walk()):
        return True
    if letter.type == "multipart/report" and "delivery" in letter.parameter("report-type").lower():
        return True
    subject = phrases().subjects.search(decode_words(letter.get("subject"))) is not None
    failure = phrases().failures.search(prose.text) is not None
    return (subject or failure) if _from_daemon(letter) else (subject and failure)


def _from_daemon(letter: Part) -> bool:
    sender = decode_words(letter.get("from"))
    return not sender or sender.strip() == "<>" or phrases().daemons.search(sender) is not None


def _own_addresses(letter: Part) -> frozenset[str]:
    """The addresses of the returned mail itself: of its sender and of us."""
    return frozenset(
        address.lower() for name in _OWN_HEADERS for value in letter.get_all(name) for address in find_addresses(value)
    )
