"""Which mails are taken, what becomes of them, and what a client hears when they are not."""

from __future__ import annotations

import asyncio
import re

import pytest

from depesche.schemas.errors import (
    ArchiveUnavailableError,
    IdempotencyMismatchError,
    LogUnavailableError,
    OverloadError,
)
from tests.contract.smtp.bench import ACCOUNT, ENHANCED, MESSAGE, TENANT, DoorMaker, RunningDoor


async def test_what_is_handed_over_is_what_was_sent_and_who_sent_it(door: RunningDoor) -> None:
    client = await door.session()
    body = b".a leading dot\r\n..two\r\n.\r\n8 bit: \xfc\xff\r\n\r\n\r\n"
    header = b"From: Shop <Orders@SHOP.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\n"
    await client.mail(header + b"." + body.replace(b"\r\n.", b"\r\n.."), "ada@example.org", "Bob@EXAMPLE.org")
    taken = door.hallway.last
    assert door.hallway.message() == header + body
    (content,) = taken.messages
    whole = b"".join(content.parts)
    assert whole[content.header_size :] == body
    assert content.message_id == "1@x"
    assert (taken.tenant, taken.account, taken.interface.value, taken.client) == (TENANT, ACCOUNT, "smtp", "127.0.0.1")
    assert (taken.mail_from, taken.header_from) == ("orders@shop.example", "Orders@shop.example")
    assert (taken.subject, taken.sender_domain, taken.smtputf8) == ("Grüße", "shop.example", False)
    assert [unit.address for unit in taken.recipients] == ["ada@example.org", "Bob@example.org"]


async def test_a_received_line_is_put_in_front_that_tells_nothing_about_the_customers_network(
    door: RunningDoor,
) -> None:
    client = await door.session()
    await client.command("EHLO secret-host.corp.example")
    await client.mail()
    header = door.hallway.last.messages[0].parts[0]
    assert re.match(
        rb"Received: by depesche\.test with ESMTPSA id [0-9a-f]{16};\r\n\t\w{3}, \d\d? \w{3} \d{4} ", header
    )
    assert b"secret-host" not in header
    assert b"127.0.0.1" not in header


async def test_date_and_message_id_are_added_when_missing_and_stand_within_the_header(door: RunningDoor) -> None:
    client = await door.session()
    await client.mail()
    message = door.hallway.message()
    header, _, body = message.partition(b"\r\n\r\n")
    assert re.search(rb"\r\nDate: \w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d [+-]0000\r\n", header + b"\r\n")
    assert f"\r\nMessage-ID: <{door.hallway.last.messages[0].message_id}>".encode() in header
    assert door.hallway.last.messages[0].message_id.endswith("@shop.example")
    assert body == b"Dear Ada,\r\n"
    assert message.startswith(MESSAGE.partition(b"\r\n\r\n")[0])


async def test_bcc_return_path_and_control_headers_never_leave_the_house(door: RunningDoor) -> None:
    client = await door.session()
    content = (
        b"Return-Path: <x@y>\r\nResent-Bcc: eve@example.org\r\nX-depesche-KEY:\r\n h1-of-another-mail\r\n"
        b"X-RETARUS-M4A-REFERENCE: order 17\r\nFrom: orders@shop.example\r\nBcc: eve@example.org,\r\n"
        b" mallory@example.org\r\nX-Retarus-M4A-Campaign-ID: spring\r\nX-RETARUS-M4A-COST-CENTER: 4711\r\n"
        b"X-RETARUS-M4A-ANTIVIRUS-ACTIVE: true\r\nX-Idempotency-Key: k1\r\nSubject: s\r\nDate: d\r\nMessage-ID: <a@b>\r\n"
        b"\r\nX-RETARUS-M4A-REFERENCE: is text here\r\nBcc: too\r\n"
    )
    assert (await client.mail(content)).startswith("250 ")
    assert door.hallway.message() == (
        b"From: orders@shop.example\r\nSubject: s\r\nDate: d\r\nMessage-ID: <a@b>\r\n"
        b"\r\nX-RETARUS-M4A-REFERENCE: is text here\r\nBcc: too\r\n"
    )
    taken = door.hallway.last
    assert (taken.reference_job, taken.campaign_id, taken.cost_center) == ("order 17", "spring", "4711")
    assert taken.idempotency_key == "k1"
    first = taken.fingerprint
    await client.mail(content)
    assert door.hallway.last.fingerprint == first
    await client.mail(content + b"more\r\n")
    assert door.hallway.last.fingerprint != first
    await client.mail()
    assert (door.hallway.last.idempotency_key, door.hallway.last.fingerprint) == (None, None)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (b"X-RETARUS-M4A-TRACE-RECOVER-ACTIVE: true", "Trace & Recover is not available yet"),
        (b"X-RETARUS-M4A-MESSAGE-SIGNING-ACTIVE: true", "Message signing"),
        (b"X-RETARUS-M4A-NOTIFICATION-URL: https://hook.example/", "Push notifications are not available yet"),
        (b"X-RETARUS-M4A-UNHEARD-OF: 1", "is not known here"),
    ],
)
async def test_features_of_later_are_refused_in_clear_words(door: RunningDoor, header: bytes, text: str) -> None:
    client = await door.session()
    reply = await client.mail(header + b"\r\n" + MESSAGE)
    assert reply.startswith("554 5.3.3 ")
    assert text in reply
    assert door.hallway.taken == []
    assert (await client.mail()).startswith("250 ")


