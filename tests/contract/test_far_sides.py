"""What both far sides promise, the scripted sink and the real Postfix; and what the foreign judges behind them say."""

# Fixtures are imported by name and then named as arguments, which looks like an unused import and a redefinition.
# ruff: noqa: F401, F811

import asyncio
import base64
import os
import smtplib
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from depesche.infra.local.clamd import Clamd
from depesche.infra.local.eicar import eicar
from depesche.infra.local.fault import LocalFault
from depesche.infra.local.postfix import Postfix, PostfixSettings
from depesche.infra.local.published import ZoneFolder
from depesche.infra.local.sink.mailbox import StoredMail, list_mails, read_mail
from depesche.infra.local.sink.server import Sink
from depesche.infra.local.zone import Record
from tests.contract.far_side import clamd, dns_server, opendkim, postfix, sink, zone

SENDER = "news@shop.test"


@dataclass(frozen=True)
class FarSide:
    """A far side as a client sees it, and its mailbox as people see it."""

    address: str
    port: int
    mailbox: Path
    domain: str
    missing: str

    def connect(self) -> smtplib.SMTP:
        return smtplib.SMTP(self.address, self.port, local_hostname="shop.test", timeout=10)

    async def arrived(self, message_id: str) -> tuple[StoredMail, bytes]:
        for _attempt in range(200):
            for mail in list_mails(self.mailbox):
                if mail.message_id == message_id:
                    return read_mail(self.mailbox, mail.id)
            await asyncio.sleep(0.05)
        raise AssertionError(f"{message_id} did not arrive")


@pytest.fixture(params=["sink", "postfix"])
def far_side(request: pytest.FixtureRequest) -> FarSide:
    server = request.getfixturevalue(request.param)
    if isinstance(server, Sink):
        return FarSide("127.0.0.2", server.port, server.settings.mailbox, "sandbox.test", "hardbounce")
    assert isinstance(server, Postfix)
    settings = server.settings
    return FarSide(settings.address, settings.port, settings.maildir, "inbox.test", "nobody")


def mail(message_id: str, body: bytes = b"Guten Tag\r\n", subject: str = "A word") -> bytes:
    header = f"From: {SENDER}\r\nTo: ada@inbox.test\r\nSubject: {subject}\r\nMessage-ID: {message_id}\r\n"
    return header.encode() + b"Date: Mon, 23 Nov 2026 10:00:00 +0100\r\n\r\n" + body


