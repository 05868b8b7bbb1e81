"""Complaints in the shapes that providers send: RFC 5965 and what is sent instead of it (standards note 4.3)."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from depesche.schemas.reply_classes import Kind, ReplyClass
from depesche.streams.mail.arf import read_arf
from depesche.streams.mail.bounce import read
from depesche.streams.mail.letter import read_letter
from depesche.streams.mail.returns.report import Action, Report

OURS = """Return-Path: <b-4711@bounce.example.com>
Message-ID: <key-4711@example.com>
Feedback-ID: key-4711:shop
From: Shop <shop@example.com>
To: {to}
Subject: Your order
"""
KEY = "key-4711"


def complaint(
    fields: str, *, to: str = "ada@example.org", kind: str = "multipart/report; report-type=feedback-report"
) -> bytes:
    return f"""From: feedback@provider.example
Subject: FW: Your order
Content-Type: {kind}; boundary=b

--b
Content-Type: text/plain

This is an email abuse report.
--b
Content-Type: message/feedback-report

{fields.strip()}
--b
Content-Type: message/rfc822

{OURS.format(to=to)}
Hello
--b--
""".encode()


MINIMAL = "Feedback-Type: abuse\nUser-Agent: Agent/1.0\nVersion: 1"
YAHOO = (
    "Feedback-Type: abuse\nUser-Agent: Yahoo!-Mail-Feedback/2.0\nVersion: 0.1\nOriginal-Mail-From: <b-4711@bounce.example.com>\n"
    "Original-Rcpt-To: ada@example.org\nReceived-Date: Thu, 1 Oct 2026 10:00:00 +0200\nReported-Domain: example.com\n"
    "Authentication-Results: mta.provider.example; dkim=pass"
)
HUB = (
    "Feedback-Type: abuse\nUser-Agent: ReturnPathFBL/2.0\nVersion: 1\nSource: Provider\nAbuse-Type: complaint\n"
    "Source-IP: x.x.x.x\nOriginal-Rcpt-To: 7f3c0a8f5dd04a@provider.example\nSubscription-Link: https://fbl.example/x"
)


def found_key(report: Report) -> bool:
    return any(KEY in value for _, value in report.returned.headers)


def test_the_fields_of_a_report_are_read() -> None:
    feedback = read_arf(read_letter(complaint(YAHOO)))
    assert feedback is not None
    assert (feedback.feedback_type, feedback.user_agent, feedback.version) == (
        "abuse",
        "Yahoo!-Mail-Feedback/2.0",
        "0.1",
    )
    assert feedback.original_mail_from == "b-4711@bounce.example.com"
    assert feedback.original_rcpt_to == ("ada@example.org",)
    assert feedback.arrival == datetime(2026, 10, 1, 8, 0, tzinfo=UTC)
    assert feedback.authentication_results == ("mta.provider.example; dkim=pass",)
    assert feedback.extra == ()


def test_a_minimal_report_finds_the_recipient_in_the_returned_mail() -> None:
    (report,) = read(complaint(MINIMAL))
    assert (report.recipient, report.action, report.verdict.kind) == (
        "ada@example.org",
        Action.COMPLAINED,
        Kind.COMPLAINT,
    )
    assert report.verdict.suppress


def test_the_hub_masks_and_the_key_is_still_there() -> None:
    (report,) = read(complaint(HUB, to="redacted@provider.example"))
    assert report.recipient == "7f3c0a8f5dd04a@provider.example"
    assert found_key(report)


@pytest.mark.parametrize(
    "masked", ["redacted@redacted.example", "xxxxx@provider.example", "undisclosed-recipients:;", ""]
)
def test_a_masked_recipient_is_no_recipient_and_the_key_is_still_there(masked: str) -> None:
    (report,) = read(complaint(MINIMAL, to=masked))
    assert report.recipient == ""
    assert found_key(report)
    assert report.returned.mail_from == "b-4711@bounce.example.com"


def test_multipart_mixed_with_base64_parts_is_read() -> None:
    def part(kind: str, text: str) -> str:
        coded = base64.encodebytes(text.encode()).decode()
        return f"--b\nContent-Type: {kind}\nContent-Transfer-Encoding: base64\n\n{coded}\n"

    mail = "From: fbl@provider.example\nSubject: Abuse\nContent-Type: multipart/mixed; boundary=b\n\n" + "".join(
        [
            part("text/plain", "abuse"),
            part("message/feedback-report", f"{MINIMAL}\nOriginal-Rcpt-To: ada@example.org\n"),
            part("message/rfc822", OURS.format(to="ada@example.org") + "\nHello"),
            "--b--\n",
        ]
    )
    (report,) = read(mail.encode())
    assert (report.recipient, report.verdict.kind, found_key(report)) == ("ada@example.org", Kind.COMPLAINT, True)


def test_headers_only_is_enough() -> None:
    mail = complaint(YAHOO).replace(b"message/rfc822", b"text/rfc822-headers").replace(b"\nHello\n", b"")
    (report,) = read(mail)
    assert found_key(report)


def test_microsoft_before_2026_sent_the_mail_itself() -> None:
    mail = f"""From: staff@hotmail.example
