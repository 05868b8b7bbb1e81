"""The door of the return path on real sockets: takes what comes back to us, passes nothing on, and tells strangers nothing."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from depesche.api.returned_mail import Delivery
from depesche.api.smtp.return_door import MAX_REFUSED, ReturnDoor
from depesche.api.smtp.tls import server_context
from depesche.infra.local.certificate import ensure_certificate
from depesche.schemas.errors import ArchiveUnavailableError, LogUnavailableError, SetupError
from depesche.schemas.identity import new_job_id
from depesche.schemas.return_key import Purpose, ReturnKeys
from depesche.schemas.settings import Settings

from .bench import ENHANCED

DOMAIN = "returns.example"
KEYS = ReturnKeys({"1": b"k" * 32})
JOB = new_job_id()
MINE = f"{KEYS.token(Purpose.BOUNCE, JOB, 3)}@{DOMAIN}"
MAIL = b"From: MAILER-DAEMON@far.example\r\nSubject: Undelivered\r\n\r\nNobody here.\r\n"


@dataclass
class RecordingKeeper:
    """Keeps in memory."""

    ready: bool = True
    kept: list[Delivery] = field(default_factory=list)
    fault: Exception | None = None

    async def keep(self, delivery: Delivery) -> str:
        if self.fault is not None:
            raise self.fault
        self.kept.append(delivery)
        return f"r{len(self.kept)}"


@dataclass
class Door:
    port: int
    keeper: RecordingKeeper
    trust: ssl.SSLContext
    task: asyncio.Task[None]

    async def says(self, *commands: bytes) -> list[str]:
        """The replies to commands said one after another in a session of their own, without greeting and EHLO."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        replies = []
        for command in (b"", b"EHLO far.example\r\n", *commands):
            writer.write(command)
            line = b""
            while not line or line[3:4] == b"-":
                line = await asyncio.wait_for(reader.readline(), 30)
                if not line:
                    break
            replies.append(line.decode().rstrip())
        writer.close()
        await writer.wait_closed()
        return replies[2:]

    async def recipient(self, path: str, sender: str = "") -> str:
        """The reply to a recipient."""
        return (await self.says(f"MAIL FROM:<{sender}>\r\n".encode(), f"RCPT TO:<{path}>\r\n".encode()))[-1]

    async def mail(self, content: bytes, *recipients: str) -> str:
        envelope = [f"RCPT TO:<{path}>\r\n".encode() for path in recipients or (MINE,)]
        return (await self.says(b"MAIL FROM:<>\r\n", *envelope, b"DATA\r\n", content + b"\r\n.\r\n"))[-1]


DoorMaker = Callable[..., Awaitable[Door]]


