"""Bounces in nobody's format: the families of `samples`, and what must hold for each of them."""

from __future__ import annotations

import base64
import quopri

import pytest

from depesche.schemas.reply_classes import Kind, ReplyClass
from depesche.streams.mail.bounce import read
from depesche.streams.mail.returns.report import Action, Report, Source

from .samples import FULL, GONE, OURS, SAMPLES, Sample

each_family = pytest.mark.parametrize("sample", SAMPLES, ids=[sample.family for sample in SAMPLES])


def told(reports: tuple[Report, ...]) -> tuple[tuple[str, str, str], ...]:
    return tuple((one.recipient, str(one.verdict.reply_class), str(one.action)) for one in reports)


def encoded(sample: Sample, charset: str, encoding: str) -> bytes:
    text = sample.text.lstrip().encode(charset)
    body = base64.encodebytes(text) if encoding == "base64" else quopri.encodestring(text)
    head = (
        f"{sample.headers.strip()}\nContent-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {encoding}"
    )
    return head.encode() + b"\n\n" + body


@each_family
def test_a_bounce_names_its_recipients_and_why(sample: Sample) -> None:
    assert told(read(sample.mail)) == sample.expected


@each_family
def test_line_ends_make_no_difference(sample: Sample) -> None:
    expected = read(sample.mail)
    for line_end in (b"\r\n", b"\r", b"\r\r\n"):
        assert read(sample.mail.replace(b"\n", line_end)) == expected


@each_family
@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_transfer_encoding_makes_no_difference(sample: Sample, encoding: str) -> None:
    assert told(read(encoded(sample, "utf-8", encoding))) == sample.expected


@each_family
def test_a_bounce_inside_another_mail_is_still_found(sample: Sample) -> None:
    outer = b"From: ada@example.net\nSubject: see below\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nFYI\n--x\n"
    assert told(read(outer + b"Content-Type: message/rfc822\n\n" + sample.mail + b"\n--x--\n")) in (sample.expected, ())
    if sample.family != "forwarded-by-a-person":
        assert read(outer + b"Content-Type: message/rfc822\n\n" + sample.mail + b"\n--x--\n")


@each_family
def test_addresses_in_what_came_back_are_not_taken_for_recipients(sample: Sample) -> None:
    assert not {"shop@example.com", "service@example.com"} & {one.recipient for one in read(sample.mail)}


def test_our_own_headers_are_given_back_for_finding_the_unit() -> None:
    qmail = next(sample for sample in SAMPLES if sample.family == "qmail")
    for report in read(qmail.mail):
        assert report.returned.get("message-id") == "<4711@example.com>"
        assert report.returned.mail_from == "b-4711@bounce.example.com"


def test_a_report_of_success_is_no_bounce() -> None:
    mail = f"""From: MAILER-DAEMON@mx.example.org
Subject: Mail Delivery Status Report
Content-Type: multipart/report; report-type=delivery-status; boundary=x

--x

Enclosed is the mail delivery report that you requested.
--x
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org

Final-Recipient: rfc822; {GONE}
Action: relayed
Status: 2.1.5
--x--
"""
    (report,) = read(mail.encode())
    assert (report.action, report.verdict.kind, report.verdict.suppress) == (Action.RELAYED, Kind.NOT_A_BOUNCE, False)


def test_a_delay_is_never_hard() -> None:
    mail = f"""From: MAILER-DAEMON@mx.example.org
Subject: Warning: could not send message for past 4 hours

THIS IS A WARNING MESSAGE ONLY. You do not need to resend your message.

<{GONE}>: 450 4.1.1 User unknown just now
"""
    (report,) = read(mail.encode())
    assert (report.action, report.verdict.kind, report.verdict.suppress) == (Action.DELAYED, Kind.SOFT, False)


def test_x_failed_recipients_names_all_of_them() -> None:
    mail = f"X-Failed-Recipients: {GONE},\n {FULL}\nFrom: mailer-daemon@example.org\n\nIt failed.\n"
    assert [report.recipient for report in read(mail.encode())] == [GONE, FULL]


def test_where_the_words_name_nobody_the_returned_mail_does() -> None:
    mail = f"From: MAILER-DAEMON@mx.example.org\nSubject: failure notice\n\nIt could not be delivered.\n{OURS}"
    assert [report.recipient for report in read(mail.encode())] == [GONE]


def test_what_is_read_from_afar_does_not_suppress() -> None:
    mail = f"""From: MAILER-DAEMON@mx.example.org
Subject: Undelivered

We are sorry to say that there was a problem: delivery failed, it seems, with {GONE}.

The mailbox may not exist: there are many reasons why a user is unknown.
"""
    (report,) = read(mail.encode())
    assert (report.verdict.kind, report.verdict.suppress) == (Kind.HARD, False)


def test_several_addresses_without_a_hint_name_nobody() -> None:
    mail = """From: MAILER-DAEMON@mx.example.org
Subject: failure notice

We talked about ada@example.org and bob@example.org today, and also about eve@example.org in passing.
"""
    assert read(mail.encode()) == ()


@pytest.mark.parametrize(
    ("headers", "known_by"),
    [
        ("Subject: Out of Office: Your order", "subject"),
        ("Subject: Automatische Antwort: Ihre Bestellung", "subject"),
        ("Subject: =?utf-8?b?6Ieq5YuV5b+c562U?=", "subject"),
        ("Subject: Re: Your order\nAuto-Submitted: auto-replied (vacation)", "auto-submitted"),
        ("Subject: Re: Your order\nX-Autoreply: yes", "x-autoreply"),
        ("Subject: Re: Your order\nPrecedence: auto_reply", "precedence"),
    ],
)
def test_an_automatic_answer_changes_nothing(headers: str, known_by: str) -> None:
    mail = f"Return-Path: <>\nFrom: Ada <{GONE}>\nTo: b-1@bounce.example.com\n{headers}\n\nI am away. Call bob@example.org.\n"
    (report,) = read(mail.encode())
    assert (report.recipient, report.source, report.verdict.suppress) == (GONE, Source.AUTO_REPLY, False)
    assert (report.verdict.reply_class, report.verdict.rule) == (ReplyClass.AUTO_REPLY, f"automatic:{known_by}")


@pytest.mark.parametrize(
    "mail",
    [
        b"",
        b"\n\n",
        b"From: ada@example.org\nSubject: Your order\n\nThank you, it has arrived. Ada\n",
        b"From: ada@example.org\nSubject: Re: delivery\n\nWhen will it come? Write to bob@example.org.\n",
        b"From: news@example.org\nSubject: 20 % off\n\nBuy now at https://example.org\n",
    ],
)
def test_an_ordinary_letter_gives_no_report(mail: bytes) -> None:
    assert read(mail) == ()
