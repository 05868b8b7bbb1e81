"""A mail of ours as providers send it back: each in its own shape (standards note 4.3), with every address in it masked."""

import base64
import re
from collections.abc import Callable

ADDRESS = re.compile(rb"[^\s<>()\[\],;:\"@=]+@[A-Za-z0-9.-]+")


def masked(mail: bytes) -> bytes:
    """The mail with every address in it, in header and body, made unrecognisable."""
    return ADDRESS.sub(b"redacted@redacted.invalid", mail)


def header_of(mail: bytes) -> bytes:
    return mail.partition(b"\r\n\r\n")[0] + b"\r\n"


def _part(kind: str, content: bytes, *, coded: bool = False) -> bytes:
    encoding = b"Content-Transfer-Encoding: base64\r\n" if coded else b""
    body = base64.encodebytes(content).replace(b"\n", b"\r\n") if coded else content
    return b"--=_b\r\nContent-Type: " + kind.encode() + b"\r\n" + encoding + b"\r\n" + body + b"\r\n"


def _mail(sender: str, subject: str, kind: str, *parts: bytes) -> bytes:
    head = (
        f"From: {sender}\r\nTo: <fbl@returns.test>\r\nSubject: {subject}\r\nDate: Fri, 27 Nov 2026 10:00:00 +0000\r\n"
        f'MIME-Version: 1.0\r\nContent-Type: {kind}; boundary="=_b"\r\n\r\n'
    )
    return head.encode() + b"".join(parts) + b"--=_b--\r\n"


REPORT = "multipart/report; report-type=feedback-report"
_WORDS = _part("text/plain", b"This is an email abuse report.\r\n")


