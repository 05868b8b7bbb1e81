"""Delivery reports (RFC 3464): every recipient's block, however it is written."""

from __future__ import annotations

from depesche.schemas.reply_classes import Kind, ReplyClass
from depesche.streams.mail.bounce import read
from depesche.streams.mail.dsn import MAX_RECIPIENTS, human_text, read_dsn, read_status, returned_headers
from depesche.streams.mail.letter import read_letter
from depesche.streams.mail.returns.report import Action

REPORT = """From: MAILER-DAEMON@mx.example.org
To: b-4711@bounce.example.com
Subject: Returned mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

This is the mail system at mx.example.org.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org
Original-Envelope-Id: 4711
Arrival-Date: Thu, 1 Oct 2026 10:00:00 +0200

Original-Recipient: rfc822; ada@example.org
Final-Recipient: rfc822; ada@inner.example.org
Action: failed
Status: 5.1.1 (unknown)
Remote-MTA: dns; mail.example.org (192.0.2.9)
Diagnostic-Code: smtp; 550 5.1.1 No such user,
  not here (RCPT TO)

FINAL-RECIPIENT: RFC822; <bob@example.org>
ACTION: Delayed
STATUS: 4.4.1
DIAGNOSTIC-CODE: X-Postfix; connect to example.org[192.0.2.9]:25: Connection timed out

final-recipient: utf-8; j\\x{F6}rg@example.org
action: delivered
status: 2.1.5
--b
Content-Type: message/rfc822

Return-Path: <b-4711@bounce.example.com>
Message-ID: <4711@example.com>
From: shop@example.com
To: ada@example.org

Hello
--b--
"""


def test_every_block_is_read_folded_and_in_any_case() -> None:
    report = read_dsn(read_letter(REPORT.encode()))
    assert report is not None
    assert (report.reporting_mta, report.envelope_id) == ("mx.example.org", "4711")
    ada, bob, joerg = report.recipients
    assert (ada.recipient, ada.original_recipient) == ("ada@inner.example.org", "ada@example.org")
    assert (ada.action, ada.status, ada.status_comment) == (Action.FAILED, "5.1.1", "unknown")
    assert (ada.diagnostic_type, ada.diagnostic) == ("smtp", "550 5.1.1 No such user, not here (RCPT TO)")
    assert ada.remote_mta == "mail.example.org"
    assert (bob.recipient, bob.action, bob.diagnostic_type) == ("bob@example.org", Action.DELAYED, "x-postfix")
    assert (joerg.recipient, joerg.action) == ("jörg@example.org", Action.DELIVERED)


def test_each_block_becomes_a_report_of_its_own_kind() -> None:
    ada, bob, joerg = read(REPORT.encode())
    assert (ada.verdict.reply_class, ada.verdict.suppress, ada.original_recipient) == (
        ReplyClass.RECIPIENT_UNKNOWN,
        True,
        "ada@example.org",
    )
    assert (ada.reply.code, ada.reply.enhanced, ada.reply.phase, ada.reply.host) == (
        550,
        "5.1.1",
        "rcpt",
        "mail.example.org",
    )
    assert (bob.verdict.kind, bob.verdict.suppress) == (Kind.SOFT, False)
    assert (joerg.verdict.reply_class, joerg.verdict.kind) == (ReplyClass.DELIVERED, Kind.NOT_A_BOUNCE)
    assert {one.returned.mail_from for one in (ada, bob, joerg)} == {"b-4711@bounce.example.com"}


def test_words_for_people_and_returned_headers_are_told_apart() -> None:
    letter = read_letter(REPORT.encode())
    assert human_text(letter).strip() == "This is the mail system at mx.example.org."
    assert returned_headers(letter).get("message-id") == "<4711@example.com>"


def test_blocks_without_a_blank_line_between_them_are_told_apart() -> None:
    report = read_status(
        "Reporting-MTA: dns; x.example\n"
        "Final-Recipient: rfc822; ada@example.org\nAction: failed\nStatus: 5.1.1\n"
        "Final-Recipient: rfc822; bob@example.org\nAction: failed\nStatus: 5.2.2\n"
    )
    assert report is not None
    assert [(one.recipient, one.status) for one in report.recipients] == [
        ("ada@example.org", "5.1.1"),
        ("bob@example.org", "5.2.2"),
    ]


def test_a_type_that_was_left_out_is_no_reason_to_read_nothing() -> None:
    report = read_status("Original-Recipient: <ada@example.org>\nAction: failed\nDiagnostic-Code: 550 no such user\n")
    assert report is not None
    assert (report.recipients[0].recipient, report.recipients[0].diagnostic) == ("ada@example.org", "550 no such user")


def test_a_final_recipient_that_is_no_address_gives_way_to_the_original_one() -> None:
    report = read_status(
        "Original-Recipient: rfc822; ada@example.org\nFinal-Recipient: rfc822; ada@inner\nAction: failed\n"
    )
    assert report is not None
    assert report.recipients[0].recipient == "ada@example.org"


def test_fields_that_somebody_quoted_are_read() -> None:
    report = read_status("> Final-Recipient: rfc822; ada@example.org\n> Action: failed\n> Status: 5.1.1\n")
    assert report is not None
    assert report.recipients[0].recipient == "ada@example.org"


def test_text_without_such_fields_is_no_report() -> None:
    assert read_status("Dear Ada,\n\nStatus: good\nAction: none\n\nBob") is None
    assert read_status("") is None


def test_a_report_without_diagnosis_takes_it_from_the_words() -> None:
    mail = REPORT.replace(
        "This is the mail system at mx.example.org.", "<bob@example.org>: 552 5.2.2 Mailbox full"
    ).replace("DIAGNOSTIC-CODE: X-Postfix; connect to example.org[192.0.2.9]:25: Connection timed out\n", "")
    bob = read(mail.encode())[1]
    assert bob.verdict.reply_class is ReplyClass.MAILBOX_FULL


def test_a_mail_that_forgot_to_say_that_it_has_parts_is_read() -> None:
    head, _, body = REPORT.partition("\n\n")
    bare = "\n".join(line for line in head.split("\n") if not line.startswith(("MIME", "Content-Type")))
    assert read(f"{bare}\n\n{body}".encode()) == read(REPORT.encode())


def test_a_receipt_that_says_the_mail_was_refused_is_a_bounce_and_another_is_none() -> None:
    receipt = """From: Mail Delivery Subsystem <postmaster@mx.example.org>
Subject: {subject}
Auto-Submitted: auto-replied (rejected)
Content-Type: multipart/report; report-type=disposition-notification; boundary=b

--b

{words}
--b
Content-Type: message/disposition-notification

Final-Recipient: rfc822; ada@example.org
Disposition: automatic-action/MDN-sent-automatically; deleted
--b--
"""
    refused = receipt.format(
        subject="Automatically rejected mail", words="It was automatically rejected: Quota exceeded"
    )
    (report,) = read(refused.encode())
    assert (report.recipient, report.verdict.reply_class) == ("ada@example.org", ReplyClass.MAILBOX_FULL)
    seen = receipt.format(subject="Read: Your order", words="It was displayed on Thursday.")
    assert [one.verdict.kind for one in read(seen.encode())] == [Kind.NOT_A_BOUNCE]


def test_no_more_recipients_are_read_than_are_good_for_us() -> None:
    blocks = "".join(
        f"Final-Recipient: rfc822; a{n}@example.org\nAction: failed\n\n" for n in range(5 * MAX_RECIPIENTS)
    )
    report = read_status(blocks)
    assert report is not None
    assert len(report.recipients) == MAX_RECIPIENTS
