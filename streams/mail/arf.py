"""Reading feedback reports (RFC 5965, 6591, 6430) and what providers send instead of them.

Beside the standard form there are reports in ``multipart/mixed`` with base64 parts (Comcast), with headers only (Yahoo, Microsoft
since June 2026), with every address masked (Validity's hub, Microsoft), plain copies of the mail with one header of their own
(Microsoft before that), and no report at all but a mail "unsubscribe" to the address of List-Unsubscribe (iCloud). What finds the
unit in all of them is a key of our own in the headers that came back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from depesche.schemas.reply_classes import CLASS_MEANING, ReplyClass
from depesche.streams.mail.dsn import headers_of, returned_headers
from depesche.streams.mail.letter import Part, decode_words
from depesche.streams.mail.patterns import pattern
from depesche.streams.mail.returns.addresses import bare_address, find_addresses, is_masked
from depesche.streams.mail.returns.report import Action, Reply, Report, Returned, Source, verdict

MAX_RECIPIENTS: Final = 100
"""Recipients of one report that are read."""

_FEEDBACK_FIELD = pattern(r"(?m)^[ \t]*feedback-type[ \t]*:")
_COMPLAINT_SUBJECT = pattern(
    r"complaint about message from|e?mail feedback report for ip|spam complaint|abuse report|feedback report"
)
_UNSUBSCRIBE = pattern(
    r"\W*(?:please )?(?:unsubscribe|un-subscribe|remove me|opt[- ]?out|abmelden|abbestellen)\W*(?:me)?\W*"
)
_SUPPRESSING: Final = frozenset({"abuse", "complaint", "opt-out", "opt-out-list"})
_MEANS: Final = {
    "abuse": ReplyClass.COMPLAINT,
    "complaint": ReplyClass.COMPLAINT,
    "fraud": ReplyClass.COMPLAINT,
    "virus": ReplyClass.COMPLAINT,
    "other": ReplyClass.COMPLAINT,
    "miscategorized": ReplyClass.COMPLAINT,
    "opt-out": ReplyClass.UNSUBSCRIBED,
    "opt-out-list": ReplyClass.UNSUBSCRIBED,
    "not-spam": ReplyClass.NOT_SPAM,
    "auth-failure": ReplyClass.AUTH_REPORT,
}
_KNOWN: Final = frozenset(
    {"feedback-type", "user-agent", "version", "original-mail-from", "original-rcpt-to", "source-ip", "arrival-date"}
    | {"received-date", "reporting-mta", "reported-domain", "reported-uri", "authentication-results"}
)
_RECIPIENT_HEADERS: Final = ("x-hmxmroriginalrecipient", "x-original-recipient", "to", "x-original-to", "delivered-to")


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """A feedback report (RFC 5965 3); what was not given is empty.

    Attributes:
        feedback_type: in lower case; ``abuse`` where a report in another form means that.
        user_agent, version: the software that reports.
        original_mail_from: envelope sender of the reported mail (VERP: holds our key).
        original_rcpt_to: the recipients as reported, masked ones as they stand there.
        source_ip, reporting_mta: where the mail came from and who took it; the IP may be no IP.
        arrival: when it came in (Arrival-Date, Yahoo's Received-Date); None when it cannot be read.
        authentication_results: what the reporter found (RFC 8601), may repeat.
        reported_domain, reported_uri: as reported.
        extra: all other fields, in order.
        returned: the headers of the reported mail.
    """

    feedback_type: str
    user_agent: str
    version: str
    original_mail_from: str
    original_rcpt_to: tuple[str, ...]
    source_ip: str
    reporting_mta: str
    arrival: datetime | None
    authentication_results: tuple[str, ...]
    reported_domain: tuple[str, ...]
    reported_uri: tuple[str, ...]
    extra: tuple[tuple[str, str], ...]
    returned: Returned


def read_arf(letter: Part) -> FeedbackReport | None:
    """The feedback report in a mail; None when it holds none in any of the known forms."""
    for part in letter.walk():
        if part.type == "message/feedback-report":
            return _report(headers_of(part.text), returned_headers(letter))
    for part in letter.walk():
        # Gateways turn the report into text; the field is not to be found in other mail.
        if part.is_plain and _FEEDBACK_FIELD.search(part.text):
            return _report(_from_field(part.text), returned_headers(letter))
    return _copy_of_the_mail(letter)


def complaints(letter: Part) -> tuple[Report, ...]:
    """One report for each recipient of a feedback report, with an empty recipient when it is masked; none for other mail."""
    feedback = read_arf(letter)
    if feedback is None:
        return _unsubscribe(letter)
    recipients = feedback.original_rcpt_to or _returned_recipients(feedback) or ("",)
    return tuple(_complaint(feedback, recipient) for recipient in recipients[:MAX_RECIPIENTS])


def _complaint(feedback: FeedbackReport, recipient: str) -> Report:
    found = _MEANS.get(feedback.feedback_type, ReplyClass.COMPLAINT)
    wanted = found in (ReplyClass.COMPLAINT, ReplyClass.UNSUBSCRIBED)
    action = {ReplyClass.COMPLAINT: Action.COMPLAINED, ReplyClass.UNSUBSCRIBED: Action.UNSUBSCRIBED}.get(
        found, Action.NOTED
    )
    return Report(
        recipient="" if is_masked(recipient) else recipient,
        action=action,
        reply=Reply(host=feedback.reporting_mta or feedback.user_agent.partition("/")[0].lower()),
        verdict=verdict(
            found,
            CLASS_MEANING[found].kind,
            f"feedback:{feedback.feedback_type}",
            suppress=wanted and feedback.feedback_type in _SUPPRESSING,
        ),
        source=Source.ARF,
        feedback_type=feedback.feedback_type,
        returned=feedback.returned,
    )


def _report(fields: tuple[tuple[str, str], ...], returned: Returned) -> FeedbackReport:
    first = dict(reversed(fields))
    mail_from = bare_address(first.get("original-mail-from", "")) or returned.mail_from
    kind = first.get("feedback-type", "").partition(";")[0].partition(" ")[0].strip().lower()
    return FeedbackReport(
        feedback_type=kind or "abuse",
        user_agent=first.get("user-agent", ""),
        version=first.get("version", ""),
        original_mail_from=mail_from,
        original_rcpt_to=_each(value for name, value in fields if name == "original-rcpt-to"),
        source_ip=first.get("source-ip", ""),
        reporting_mta=first.get("reporting-mta", "").rpartition(";")[2].strip().lower(),
        arrival=_time(first.get("arrival-date") or first.get("received-date", "")),
        authentication_results=tuple(value for name, value in fields if name == "authentication-results"),
        reported_domain=tuple(value for name, value in fields if name == "reported-domain"),
        reported_uri=tuple(value for name, value in fields if name == "reported-uri"),
        extra=tuple((name, value) for name, value in fields if name not in _KNOWN),
        returned=Returned(returned.headers, mail_from),
    )


def _time(value: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(value[:100])
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        # A stranger's date may be anything, and the library says so in all these ways.
        return None


def _from_field(text: str) -> tuple[tuple[str, str], ...]:
    """The fields of a report that stands somewhere in a text."""
    match = _FEEDBACK_FIELD.search(text)
    return headers_of(text[match.start() :].lstrip()) if match is not None else ()


def _each(values: Iterable[str]) -> tuple[str, ...]:
    """Every address in repeated or comma-separated fields, once each."""
    return tuple(dict.fromkeys(address for value in values for address in find_addresses(value)))


def _copy_of_the_mail(letter: Part) -> FeedbackReport | None:
    """Microsoft's complaints until June 2026 and their like: the mail itself, in it a header with the recipient."""
    returned = returned_headers(letter)
    recipient = bare_address(returned.get("x-hmxmroriginalrecipient"))
    if not recipient and not (returned.headers and _COMPLAINT_SUBJECT.search(decode_words(letter.get("subject")))):
        return None
    fields = (("feedback-type", "abuse"), ("user-agent", bare_address(letter.get("from"))))
    return _report((*fields, *((("original-rcpt-to", recipient),) if recipient else ())), returned)


def _returned_recipients(feedback: FeedbackReport) -> tuple[str, ...]:
    """Whom the reported mail was for, if its headers leave no doubt."""
    named = _each(value for name, value in feedback.extra if name == "removal-recipient")
    if named:
        return named
    for header in _RECIPIENT_HEADERS:
        found = _each((feedback.returned.get(header),))
        if len(found) == 1 and not is_masked(found[0]):
            return found
    return ()


def _unsubscribe(letter: Part) -> tuple[Report, ...]:
    """A mail from the recipient to the mailto address of List-Unsubscribe (RFC 2369 3.2); the key is in that address."""
    if not _UNSUBSCRIBE.fullmatch(decode_words(letter.get("subject"))):
        return ()
    sender = bare_address(letter.get("from"))
    if not sender:
        return ()
    found = ReplyClass.UNSUBSCRIBED
    said = verdict(found, CLASS_MEANING[found].kind, "subject:unsubscribe", suppress=True)
    return (Report(sender, Action.UNSUBSCRIBED, Reply(), said, Source.UNSUBSCRIBE, feedback_type="opt-out"),)