def _fields(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()


def report(mail: bytes, feedback_type: str = "abuse", *more: str) -> bytes:
    """RFC 5965, as little as it allows, with any feedback type."""
    fields = _fields(f"Feedback-Type: {feedback_type}", "User-Agent: SomeGenerator/1.0", "Version: 1", *more)
    return _mail(
        "<abusedesk@example.com>",
        "FW: Earn money",
        REPORT,
        _WORDS,
        _part("message/feedback-report", fields),
        _part("message/rfc822", mail),
    )


def minimal(mail: bytes) -> bytes:
    return report(mail)


def yahoo(mail: bytes) -> bytes:
    """Headers only, and the masked addresses in the fields as well."""
    fields = _fields(
        "Feedback-Type: abuse",
        "User-Agent: Yahoo!-Mail-Feedback/2.0",
        "Version: 0.1",
        "Original-Mail-From: <redacted@redacted.invalid>",
        "Original-Rcpt-To: redacted@redacted.invalid",
        "Received-Date: Fri, 27 Nov 2026 09:00:00 PST",
        "Reported-Domain: shop.test",
        "Authentication-Results: atlas.mail.yahoo.com; dkim=pass; spf=pass",
    )
    return _mail(
        '"Yahoo! Mail AntiSpam Feedback" <feedback@arf.mail.yahoo.com>',
        "Fw: Your order",
        REPORT,
        _WORDS,
        _part("message/feedback-report", fields),
        _part("text/rfc822-headers", header_of(mail)),
    )


def comcast(mail: bytes) -> bytes:
    """multipart/mixed, and every part in base64."""
    fields = _fields("Feedback-Type: abuse", "User-Agent: Comcast-FBL/1.0", "Version: 0.1")
    return _mail(
        "<feedback@fbl.comcast.net>",
        "Abuse report",
        "multipart/mixed",
        _part("text/plain", b"This is an abuse report.\r\n", coded=True),
        _part("message/feedback-report", fields, coded=True),
        _part("message/rfc822", mail, coded=True),
    )


def validity_hub(mail: bytes) -> bytes:
    """The recipient is a hash, and the IP address is none."""
    fields = _fields(
        "Feedback-Type: abuse",
        "User-Agent: ReturnPathFBL/2.0",
        "Version: 1",
        "Abuse-Type: complaint",
        "Source: Rackspace",
        "Source-IP: x.x.x.x",
        "Original-Mail-From: redacted@redacted.invalid",
        "Original-Rcpt-To: cb4a01a48251d4765f489076aa81e2a4@rackspace.invalid",
        "Reported-Domain: shop.test",
        "Subscription-Link: https://fbl.returnpath.invalid/manage/subscriptions/xxxx",
    )
    return _mail(
        "<feedback@fbl.returnpath.invalid>",
        "[Feedback] Your order",
        REPORT,
        _WORDS,
        _part("message/feedback-report", fields),
        _part("message/rfc822", mail),
    )


def jmrp_old(mail: bytes) -> bytes:
    """No report: a copy, with a header of its own in front whose address is masked as well."""
    return _mail(
        "<staff@hotmail.com>",
        "complaint about message from 192.0.2.1",
        "multipart/mixed",
        _part("message/rfc822", b"X-HmXmrOriginalRecipient: redacted@redacted.invalid\r\n" + mail),
    )


def jmrp_new(mail: bytes) -> bytes:
    """Since June 2026: the original header lines with results in front, no body, no address."""
    results = b"Authentication-Results: spf=pass (sender IP is 192.0.2.1); dkim=pass (signature was verified)\r\n"
    fields = _fields("Feedback-Type: abuse", "User-Agent: Microsoft-JMRP/2.0", "Version: 1", "Source-IP: 192.0.2.1")
    return _mail(
        "<staff@hotmail.com>",
        "Complaint report",
        REPORT,
        _WORDS,
        _part("message/feedback-report", fields),
        _part("message/rfc822-headers", results + header_of(mail)),
    )


def smp_fbl(mail: bytes) -> bytes:
    """An agent that redacts, and says so in its subject."""
    fields = _fields("Feedback-Type: abuse", "User-Agent: SMP-FBL", "Version: 0.1", "Source-IP: 192.0.2.1")
    return _mail(
        "<postmaster@smp.invalid>",
        "Email Feedback Report for IP 192.0.2.1",
        REPORT,
        _part("text/plain", b"This is an email abuse report for an email message received from IP 192.0.2.1\r\n"),
        _part("message/feedback-report", fields),
        _part("message/rfc822", mail),
    )


def quoted_in_text(mail: bytes) -> bytes:
    """What a gateway makes of it: everything in one plain text, quoted."""
    quoted = b"".join(b"> " + line + b"\r\n" for line in header_of(mail).split(b"\r\n"))
    fields = _fields("Feedback-Type: abuse", "User-Agent: Gateway/1.0", "Version: 1")
    head = b"From: <abuse@gateway.invalid>\r\nSubject: Abuse report\r\nContent-Type: text/plain\r\n\r\n"
    return head + fields + b"\r\n" + quoted


def shouted(mail: bytes) -> bytes:
    """A reporter that writes every header line in capitals."""
    return report(header_of(mail).upper() + b"\r\nHELLO\r\n")


COMPLAINTS: dict[str, Callable[[bytes], bytes]] = {
    shape.__name__: shape
    for shape in (
        *(minimal, yahoo, comcast, validity_hub, jmrp_old, jmrp_new, smp_fbl),
        *(quoted_in_text, shouted),
    )
}


def unsubscribe() -> bytes:
    """iCloud: no report at all, a plain mail of the user's to the address in List-Unsubscribe."""
    return (
        b"From: <redacted@icloud.invalid>\r\nSubject: unsubscribe\r\nDate: Fri, 27 Nov 2026 10:00:00 +0000\r\n"
        b"Message-ID: <1@icloud.invalid>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n\r\n"
    )


_REASONS = {"5.2.2": "The mailbox is full", "4.4.7": "Delivery time expired", "4.4.1": "Connection timed out"}


def delivery_report(mail: bytes, recipient: str, action: str = "failed", status: str = "5.1.1") -> bytes:
    """RFC 3464, as Postfix writes it."""
    fields = _fields(
        "Reporting-MTA: dns; mx.far.invalid",
        "Arrival-Date: Fri, 27 Nov 2026 09:00:00 +0000",
        "",
        f"Final-Recipient: rfc822; {recipient}",
        f"Action: {action}",
        f"Status: {status}",
        f"Diagnostic-Code: smtp; {status[0]}50 {status} {_REASONS.get(status, 'User unknown in virtual mailbox table')}",
    )
    return _mail(
        "MAILER-DAEMON@mx.far.invalid (Mail Delivery System)",
        "Undelivered Mail Returned to Sender",
        "multipart/report; report-type=delivery-status",
        _part("text/plain", b"This is the mail system at host mx.far.invalid.\r\n"),
        _part("message/delivery-status", fields),
        _part("message/rfc822", mail),
    )


def out_of_office(recipient: str) -> bytes:
    return (
        f"From: <{recipient}>\r\nSubject: Out of office: Your order\r\nAuto-Submitted: auto-replied\r\n"
        "Content-Type: text/plain\r\n\r\nI am on holiday and will read your mail when I am back. User unknown, they say.\r\n"
    ).encode()