@pytest.mark.parametrize(
    "sender",
    [
        "a@unknown.example",
        "a@other.example",
        "a@mine.example",
        "a@sub.shop.example",
        "a@shop.example.evil.example",
        "postmaster@shop.example",
        "PostMaster+x@shop.example",
        '"abuse"@shop.example',
        "",
    ],
)
async def test_only_registered_senders_that_are_no_office_may_send(door: RunningDoor, sender: str) -> None:
    """Threat 4: open relay, unregistered sender."""
    client = await door.session()
    assert (await client.command(f"MAIL FROM:<{sender}>")).startswith("550 5.7.1 ")


@pytest.mark.parametrize(
    "sender", ["a@SHOP.example", "noreply@shop.example", "a@xn--bcher-kva.example", '"odd name"@shop.example']
)
async def test_registered_senders_may_send_in_whatever_spelling(door: RunningDoor, sender: str) -> None:
    client = await door.session()
    assert (await client.command(f"MAIL FROM:<{sender}>")) == "250 2.1.0 Ok"


@pytest.mark.parametrize(
    "sender",
    [
        b"a@unknown.example",
        b"a@other.example",
        b"a@bcher.example",
        b"a@sub.shop.example",
        b"a@shop.example, b@evil.example",
        b"a@evil.example <orders@shop.example>",
        b"postmaster@shop.example",
        b"orders@shop.example\r\nFrom: b@evil.example",
        b"",
    ],
)
async def test_the_from_that_people_see_must_be_of_the_same_registered_domain(door: RunningDoor, sender: bytes) -> None:
    client = await door.session()
    reply = await client.mail(b"From: " + sender + b"\r\nSubject: x\r\n\r\nbody\r\n")
    assert reply.startswith("550 5.7.1 ")
    assert (await client.mail(b"Subject: x\r\n\r\nbody\r\n")).startswith("550 5.7.1 "), "and it must be there"
    assert door.hallway.taken == []


async def test_a_domain_that_was_taken_away_after_mail_from_is_refused_at_the_end(door: RunningDoor) -> None:
    client = await door.session()
    await client.envelope()
    door.directory.book.remove(b"domain/shop.example/" + TENANT.encode())
    await client.send(MESSAGE + b".\r\n")
    assert (await client.reply()).startswith("550 5.7.1 ")


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        ("<ada>", "550 5.1.3"),
        ("<ada@localhost>", "550 5.1.3"),
        ("<ada@[127.0.0.1]>", "550 5.1.3"),
        ("<@relay.example:ada@example.org>", "550 5.1.3"),
        ("<ada@@example.org>", "550 5.1.3"),
        ("<a..b@example.org>", "550 5.1.3"),
        (f"<{'x' * 65}@example.org>", "550 5.1.3"),
        ("<adä@example.org>", "553 5.6.7"),
        ("<>", "550 5.1.3"),
        ("ada@example.org", "501 5.5.4"),
        ("<ada@example.org> NOTIFY=NEVER", "555 5.5.4"),
    ],
)
async def test_recipients_that_are_no_address_are_refused_one_by_one(
    door: RunningDoor, recipient: str, code: str
) -> None:
    client = await door.session()
    await client.command("MAIL FROM:<orders@shop.example>")
    assert (await client.command(f"RCPT TO:{recipient}")).startswith(code)
    for good in ("a%b@example.org", f"{'x' * 64}@example.org", "a+b@example.org", '"a b"@example.org'):
        assert (await client.command(f"RCPT TO:<{good}>")).startswith("250 2.1.5 ")


