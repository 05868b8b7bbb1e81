"""What a submission session says, command by command (RFC 5321, 6409, 4954, 3207, 2920, 2034)."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import ssl
import warnings
from typing import Any

import pytest

from depesche.api.smtp import guard
from tests.contract.smtp.bench import ENHANCED, MESSAGE, Client, DoorMaker, RunningDoor, encoded


@pytest.fixture(autouse=True)
def _short_login_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FIRST_DELAY_SECONDS", 0.001)


async def greeted(door: RunningDoor, **how: Any) -> Client:
    client = await door.connect(**how)
    assert await client.reply() == "220 depesche.test ESMTP Depesche"
    return client


async def test_a_mail_is_taken_with_the_job_id_in_the_reply(door: RunningDoor) -> None:
    client = await door.session()
    reply = await client.mail()
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    assert len(reply.rpartition(" ")[2]) == 36
    assert await client.command("QUIT") == "221 2.0.0 Bye"
    assert await client.reply() == ""


async def test_login_is_offered_only_inside_tls_and_tls_only_outside(door: RunningDoor) -> None:
    client = await greeted(door)
    outside = (await client.command("EHLO client.example")).split("\n")
    assert outside == [
        "250-depesche.test",
        "250-PIPELINING",
        "250-SIZE 20971520",
        "250-8BITMIME",
        "250-SMTPUTF8",
        "250-ENHANCEDSTATUSCODES",
        "250-STARTTLS",
        "250 HELP",
    ]
    assert await client.command("STARTTLS") == "220 2.0.0 Ready to start TLS"
    await client.starttls()
    inside = (await client.command("EHLO client.example")).split("\n")
    assert [line for line in outside if line != "250-STARTTLS"] == [x for x in inside if x != "250-AUTH PLAIN LOGIN"]
    assert "250-AUTH PLAIN LOGIN" in inside
    implicit = await greeted(door, tls=True)
    assert (await implicit.command("EHLO client.example")).split("\n") == inside
    assert "CHUNKING" not in "".join([*outside, *inside])


async def test_nothing_is_taken_before_tls_and_login(door: RunningDoor) -> None:
    client = await greeted(door)
    assert await client.command("MAIL FROM:<orders@shop.example>") == "503 5.5.1 Send EHLO first"
    await client.command("EHLO client.example")
    assert (await client.command(f"AUTH PLAIN {door.plain()}")).startswith("538 5.7.11 ")
    assert (await client.command("MAIL FROM:<orders@shop.example>")).startswith("530 5.7.0 ")
    await client.command("STARTTLS")
    await client.starttls()
    assert await client.command("MAIL FROM:<orders@shop.example>") == "503 5.5.1 Send EHLO first"
    await client.command("EHLO client.example")
    assert await client.command("MAIL FROM:<orders@shop.example>") == "530 5.7.0 Authentication required"
    assert (await client.command("STARTTLS")).startswith("503 5.5.1 ")
    assert (await client.command(f"AUTH PLAIN {door.plain()}")).startswith("235 2.7.0 ")
    assert (await client.mail()).startswith("250 2.0.0 ")


async def test_bytes_sent_in_the_same_packet_after_starttls_are_discarded(door: RunningDoor) -> None:
    """Threat 3: STARTTLS injection."""
    client = await greeted(door)
    await client.command("EHLO client.example")
    await client.send(
        b"STARTTLS\r\nEHLO evil.example\r\nAUTH PLAIN "
        + door.plain().encode()
        + b"\r\nMAIL FROM:<orders@shop.example>\r\n"
    )
    assert (await client.reply()).startswith("220 ")
    await client.starttls()
    assert await client.command("RCPT TO:<ada@example.org>") == "503 5.5.1 Send MAIL first"
    assert await client.command("MAIL FROM:<orders@shop.example>") == "503 5.5.1 Send EHLO first"
    await client.command("EHLO client.example")
    assert await client.command("MAIL FROM:<orders@shop.example>") == "530 5.7.0 Authentication required"


async def test_a_handshake_that_fails_ends_only_this_connection(door: RunningDoor) -> None:
    client = await greeted(door)
    await client.command("EHLO client.example")
    await client.command("STARTTLS")
    await client.send(b"this is no ClientHello\r\n" * 10)
    with contextlib.suppress(ConnectionError):
        assert b"250" not in await client.reader.read()
    assert (await (await door.session()).mail()).startswith("250 ")


async def test_a_whole_session_in_one_write_is_answered_in_order(door: RunningDoor) -> None:
    client = await door.session()
    mail = b"MAIL FROM:<orders@shop.example>\r\nRCPT TO:<ada@example.org>\r\nRCPT TO:<no address>\r\nDATA\r\n"
    await client.send(b"NOOP\r\n" + (mail + MESSAGE + b".\r\n") * 2 + b"RSET\r\nQUIT\r\n")
    codes = [(await client.reply())[:3] for _ in range(13)]
    one = ["250", "250", "501", "354", "250"]
    assert codes == ["250", *one, *one, "250", "221"]
    assert await client.reply() == ""
    assert len(door.hallway.taken) == 2


async def test_a_pipelined_group_is_answered_in_one_packet(door: RunningDoor) -> None:
    client = await door.session()
    await client.send(b"MAIL FROM:<orders@shop.example>\r\nRCPT TO:<ada@example.org>\r\nDATA\r\n")
    answer = await client.reader.read(1000)
    assert answer.count(b"\r\n") == 3


async def test_a_client_that_says_all_and_closes_its_side_still_gets_its_answers(
    door_maker: DoorMaker, free_port: Any
) -> None:
    door = await door_maker(relay_port=free_port())
    client = await greeted(door, port=door.settings.smtp.relay_port)
    await client.send(
        b"EHLO x\r\nMAIL FROM:<orders@shop.example>\r\nRCPT TO:<ada@example.org>\r\nDATA\r\n" + MESSAGE + b".\r\n"
    )
    client.writer.write_eof()
    replies = [await client.reply() for _ in range(5)]
    assert replies[-1].startswith("250 2.0.0 Ok: queued as ")
    assert await client.reply() == ""


async def test_every_refusal_has_an_enhanced_code_of_the_right_class(door: RunningDoor) -> None:
    client = await door.session()
    commands = [
        "FOO", "RSET x", "EXPN list", "VRFY", "VRFY ada", "HELP", "DATA", "DATA x", "RCPT TO:<ada@example.org>", "MAIL",
        "MAIL FROM:orders@shop.example", "MAIL FROM:<orders@shop.example> FOO=1", "MAIL FROM:<>", "MAIL FROM:<x>",
        "MAIL FROM:<a@unknown.example>", "MAIL FROM:<orders@shop.example> SIZE=99999999", "AUTH PLAIN x", "EHLO", "HELO",
        "STARTTLS", "QUIT x", "", "BDAT 10 LAST",
    ]  # fmt: skip
    for number, command in enumerate(commands):
        if number % 10 == 0:
            client = await door.session()
        reply = await client.command(command)
        assert ENHANCED.match(reply), (command, reply)
    assert (await client.command("VRFY ada"))[:4] == "252 "
    assert (await client.command("EXPN list"))[:4] == "502 "
    assert (await client.command("HELP"))[:4] == "214 "
    assert (await client.command("NOOP x"))[:9] == "250 2.0.0"


async def test_commands_out_of_order_are_refused_and_rset_begins_anew(door: RunningDoor) -> None:
    client = await door.session()
    assert (await client.command("DATA")).startswith("503 5.5.1 ")
    assert (await client.command("MAIL FROM:<orders@shop.example>")).startswith("250 ")
    assert (await client.command("MAIL FROM:<orders@shop.example>")).startswith("503 5.5.1 ")
    assert (await client.command("DATA")).startswith("554 5.5.1 ")
    assert (await client.command("RSET")).startswith("250 2.0.0 ")
    assert (await client.command("RCPT TO:<ada@example.org>")).startswith("503 5.5.1 ")
    assert (await client.command("MAIL FROM:<orders@shop.example>")).startswith("250 ")
    assert (await client.command("EHLO again.example")).startswith("250-")
    assert (await client.command("RCPT TO:<ada@example.org>")).startswith("503 5.5.1 "), "EHLO resets as well"
    assert (await client.mail()).startswith("250 2.0.0 ")
    assert (await client.command("DATA")).startswith("503 5.5.1 "), "the mail before is over"


async def test_login_with_a_dialogue_and_with_an_initial_response(door: RunningDoor) -> None:
    client = await greeted(door, tls=True)
    await client.command("EHLO client.example")
    assert await client.command("auth login") == "334 " + encoded("Username:")
    assert await client.command(encoded(door.user)) == "334 " + encoded("Password:")
    assert (await client.command(encoded(door.password))).startswith("235 2.7.0 ")
    assert (await client.command(f"AUTH PLAIN {door.plain()}")).startswith("503 5.5.1 ")
    client = await greeted(door, tls=True)
    await client.command("EHLO client.example")
    assert await client.command("AUTH LOGIN " + encoded(door.user)) == "334 " + encoded("Password:")
    assert (await client.command(encoded(door.password))).startswith("235 2.7.0 ")
    client = await greeted(door, tls=True)
    await client.command("EHLO client.example")
    assert await client.command("AUTH PLAIN") == "334 "
    assert (await client.command(door.plain())).startswith("235 2.7.0 ")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (["AUTH PLAIN", "*"], "501 5.7.0"),
        (["AUTH LOGIN", "*"], "501 5.7.0"),
        (["AUTH PLAIN !!!"], "501 5.5.2"),
        (["AUTH PLAIN " + encoded("no separators")], "501 5.5.2"),
        (["AUTH CRAM-MD5"], "504 5.5.4"),
        (["AUTH"], "504 5.5.4"),
        (["AUTH PLAIN", "x" * 13_000], "500 5.5.2"),
    ],
)
async def test_a_login_that_is_none_is_refused_without_counting(door: RunningDoor, said: list[str], code: str) -> None:
    client = await greeted(door, tls=True)
    await client.command("EHLO client.example")
    for line in said:
        reply = await client.command(line)
    assert reply.startswith(code)
    assert (await client.command(f"AUTH PLAIN {door.plain()}")).startswith("235 2.7.0 ")


async def test_after_three_wrong_passwords_the_connection_ends(door: RunningDoor) -> None:
    client = await greeted(door, tls=True)
    await client.command("EHLO client.example")
    wrong = [door.plain(password="wrong"), door.plain(user="nobody"), door.plain(user="nobody", password="wrong")]
    replies = [await client.command(f"AUTH PLAIN {response}") for response in wrong]
    assert replies[0] == replies[1] == "535 5.7.8 Authentication credentials invalid"
    assert replies[2] == "421 4.7.0 Too many failed logins"
    assert await client.reply() == ""


async def test_a_wrong_answer_takes_longer_each_time(door: RunningDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)

    monkeypatch.setattr("depesche.api.smtp.dialogue.asyncio.sleep", sleep)
    for _ in range(2):
        client = await greeted(door, tls=True)
        await client.command("EHLO client.example")
        for _ in range(3):
            await client.command(f"AUTH PLAIN {door.plain(password='wrong')}")
    delays = [seconds for seconds in waited if seconds < 1]
    assert delays[:6] == [guard.FIRST_DELAY_SECONDS * 2**n for n in range(6)], "a new connection does not begin anew"


async def test_a_registered_address_submits_without_login_or_tls_on_the_relay_port(
    door_maker: DoorMaker, free_port: Any
) -> None:
    door = await door_maker(relay_port=free_port())
    client = await greeted(door, port=door.settings.smtp.relay_port)
    offers = await client.command("EHLO client.example")
    assert "AUTH" not in offers
    assert "STARTTLS" not in offers
    assert (await client.command(f"AUTH PLAIN {door.plain()}")).startswith("538 ")
    assert (await client.mail()).startswith("250 2.0.0 ")
    assert door.hallway.last.account.endswith("relay")
    assert b" with ESMTP id " in door.hallway.last.messages[0].parts[0]


async def test_an_unknown_address_is_refused_on_the_relay_port(door_maker: DoorMaker, free_port: Any) -> None:
    door = await door_maker(relay_port=free_port())
    door.directory.book._by_ip.clear()
    client = await door.connect(door.settings.smtp.relay_port)
    assert (await client.reply()).startswith("554 5.7.1 ")
    assert await client.reply() == ""


async def test_pythons_smtplib_submits_over_both_ports(door: RunningDoor) -> None:
    def submit(implicit: bool) -> None:
        smtp = door.settings.smtp
        client: Any
        if implicit:
            client = smtplib.SMTP_SSL("127.0.0.1", smtp.tls_port, context=door.trust, timeout=30)
        else:
            client = smtplib.SMTP("127.0.0.1", smtp.port, timeout=30)
            client.starttls(context=door.trust)
        with client:
            client.login(door.user, door.password)
            client.sendmail("orders@shop.example", ["ada@example.org"], MESSAGE + b"..dots\r\n.\r\n")

    await asyncio.to_thread(submit, True)
    await asyncio.to_thread(submit, False)
    assert [door.hallway.message(n).endswith(b"Dear Ada,\r\n..dots\r\n.\r\n") for n in (0, 1)] == [True, True]


async def test_tls_below_1_2_is_refused(door: RunningDoor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        door.trust.minimum_version = ssl.TLSVersion.TLSv1
        door.trust.maximum_version = ssl.TLSVersion.TLSv1_1
    door.trust.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await door.connect(tls=True)
