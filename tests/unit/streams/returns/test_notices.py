"""Notices of another sending service: JSON in a mail."""

from __future__ import annotations

import json

import pytest

from depesche.schemas.reply_classes import Kind, ReplyClass
from depesche.streams.mail.bounce import read
from depesche.streams.mail.returns.report import Action, Source

MAIL = {"source": "b-4711@bounce.example.com", "headers": [{"name": "Message-ID", "value": "<4711@example.com>"}]}


def notice(**parts: object) -> bytes:
    text = json.dumps({"notificationType": "x", "mail": MAIL, **parts})
    return f"From: no-reply@sns.example\nSubject: Notification\n\n{text}\n\n--\nTo stop this, click.\n".encode()


def test_a_bounce_is_read() -> None:
    gone = {"emailAddress": "gone@example.org", "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 user unknown"}
    (report,) = read(notice(bounce={"bounceType": "Permanent", "bouncedRecipients": [gone]}))
    assert (report.recipient, report.action, report.source) == ("gone@example.org", Action.FAILED, Source.NOTICE)
    assert (report.verdict.reply_class, report.verdict.suppress) == (ReplyClass.RECIPIENT_UNKNOWN, True)
    assert report.returned.mail_from == "b-4711@bounce.example.com"
    assert report.returned.get("message-id") == "<4711@example.com>"


def test_a_complaint_and_a_delivery_are_read() -> None:
    who = [{"emailAddress": "ada@example.org"}]
    (complaint,) = read(notice(complaint={"complainedRecipients": who, "complaintFeedbackType": "abuse"}))
    assert (complaint.action, complaint.verdict.kind, complaint.verdict.suppress) == (
        Action.COMPLAINED,
        Kind.COMPLAINT,
        True,
    )
    (delivery,) = read(notice(delivery={"recipients": ["ada@example.org"], "smtpResponse": "250 2.6.0 taken"}))
    assert (delivery.recipient, delivery.verdict.kind) == ("ada@example.org", Kind.NOT_A_BOUNCE)


def test_lines_that_a_mail_host_broke_are_joined() -> None:
    mail = notice(delivery={"recipients": ["ada@example.org"]}).replace(b"ada@exam", b"ada@ex!\n am")
    assert [report.recipient for report in read(mail)] == ["ada@example.org"]


@pytest.mark.parametrize(
    "parts",
    [
        {"bounce": 1},
        {"bounce": {"bouncedRecipients": 1}},
        {"bounce": {"bouncedRecipients": [1, None, "x"]}},
        {"delivery": {"recipients": {"a": 1}}},
        {"complaint": None, "mail": "x"},
    ],
)
def test_what_is_not_as_described_gives_no_report(parts: dict[str, object]) -> None:
    assert read(notice(**parts)) == ()


def test_nesting_without_end_gives_no_report() -> None:
    assert read(b'From: a@b.cc\n\n{"notificationType": ' + b"[" * 50_000) == ()