async def test_the_1001st_recipient_is_put_off_and_the_others_are_taken(door: RunningDoor) -> None:
    client = await door.session()
    await client.command("MAIL FROM:<orders@shop.example>")
    await client.send(b"".join(b"RCPT TO:<u%d@example.org>\r\n" % n for n in range(1001)))
    replies = [await client.reply() for _ in range(1001)]
    assert set(replies[:1000]) == {"250 2.1.5 Ok"}
    assert replies[1000].startswith("452 4.5.3 ")
    assert (await client.command("RCPT TO:<u0@example.org>")).startswith("250 "), "one of the thousand, named again"
    await client.command("DATA")
    await client.send(MESSAGE + b".\r\n")
    assert (await client.reply()).startswith("250 2.0.0 ")
    assert len(door.hallway.last.recipients) == 1000


async def test_utf8_addresses_and_headers_pass_with_smtputf8_and_are_refused_without(door: RunningDoor) -> None:
    client = await door.session()
    assert (await client.command("MAIL FROM:<grüße@shop.example>")).startswith("553 5.6.7 ")
    assert (await client.command("MAIL FROM:<grüße@shop.example> SMTPUTF8")).startswith("250 ")
    assert (await client.command("RCPT TO:<ada@bücher.example>")).startswith("250 ")
    await client.command("DATA")
    await client.send("From: Grüße <grüße@shop.example>\r\nSubject: für Dich\r\n\r\nx\r\n.\r\n".encode())
    assert (await client.reply()).startswith("250 ")
    taken = door.hallway.last
    assert (taken.smtputf8, taken.subject, taken.mail_from) == (True, "für Dich", "grüße@shop.example")
    assert taken.recipients[0].address == "ada@xn--bcher-kva.example"
    assert b" with UTF8SMTPSA id " in taken.messages[0].parts[0]
    reply = await client.mail("From: orders@shop.example\r\nSubject: für Dich\r\n\r\nx\r\n".encode())
    assert reply.startswith("550 5.6.0 ")