def relaxed_newlines(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n")


async def test_an_accepted_mail_arrives_and_can_be_read_back(far_side: FarSide) -> None:
    content = mail("<plain@shop.test>", b".one dot\r\n..two\r\n.\r\n...\r\nlast line\r\n")

    def send() -> None:
        with far_side.connect() as client:
            assert client.sendmail(SENDER, [f"ada@{far_side.domain}"], content) == {}

    await asyncio.to_thread(send)
    stored, read = await far_side.arrived("<plain@shop.test>")
    assert (stored.sender, stored.recipients, stored.subject) == (SENDER, [f"ada@{far_side.domain}"], "A word")
    assert relaxed_newlines(read).endswith(relaxed_newlines(content))
    assert stored.size == len(read)


async def test_a_mail_over_tls_with_utf8_addresses_arrives(far_side: FarSide) -> None:
    content = mail("<utf8@shop.test>", "Grüße\r\n".encode(), subject="=?utf-8?q?Gr=C3=BC=C3=9Fe?=")

    def send() -> None:
        with far_side.connect() as client:
            client.starttls(context=ssl._create_unverified_context())
            client.ehlo()
            assert {"size", "8bitmime", "smtputf8", "pipelining", "enhancedstatuscodes"} <= set(client.esmtp_features)
            options = ["SMTPUTF8", "BODY=8BITMIME"]
            assert client.sendmail(SENDER, [f"jürgen@{far_side.domain}"], content, options) == {}

    await asyncio.to_thread(send)
    stored, read = await far_side.arrived("<utf8@shop.test>")
    assert stored.subject == "Grüße"
    assert "Grüße".encode() in read


async def test_pipelined_commands_and_content_in_one_piece_are_understood(far_side: FarSide) -> None:
    content = mail("<pipelined@shop.test>", b"x" * 70 + b"\r\n")
    good, missing = (f"RCPT TO:<{name}@{far_side.domain}>\r\n" for name in ("ada", far_side.missing))
    commands = f"MAIL FROM:<{SENDER}>\r\n{good}{missing}DATA\r\n"

    def send() -> list[bytes]:
        with socket.create_connection((far_side.address, far_side.port), timeout=10) as connection:
            replies = connection.makefile("rb")
            replies.readline()
            connection.sendall(b"EHLO shop.test\r\n")
            while replies.readline()[3:4] == b"-":
                pass
            connection.sendall(commands.encode())
            first = [replies.readline() for _ in range(4)]
            connection.sendall(content + b".\r\nQUIT\r\n")
            return [*first, replies.readline(), replies.readline()]

    replies = await asyncio.to_thread(send)
    assert [reply[:3] for reply in replies] == [b"250", b"250", b"550", b"354", b"250", b"221"]
    await far_side.arrived("<pipelined@shop.test>")


async def test_a_mail_of_five_megabytes_arrives_whole(far_side: FarSide) -> None:
    body = (base64.encodebytes(os.urandom(3_700_000))).replace(b"\n", b"\r\n")

    def send() -> None:
        with far_side.connect() as client:
            client.sendmail(SENDER, [f"ada@{far_side.domain}"], mail("<large@shop.test>", body))

    await asyncio.to_thread(send)
    _, read = await far_side.arrived("<large@shop.test>")
    assert relaxed_newlines(read).endswith(relaxed_newlines(body))


async def test_refusals_name_their_reason(far_side: FarSide) -> None:
    def replies() -> list[int]:
        with far_side.connect() as client:
            client.ehlo()
            codes = [client.docmd("RCPT", "TO:<ada@inbox.test>")[0]]
            codes.append(client.docmd("MAIL", f"FROM:<{SENDER}> SIZE=999999999")[0])
            # Without RSET Postfix remembers the refused size and refuses the next MAIL, too.
            client.rset()
            codes.append(client.mail(SENDER)[0])
            codes.append(client.docmd("RCPT", f"TO:<{far_side.missing}@{far_side.domain}>")[0])
            codes.append(client.docmd("DATA")[0])
            codes.append(client.docmd("XYZZY")[0])
            return codes

    missing, too_large, sender, unknown, data, nonsense = await asyncio.to_thread(replies)
    assert (missing, too_large, sender, unknown) == (503, 552, 250, 550)
    assert data in (503, 554)
    assert nonsense in (500, 502)


async def test_the_message_ends_at_the_right_dot_only(far_side: FarSide) -> None:
    """CVE-2023-51764 and its kin: a dot between bare newlines must not end a mail that others think goes on."""
    inside = b"before\r\n\n.\nMAIL FROM:<evil@shop.test>\nafter\r\n"

    def send() -> tuple[int, bytes]:
        client = far_side.connect()
        try:
            client.ehlo()
            client.mail(SENDER)
            client.rcpt(f"ada@{far_side.domain}")
            client.docmd("DATA")
            client.send(mail("<smuggle@shop.test>", inside) + b".\r\n")
            reply = client.getreply()
            client.send(b"NOOP\r\n")
            # Whoever took the dot for the end would answer to the commands behind it.
            assert client.getreply()[0] in (250, -1)
            return reply
        finally:
            client.close()

    code, _ = await asyncio.to_thread(send)
    if code == 250:
        _, content = await far_side.arrived("<smuggle@shop.test>")
        assert content.endswith(inside)
    else:
        assert code == 550
    assert [stored for stored in list_mails(far_side.mailbox) if stored.sender == "evil@shop.test"] == []


async def test_postfix_relays_for_nobody(postfix: Postfix) -> None:
    def refused() -> tuple[int, bytes]:
        with smtplib.SMTP(postfix.settings.address, postfix.settings.port, timeout=10) as client:
            client.ehlo()
            client.mail(SENDER)
            return client.rcpt("someone@elsewhere.example")

    code, text = await asyncio.to_thread(refused)
    assert (code, b"Relay access denied" in text) == (554, True)


@pytest.mark.parametrize(("address", "port"), [("0.0.0.0", 2525), ("192.0.2.1", 2525), ("127.0.0.3", 25)])
def test_postfix_refuses_addresses_and_ports_that_are_not_for_tests(tmp_path: Path, address: str, port: int) -> None:
    with pytest.raises(LocalFault):
        Postfix(PostfixSettings(tmp_path, address, port)).prepare()


def _key_pair() -> tuple[bytes, str]:
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, base64.b64encode(public).decode()


async def test_opendkim_tells_good_broken_and_missing_signatures_apart(postfix: Postfix, zone: ZoneFolder) -> None:
    private, public = _key_pair()
    zone.publish(Record("judged._domainkey.shop.test", "TXT", f"v=DKIM1; k=rsa; p={public}"))
    verdicts: dict[str, Callable[[bytes, bytes], bytes]] = {
        "pass": lambda signature, content: signature + content,
        "fail": lambda signature, content: signature + content.replace(b"Guten", b"Guter"),
        "none": lambda _, content: content,
    }

    def send(verdict: str, build: Callable[[bytes, bytes], bytes]) -> None:
        content = mail(f"<{verdict}@shop.test>")
        signature = dkim.sign(content, b"judged", b"shop.test", private)
        with smtplib.SMTP(postfix.settings.address, postfix.settings.port, timeout=10) as client:
            client.sendmail(SENDER, ["ada@inbox.test"], build(signature, content))

    inbox = FarSide(postfix.settings.address, postfix.settings.port, postfix.settings.maildir, "inbox.test", "nobody")
    for verdict, build in verdicts.items():
        await asyncio.to_thread(send, verdict, build)
        _, content = await inbox.arrived(f"<{verdict}@shop.test>")
        head = content.partition(b"\n\n")[0]
        assert b"Authentication-Results: mx.inbox.test;" in head
        assert f"dkim={verdict}".encode() in head


async def scan(clamd: Clamd, content: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(clamd.settings.address, clamd.settings.port)
    writer.write(b"zINSTREAM\0" + struct.pack("!I", len(content)) + content + struct.pack("!I", 0))
    answer = await reader.readuntil(b"\0")
    writer.close()
    await writer.wait_closed()
    return answer


async def test_clamd_finds_the_test_file_also_inside_a_mail(clamd: Clamd) -> None:
    attachment = (
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(b"PK" + eicar())
    )
    multipart = (
        b'From: a@shop.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
        + attachment
        + b"\r\n--b--\r\n"
    )
    nested = b"From: a@shop.test\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n" + multipart
    for infected in (eicar(), multipart, nested):
        assert (await scan(clamd, infected)).endswith(b"FOUND\0")
    assert await scan(clamd, mail("<clean@shop.test>")) == b"stream: OK\0"


def test_no_file_of_the_repository_holds_the_test_virus() -> None:
    root = Path(__file__).parents[2]
    for room in ("schemas", "analytics", "streams", "api", "infra", "tests"):
        for path in (root / room).rglob("*"):
            if path.is_file():
                assert eicar() not in path.read_bytes(), path