Subject: complaint about message from 192.0.2.1
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: message/rfc822

X-HmXmrOriginalRecipient: ada@outlook.example
{OURS.format(to="somebody@outlook.example")}
Hello
--b--
"""
    (report,) = read(mail.encode())
    assert (report.recipient, report.verdict.reply_class) == ("ada@outlook.example", ReplyClass.COMPLAINT)


def test_microsoft_since_2026_sends_headers_with_every_address_masked() -> None:
    # Built from the description in the standards note: no public sample was to be had.
    mail = complaint(
        "Feedback-Type: abuse\nUser-Agent: JMRP/2.0\nVersion: 1\nOriginal-Rcpt-To: redacted@outlook.example",
        to="redacted@x.example",
    )
    (report,) = read(mail.replace(b"message/rfc822", b"text/rfc822-headers"))
    assert (report.recipient, report.verdict.suppress, found_key(report)) == ("", True, True)


def test_several_recipients_are_several_complaints() -> None:
    fields = f"{MINIMAL}\nOriginal-Rcpt-To: ada@example.org\nOriginal-Rcpt-To: <bob@example.org>, eve@example.org"
    assert [one.recipient for one in read(complaint(fields))] == [
        "ada@example.org",
        "bob@example.org",
        "eve@example.org",
    ]


@pytest.mark.parametrize(
    ("kind", "reply_class", "action", "suppress"),
    [
        ("abuse", ReplyClass.COMPLAINT, Action.COMPLAINED, True),
        ("fraud", ReplyClass.COMPLAINT, Action.COMPLAINED, False),
        ("opt-out", ReplyClass.UNSUBSCRIBED, Action.UNSUBSCRIBED, True),
        ("virus", ReplyClass.COMPLAINT, Action.COMPLAINED, False),
        ("other", ReplyClass.COMPLAINT, Action.COMPLAINED, False),
        ("not-spam", ReplyClass.NOT_SPAM, Action.NOTED, False),
        ("auth-failure", ReplyClass.AUTH_REPORT, Action.NOTED, False),
        ("x-new", ReplyClass.COMPLAINT, Action.COMPLAINED, False),
    ],
)
def test_only_what_the_recipient_wants_suppresses(
    kind: str, reply_class: ReplyClass, action: Action, suppress: bool
) -> None:
    (report,) = read(complaint(f"Feedback-Type: {kind}\nUser-Agent: Agent/1.0\nVersion: 1\nUnknown-Field: ignored"))
    assert (report.verdict.reply_class, report.action, report.verdict.suppress) == (reply_class, action, suppress)
    assert report.feedback_type == kind


def test_a_mail_unsubscribe_unsubscribes_its_sender() -> None:
    (report,) = read(b"From: Ada <ada@icloud.example>\nTo: u-4711@bounce.example.com\nSubject: unsubscribe\n\n")
    assert (report.recipient, report.action, report.verdict.suppress) == (
        "ada@icloud.example",
        Action.UNSUBSCRIBED,
        True,
    )


def test_a_question_about_unsubscribing_does_not() -> None:
    assert read(b"From: Ada <ada@icloud.example>\nSubject: How do I unsubscribe my cat?\n\nPlease tell me.\n") == ()


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
@pytest.mark.parametrize("fields", [MINIMAL, YAHOO, HUB])
def test_line_ends_make_no_difference(fields: str, line_end: bytes) -> None:
    assert read(complaint(fields).replace(b"\n", line_end)) == read(complaint(fields))


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Thu, 99 Foo 2026", "1" * 5_000, "Thu, 1 Oct 99999999 10:00:00 +0200"]
)
def test_a_date_that_is_none_is_none(date: str) -> None:
    feedback = read_arf(read_letter(complaint(f"{MINIMAL}\nArrival-Date: {date}")))
    assert feedback is not None
    assert feedback.arrival is None