@pytest_asyncio.fixture
async def make(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[DoorMaker]:
    """Makes doors with settings of ``returns`` as keywords."""
    doors: list[Door] = []

    async def made(**returns: Any) -> Door:
        given = {"domain": DOMAIN, "port": free_port(), **returns}
        settings = Settings.model_validate({"home": tmp_path, "returns": given})
        files = ensure_certificate(tmp_path / "tls", "smtp", ["127.0.0.1", "localhost"])
        keeper = RecordingKeeper()
        ready = asyncio.Event()
        service = ReturnDoor(settings, keeper, KEYS, server_context(files.certificate, files.key))
        task = asyncio.create_task(service.run(ready.set))
        await asyncio.wait({task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        trust = ssl.create_default_context(cafile=str(files.certificate))
        doors.append(Door(settings.returns.port, keeper, trust, task))
        return doors[-1]

    yield made
    for door in doors:
        door.task.cancel()
        await asyncio.wait({door.task})


@pytest_asyncio.fixture
async def door(make: DoorMaker) -> Door:
    return await make(more_domains=("old.example",))


async def test_a_bounce_is_kept_to_the_byte_and_then_confirmed(door: Door) -> None:
    content = b"Subject: x\r\n\r\n..dotted\r\n" + b"y" * 5000 + b"\r\nbare\nline \x00 ends\r\rand \xff octets"
    assert (await door.mail(content)).startswith("250 2.0.0 Ok: queued as r1")
    [kept] = door.keeper.kept
    assert kept.content == content.replace(b"\r\n..", b"\r\n.") + b"\r\n"
    assert (kept.mail_from, kept.recipients, kept.client, kept.helo) == ("", (MINE,), "127.0.0.1", "far.example")


async def test_a_foreign_client_delivers_over_starttls(door: Door) -> None:
    def deliver() -> None:
        with smtplib.SMTP("localhost", door.port, timeout=30) as client:
            client.starttls(context=door.trust)
            client.ehlo()
            assert "auth" not in client.esmtp_features
            assert client.esmtp_features["size"] == str(20 << 20)
            client.sendmail("", [MINE.upper(), f"fbl@{DOMAIN}"], MAIL)

    await asyncio.to_thread(deliver)
    assert door.keeper.kept[0].recipients == (MINE.upper(), f"fbl@{DOMAIN}")


@pytest.mark.parametrize(
    "path",
    [
        f"{KEYS.token(Purpose.UNSUBSCRIBE, JOB, 0)}@{DOMAIN}",
        f"fbl@{DOMAIN}",
        f"PostMaster@{DOMAIN.upper()}",
        f"abuse@{DOMAIN}",
        "abuse@old.example",
        "postmaster",
    ],
)
async def test_what_is_ours_is_taken(door: Door, path: str) -> None:
    assert await door.recipient(path, "anybody at all@far.example".replace(" ", ".")) == "250 2.1.5 Ok"


async def test_every_mailbox_that_is_not_there_is_refused_in_the_same_words(door: Door) -> None:
    token = KEYS.token(Purpose.BOUNCE, JOB, 3)
    last = "b" if token[-1] != "b" else "a"
    wrong = {
        "nobody",
        token[:-1] + last,
        token[:10] + ("a" if token[10] != "a" else "b") + token[11:],
        token[:-1],
        token + "a",
        "u1" + token[2:],
        "h1" + token[2:],
        "b2" + token[2:],
        KEYS.token(Purpose.HEADER, JOB, 3),
        "b1" + KEYS.token(Purpose.HEADER, JOB, 3)[2:],
        ReturnKeys({"1": b"another's".ljust(32)}).token(Purpose.BOUNCE, JOB, 3),
        "b1-" + "a" * 55,
        f'"{token}"',
    }
    replies = {await door.recipient(f"{local}@{DOMAIN}") for local in wrong}
    assert replies == {"550 5.1.1 No such mailbox here"}
    assert door.keeper.kept == []


def relays() -> list[str]:
    """Forms in which others have been made to pass mail on."""
    user, victim = "victim", "elsewhere.example"
    full = f"{user}@{victim}"
    key = MINE.partition("@")[0]
    return [
        full,
        f"{user}%{victim}@{DOMAIN}",
        f"{user}%{victim}@[127.0.0.1]",
        f"{user}%{victim}",
        f"{full}@{DOMAIN}",
        f'"{full}"@{DOMAIN}',
        f'"{user}%{victim}"@{DOMAIN}',
        f'"{full}"',
        f"@{DOMAIN}:{full}",
        f"@{DOMAIN},@{victim}:{full}",
        f"{victim}!{user}@{DOMAIN}",
        f"{victim}!{user}",
        f"{DOMAIN}!{victim}!{user}",
        f"{victim}!{user}%{victim}@{DOMAIN}",
        f'"{victim}!{user}"@{DOMAIN}',
        f"{key}@{victim}",
        f"fbl@{victim}",
        f"postmaster@{victim}",
        f"{full}@localhost",
        f"{user}@localhost",
        f"{user}@[127.0.0.1]",
        f"{user}@[IPv6:::1]",
        "fbl@[127.0.0.1]",
        f"fbl@{DOMAIN}.{victim}",
        f"fbl@sub.{DOMAIN}",
        f"fbl@{DOMAIN}.",
        f"fbl@.{DOMAIN}",
        f"fbl@x{DOMAIN}",
        f"{MINE}@{victim}",
        f"{MINE}%{victim}@{DOMAIN}",
        f"{full}@{MINE}",
        f"fbl+{user}={victim}@{DOMAIN}",
        f"srs0=hash=tt={victim}={user}@{DOMAIN}",
        f"prvs=0123456789={full}",
        f"{user}@{victim}@{DOMAIN}",
        f'"{user}"@"{victim}"',
        f"{user}@{victim}#@{DOMAIN}",
        f"{user}\\@{victim}@{DOMAIN}",
        f"root@{DOMAIN}",
        f"{user}@{DOMAIN}",
        f"|/bin/sh@{DOMAIN}",
        f"/etc/passwd@{DOMAIN}",
        "",
        f"@{DOMAIN}",
    ]


@pytest.mark.parametrize("path", relays())
async def test_nothing_is_passed_on(door: Door, path: str) -> None:
    for sender in ("", f"fbl@{DOMAIN}", f"postmaster@{DOMAIN}"):
        reply = await door.recipient(path, sender)
        assert reply.startswith(("550 5.7.1 ", "550 5.1.1 ", "501 5.5.4 ")), (path, reply)


@pytest.mark.parametrize(
    "command",
    [
        f"RCPT TO:victim@elsewhere.example fbl@{DOMAIN}",
        f"RCPT TO:<victim@elsewhere.example>,<fbl@{DOMAIN}>",
        f"RCPT TO:<fbl@{DOMAIN}> <victim@elsewhere.example>",
        f"RCPT TO:<fbl@{DOMAIN}> ORCPT=rfc822;victim@elsewhere.example",
        f"RCPT TO:<<fbl@{DOMAIN}>victim@elsewhere.example>",
        "ETRN elsewhere.example",
        "EXPN postmaster",
        "AUTH PLAIN AGZibABmYmw=",
        "AUTH LOGIN",
        "TURN",
        "BDAT 10 LAST",
    ],
)
async def test_what_is_not_offered_is_refused(door: Door, command: str) -> None:
    reply = (await door.says(b"MAIL FROM:<>\r\n", command.encode() + b"\r\n"))[-1]
    assert reply.startswith("5")
    assert ENHANCED.match(reply)


async def test_what_cannot_be_kept_is_put_off_and_nothing_of_ours_is_told(door: Door) -> None:
    door.keeper.fault = ArchiveUnavailableError("no space on /var/lib/somewhere")
    assert await door.mail(MAIL) == "452 4.3.1 We cannot take this just now; please try again"
    door.keeper.fault = LogUnavailableError("broker 127.0.0.1:1 is gone")
    assert (await door.mail(MAIL)).startswith("451 4.3.0 We cannot take this just now")
    door.keeper.fault = RuntimeError("a bug")
    assert (await door.mail(MAIL)).startswith("451 4.3.0 Something went wrong")
    door.keeper.fault = None
    assert (await door.mail(MAIL)).startswith("250 ")


async def test_a_door_that_cannot_keep_does_not_greet(door: Door) -> None:
    door.keeper.ready = False
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    assert (await reader.readline()).startswith(b"421 4.3.2 ")
    writer.close()


async def test_a_mail_may_have_its_size_and_not_an_octet_more(make: DoorMaker) -> None:
    door = await make(max_size=10_000)
    whole = MAIL + b"x" * (10_000 - len(MAIL) - 2)
    assert (await door.mail(whole)).startswith("250 ")
    assert await door.mail(whole + b"x") == "552 5.3.4 The message is larger than 10000 bytes"
    announced = await door.says(b"MAIL FROM:<> SIZE=10001\r\n")
    assert announced == ["552 5.3.4 The message is larger than 10000 bytes"]
    assert len(door.keeper.kept) == 1


async def test_one_source_has_only_so_many_connections(make: DoorMaker) -> None:
    door = await make(max_connections_per_ip=2)
    open_ = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(3)]
    greetings = [await reader.readline() for reader, _ in open_]
    assert sorted(greeting[:4] for greeting in greetings) == [b"220 ", b"220 ", b"421 "]
    for _, writer in open_:
        writer.close()


async def test_whoever_tries_one_key_after_another_is_sent_away(door: Door) -> None:
    guesses = [f"RCPT TO:<b1-{'a' * 53}{number:02d}@{DOMAIN}>\r\n".encode() for number in range(MAX_REFUSED + 1)]
    replies = await door.says(b"MAIL FROM:<>\r\n", *guesses)
    assert replies[-1].startswith("421 4.7.0 ")
    assert set(replies[1:-1]) == {"550 5.1.1 No such mailbox here"}


async def test_recipients_are_counted(make: DoorMaker) -> None:
    door = await make(max_recipients=2)
    tokens = [KEYS.token(Purpose.BOUNCE, JOB, number) for number in (1, 2, 2, 3)]
    replies = await door.says(b"MAIL FROM:<>\r\n", *(f"RCPT TO:<{token}@{DOMAIN}>\r\n".encode() for token in tokens))
    assert [reply[:9] for reply in replies[1:]] == ["250 2.1.5", "250 2.1.5", "250 2.1.5", "452 4.5.3"]


async def test_without_a_domain_it_stays_closed(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    settings = Settings.model_validate({"home": tmp_path, "returns": {"port": port}})
    ready = asyncio.Event()
    task = asyncio.create_task(ReturnDoor(settings, RecordingKeeper(), KEYS, None).run(ready.set))
    await asyncio.wait_for(ready.wait(), 10)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    task.cancel()
    await asyncio.wait({task})


def test_it_does_not_open_without_a_certificate(tmp_path: Path) -> None:
    settings = Settings.model_validate({"home": tmp_path, "returns": {"domain": DOMAIN}})
    with pytest.raises(SetupError, match="certificate"):
        ReturnDoor(settings, RecordingKeeper(), KEYS, None)
