"""The SMTP door on real sockets: a directory filled without Kafka, a hallway that records, and a client that speaks raw."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest_asyncio

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.secrets import new_secret
from depesche.api.smtp.door import SMTPDoor
from depesche.api.smtp.tls import server_context
from depesche.api.submission import Receipt, Submission
from depesche.infra.local.certificate import ensure_certificate
from depesche.schemas.errors import ForbiddenSenderError, InvalidRequestError, LogUnavailableError
from depesche.schemas.identity import new_job_id
from depesche.schemas.records import (
    Account,
    Credential,
    CredentialUse,
    Customer,
    DirectoryKind,
    DirectoryRecord,
    Interface,
    SenderDomain,
    Status,
)
from depesche.schemas.service import now_ms
from depesche.schemas.settings import Settings

TENANT, ACCOUNT, DOMAIN = "10001", "10001_DE_1", "shop.example"
RELAY_ACCOUNT = "10001_DE_relay"
ENHANCED = re.compile(r"([245])\d\d[ -]\1\.\d{1,3}\.\d{1,3} ")
MESSAGE = b"From: Shop <orders@shop.example>\r\nTo: ada@example.org\r\nSubject: Hello\r\n\r\nDear Ada,\r\n"


class RecordingHallway:
    """Keeps submissions in memory; otherwise it behaves as the real one: checks, refuses, survives a cancelled caller."""

    def __init__(self, directory: Directory) -> None:
        self.ready = True
        self.taken: list[Submission] = []
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self._directory = directory
        self._running: set[asyncio.Task[Receipt]] = set()

    async def submit(self, submission: Submission) -> Receipt:
        if not self.ready:
            raise LogUnavailableError("the log cannot be written just now")
        if not submission.recipients or not submission.messages:
            raise InvalidRequestError("no recipient or no message")
        if self._directory.sender_domain(submission.sender_domain, submission.tenant, submission.account) is None:
            raise ForbiddenSenderError("not registered")
        task = asyncio.ensure_future(self._accept(submission))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _accept(self, submission: Submission) -> Receipt:
        self.entered.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.taken.append(submission)
        return Receipt(new_job_id(), now_ms(), len(submission.recipients))

    @property
    def last(self) -> Submission:
        return self.taken[-1]

    def message(self, number: int = -1) -> bytes:
        """The bytes of a taken message, without the Received line."""
        return b"".join(self.taken[number].messages[0].parts).partition(b"\r\n\t")[2].partition(b"\r\n")[2]


@dataclass
class RunningDoor:
    """A door that serves, and what a test needs to speak to it."""

    settings: Settings
    hallway: RecordingHallway
    directory: Directory
    user: str
    password: str
    trust: ssl.SSLContext
    task: asyncio.Task[None]
    clients: list[Client] = field(default_factory=list)

    async def connect(self, port: int | None = None, *, tls: bool = False) -> Client:
        """A connection; greeted, nothing said yet."""
        port = port or (self.settings.smtp.tls_port if tls else self.settings.smtp.port)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            port,
            ssl=self.trust if tls else None,
            server_hostname="127.0.0.1" if tls else None,
            limit=1 << 22,
        )
        client = Client(self, reader, writer)
        self.clients.append(client)
        return client

    async def session(self) -> Client:
        """A connection inside TLS, logged in."""
        client = await self.connect(tls=True)
        assert (await client.reply()).startswith("220 ")
        await client.command("EHLO client.example")
        assert (await client.command(f"AUTH PLAIN {self.plain()}")).startswith("235 2.7.0 ")
        return client

    def plain(self, password: str | None = None, user: str | None = None) -> str:
        """The initial response of AUTH PLAIN."""
        return encoded(f"\0{user or self.user}\0{password or self.password}")


class Client:
    """Says bytes, hears whole replies."""

    def __init__(self, door: RunningDoor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.door = door
        self.reader = reader
        self.writer = writer
        self.heard: list[str] = []

    async def reply(self) -> str:
        """The next reply, its lines joined by LF; empty at the end of the connection."""
        lines = []
        while True:
            try:
                line = (await asyncio.wait_for(self.reader.readline(), 30)).decode()
            except ConnectionError:
                line = ""
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                break
        self.heard.append("\n".join(lines))
        return self.heard[-1]

    async def command(self, text: str) -> str:
        await self.send(text.encode() + b"\r\n")
        return await self.reply()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def starttls(self) -> None:
        await self.writer.start_tls(self.door.trust, server_hostname="127.0.0.1")

    async def envelope(self, *recipients: str, sender: str = "orders@shop.example") -> None:
        """MAIL, RCPT and DATA, all taken."""
        assert await self.command(f"MAIL FROM:<{sender}>") == "250 2.1.0 Ok"
        for recipient in recipients or ("ada@example.org",):
            assert await self.command(f"RCPT TO:<{recipient}>") == "250 2.1.5 Ok"
        assert (await self.command("DATA")).startswith("354 ")

    async def mail(self, content: bytes = MESSAGE, *recipients: str) -> str:
        """The reply to a whole mail; ``content`` is sent as it is, the end of data after it."""
        await self.envelope(*recipients)
        await self.send(content + b".\r\n")
        return await self.reply()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _fill(directory: Directory, keyring: Keyring) -> tuple[str, str]:
    """Register what the tests send with; returns user and password."""
    fresh = new_secret(keyring.pepper("credential"))
    read_only = new_secret(keyring.pepper("credential"))
    active = Status.ACTIVE
    smtp = (Interface.SMTP,)
    things: list[tuple[DirectoryKind, str, str, Any]] = [
        (DirectoryKind.CUSTOMER, TENANT, TENANT, Customer(name="Shop", status=active)),
        (DirectoryKind.CUSTOMER, "20002", "20002", Customer(name="Other", status=active)),
        (DirectoryKind.ACCOUNT, ACCOUNT, TENANT, Account(name="a", status=active, interfaces=smtp)),
        (
            DirectoryKind.ACCOUNT,
            RELAY_ACCOUNT,
            TENANT,
            Account(name="r", status=active, interfaces=smtp, source_ips=("127.0.0.1",), login_by_ip=True),
        ),
        (DirectoryKind.DOMAIN, DOMAIN, TENANT, SenderDomain(accounts=(), status=active, dkim=())),
        (DirectoryKind.DOMAIN, "xn--bcher-kva.example", TENANT, SenderDomain(accounts=(), status=active, dkim=())),
        (DirectoryKind.DOMAIN, "other.example", "20002", SenderDomain(accounts=(), status=active, dkim=())),
        (DirectoryKind.DOMAIN, "mine.example", TENANT, SenderDomain(accounts=("x",), status=active, dkim=())),
    ]
    for secret, scopes in ((fresh, ()), (read_only, ("read",))):
        value = Credential(
            account=ACCOUNT,
            name="login",
            use=CredentialUse.LOGIN,
            secret_hash=secret.hash,
            hint="",
            status=active,
            scopes=scopes,
        )
        things.append((DirectoryKind.KEY, secret.key_id, TENANT, value))
    for offset, (kind, id_, tenant, value) in enumerate(things):
        record = DirectoryRecord(kind=kind, id=id_, tenant=tenant, changed_at=1, changed_by="seed", value=value)
        directory.book.apply(record, offset)
    return fresh.key_id, fresh.secret


def without(directory: Directory, kind: DirectoryKind, id_: str) -> None:
    """Take a thing out of the directory."""
    directory.book.remove(f"{kind.value}/{id_}/{TENANT}".encode())


DoorMaker = Callable[..., Awaitable[RunningDoor]]


@pytest_asyncio.fixture
async def door_maker(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[DoorMaker]:
    """Makes doors with settings of ``smtp`` as keywords."""
    running: list[RunningDoor] = []

    async def make(**smtp: Any) -> RunningDoor:
        ports = {"port": free_port(), "tls_port": free_port()}
        settings = Settings.model_validate({"home": tmp_path, "smtp": {**ports, **smtp}})
        files = ensure_certificate(tmp_path / "tls", "smtp", ["127.0.0.1"])
        keyring = Keyring.open(tmp_path / "keys")
        directory = Directory(settings, keyring)
        user, password = _fill(directory, keyring)
        without_login_by_ip = settings.smtp.relay_port == 0
        if without_login_by_ip:
            without(directory, DirectoryKind.ACCOUNT, RELAY_ACCOUNT)
            directory.book._index_addresses()
        hallway = RecordingHallway(directory)
        tls = server_context(files.certificate, files.key)
        trust = ssl.create_default_context(cafile=str(files.certificate))
        ready = asyncio.Event()
        task = asyncio.create_task(SMTPDoor(settings, hallway, directory, tls).run(ready.set))
        await asyncio.wait({task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        running.append(RunningDoor(settings, hallway, directory, user, password, trust, task))
        return running[-1]

    yield make
    for door in running:
        door.hallway.gate.set()
        for client in door.clients:
            # Not in order: what a test has flooded the door with would first be worked off.
            client.writer.transport.abort()
        door.task.cancel()
        await asyncio.wait({door.task})


@pytest_asyncio.fixture
async def door(door_maker: DoorMaker) -> RunningDoor:
    """A door with default settings."""
    return await door_maker()