async def test_size_is_refused_when_announced_and_when_sent(door_maker: DoorMaker) -> None:
    door = await door_maker(max_size=100_000)
    client = await door.session()
    assert (await client.command("MAIL FROM:<orders@shop.example> SIZE=100001")).startswith("552 5.3.4 ")
    assert (await client.command("MAIL FROM:<orders@shop.example> SIZE=100000")).startswith("250 ")
    await client.command("RSET")

    def of_size(size: int) -> bytes:
        line = b"." + b"x" * 97 + b"\r\n"
        body = line * ((size - len(MESSAGE)) // 100)
        rest = size - len(MESSAGE) - len(body)
        return MESSAGE + (body + b"y" * (rest - 2) + b"\r\n" if rest >= 2 else body[: rest - 2 or None])

    for size, code in ((99_999, "250 2.0.0 "), (100_000, "250 2.0.0 "), (100_001, "552 5.3.4 ")):
        content = of_size(size)
        assert len(content) == size
        reply = await client.mail(content.replace(b"\r\n.", b"\r\n.."))
        assert reply.startswith(code), (size, reply)
        assert (await client.command("NOOP")).startswith("250 ")
    await client.envelope()
    await client.send(MESSAGE + b"x" * 98 + b"\r\n" * 200_000)
    assert (await client.reply()).startswith("552 5.3.4 "), "far beyond the limit it does not wait for the end"


async def test_the_empty_message_is_refused_and_the_session_goes_on(door: RunningDoor) -> None:
    client = await door.session()
    for content in (b"", b"\r\n", b"\r\nbody only\r\n"):
        assert (await client.mail(content)).startswith("550 5.7.1 ")
    assert (await client.mail(b"From: orders@shop.example\r\n")).startswith("250 "), (
        "all header, no body (RFC 5322 3.5)"
    )
    assert door.hallway.message().endswith(b"\r\n\r\n")


async def test_large_messages_arrive_byte_for_byte(door: RunningDoor) -> None:
    client = await door.session()
    body = b"".join(b"%06d %s\r\n" % (n, b"." * (n % 70)) for n in range(100_000)) + b".\r\n..\r\n"
    content = MESSAGE + body
    assert (await client.mail(content.replace(b"\r\n.", b"\r\n.."))).startswith("250 ")
    taken = door.hallway.last.messages[0]
    assert len(taken.parts) == 2
    assert taken.parts[1] == b"Dear Ada,\r\n" + body
    assert len(taken.parts[0]) == taken.header_size


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (RuntimeError("kafka://secret-broker:9092"), "451 4.3.0 "),
        (LogUnavailableError("secret-broker"), "451 4.3.0 "),
        (ArchiveUnavailableError("/secret/path"), "452 4.3.1 "),
        (OverloadError("secret"), "451 4.7.0 "),
        (IdempotencyMismatchError("secret"), "550 5.7.1 "),
        (OSError("secret"), "451 4.3.0 "),
    ],
)
async def test_a_fault_behind_the_door_tells_a_stranger_nothing_and_an_outage_is_temporary(
    door: RunningDoor, fault: Exception, code: str
) -> None:
    client = await door.session()
    door.hallway.fault = fault
    reply = await client.mail()
    assert reply.startswith(code)
    assert ENHANCED.match(reply)
    assert "secret" not in reply
    door.hallway.fault = None
    assert (await client.mail()).startswith("250 ")


async def test_while_the_log_cannot_be_written_nobody_is_greeted_and_nothing_is_begun(door: RunningDoor) -> None:
    client = await door.session()
    door.hallway.ready = False
    assert (await client.command("MAIL FROM:<orders@shop.example>")).startswith("451 4.3.0 ")
    other = await door.connect(tls=True)
    assert (await other.reply()).startswith("421 4.3.2 ")
    assert await other.reply() == ""
    door.hallway.ready = True
    assert (await client.mail()).startswith("250 ")


async def test_the_log_that_fails_during_a_mail_is_answered_with_451(door: RunningDoor) -> None:
    client = await door.session()
    await client.envelope()
    door.hallway.ready = False
    await client.send(MESSAGE + b".\r\n")
    assert (await client.reply()).startswith("451 4.3.0 ")


async def test_a_client_that_hangs_up_after_the_dot_does_not_stop_what_is_being_accepted(door: RunningDoor) -> None:
    """Fault K7: the record is whole or absent, never half."""
    client = await door.session()
    door.hallway.gate.clear()
    await client.envelope()
    await client.send(MESSAGE + b".\r\n")
    await door.hallway.entered.wait()
    client.writer.transport.abort()
    await asyncio.sleep(0.05)
    assert door.hallway.taken == []
    door.hallway.gate.set()
    while not door.hallway.taken:
        await asyncio.sleep(0.01)
    assert (await (await door.session()).mail()).startswith("250 ")


async def test_a_client_that_hangs_up_before_the_dot_leaves_nothing(door: RunningDoor) -> None:
    for ending in (MESSAGE, MESSAGE + b".", MESSAGE + b".\r"):
        client = await door.session()
        await client.envelope()
        await client.send(ending)
        await client.close()
    await (await door.session()).mail()
    assert len(door.hallway.taken) == 1


async def test_a_door_that_closes_still_answers_the_mail_it_is_taking(door: RunningDoor) -> None:
    busy, idle = await door.session(), await door.session()
    door.hallway.gate.clear()
    await busy.envelope()
    await busy.send(MESSAGE + b".\r\n")
    await door.hallway.entered.wait()
    door.task.cancel()
    assert (await idle.reply()).startswith("421 4.3.2 ")
    await asyncio.sleep(0.05)
    door.hallway.gate.set()
    assert (await busy.reply()).startswith("250 2.0.0 ")
    await asyncio.wait({door.task})
    with pytest.raises(OSError):
        await door.connect(tls=True)
