"""The real application over the real hallway, directory and keyring; only the Kafka client and the archive are of memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.backlog.backlog import Backlog
from depesche.analytics.controls.book import ControlBook
from depesche.analytics.controls.pen import ControlPen
from depesche.analytics.directory.book import record_key
from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.registrar import Registrar, new_account
from depesche.analytics.log.alerts import Ledger
from depesche.analytics.pace.book import PaceBook
from depesche.analytics.store import migrate
from depesche.analytics.store.client import StoreClient
from depesche.analytics.suppressions.book import SuppressionBook
from depesche.analytics.suppressions.desk import SuppressionDesk
from depesche.analytics.suppressions.requests import Requests
from depesche.analytics.suppressions.view import Change, View
from depesche.api.hallway import Hallway
from depesche.api.idempotency import IdempotencyIndex
from depesche.api.rest.app import build_app, equip
from depesche.api.rest.tools import Tools
from depesche.schemas.codec import decode, encode
from depesche.schemas.records import (
    ArchiveRef,
    ControlScope,
    CredentialUse,
    DirectoryKind,
    DirectoryRecord,
    Job,
    JobEnvelope,
    SenderDomain,
    Status,
    SuppressionRequest,
)
from depesche.schemas.service import now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import CONTROLS, DIRECTORY, SUPPRESSION_REQUESTS
from depesche.streams.mail.suppression import after_request
from depesche.streams.mail.suppression_facts import Policy

from ..conftest import EngineProcess  # noqa: TID252  (the tests are no package)

#: Written by hand, because making a signing key for each test would take a tenth of a second.
A_DOMAIN = DirectoryRecord(
    kind=DirectoryKind.DOMAIN,
    id="shop.example",
    tenant="10001",
    changed_at=0,
    changed_by="test",
    value=SenderDomain(accounts=(), status=Status.ACTIVE, dkim=()),
)
ROOT = "http://depesche.test"


@dataclass
class MemoryLog:
    """Stands in for aiokafka's producer: acknowledges at once, and feeds the directory what was written to it."""

    records: list[tuple[str, bytes, bytes | None]] = field(default_factory=list)
    directory: Directory | None = None
    suppressions: SuppressionBook | None = None
    controls: ControlBook | None = None
    client: Any = None

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1}

    async def send(self, topic: str, value: bytes | None, *, key: bytes, **_: Any) -> asyncio.Future[Any]:
        offset = len(self.records)
        self.records.append((topic, key, value))
        if topic.endswith(DIRECTORY.name) and self.directory is not None:
            self.directory._take(SimpleNamespace(key=key, value=value, offset=offset))  # type: ignore[arg-type]
            self.directory.next = offset + 1
        if topic.endswith(SUPPRESSION_REQUESTS.name) and self.suppressions is not None and value is not None:
            self._fold(self.suppressions, decode(SuppressionRequest, value), offset)
        if topic.endswith(CONTROLS.name) and self.controls is not None:
            self.controls._take(SimpleNamespace(key=key, value=value, offset=offset))  # type: ignore[arg-type]
            self.controls._follower.next = offset + 1
        sent = asyncio.get_running_loop().create_future()
        sent.set_result(SimpleNamespace(offset=offset, partition=0))
        return sent

    @staticmethod
    def _fold(book: SuppressionBook, request: SuppressionRequest, offset: int) -> None:
        """What the agents do, at once."""
        held = book.entry(request.tenant, request.recipient_key)
        state = after_request(held, request, Policy.of(Settings().suppression), 0, offset)
        if state is not None:
            book.view.take([Change(state.recipient_key, encode(state), state)], {0: 0}, now_ms())


@dataclass
class MemoryArchive:
    """Keeps contents by position."""

    contents: list[bytes] = field(default_factory=list)

    async def put(self, tenant: str, contents: Sequence[bytes]) -> list[ArchiveRef]:
        first = len(self.contents)
        self.contents += contents
        return [
            ArchiveRef(segment="memory", offset=first + n, length=len(c), size=len(c), key_id=f"{tenant}/20260115")
            for n, c in enumerate(contents)
        ]


@dataclass
class World:
    """One application with everything around it."""

    app: FastAPI
    client: httpx.AsyncClient
    log: MemoryLog
    archive: MemoryArchive
    keyring: Keyring
    tools: Tools
    registrar: Registrar
    token: str
    login: tuple[str, str]
    operator: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def as_operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.operator}"}

    def jobs(self) -> list[tuple[Job, JobEnvelope]]:
        """The jobs in the log with their envelopes opened."""
        found = []
        for topic, _, value in self.log.records:
            if topic.startswith("mail.jobs") and value is not None:
                job = decode(Job, value)
                aad = b"job|" + job.job_id.encode()
                envelope = decode(JobEnvelope, self.keyring.key(job.key_id).open(job.sealed_envelope, aad))
                found.append((job, envelope))
        return found

    def messages(self) -> list[bytes]:
        """The messages of all jobs, as they will be sent."""
        return [
            b"".join(self.archive.contents[ref.offset] for ref in message.content)
            for job, _ in self.jobs()
            for message in job.messages
        ]


async def _no_alerts() -> Ledger:
    return Ledger()


async def _nothing_waits(scope: ControlScope) -> Backlog:
    return Backlog(scope)


async def a_world(
    directory: Path, settings: Settings | None = None, store: StoreClient | None = None, app: FastAPI | None = None
) -> World:
    """A world of its own; with ``app``, an application that another world has used before gets this one's tools."""
    settings = (settings or Settings()).model_copy(update={"home": directory})
    settings.archive_directory.mkdir(parents=True, exist_ok=True)
    keyring = Keyring.open(directory / "keys")
    log, archive = MemoryLog(), MemoryArchive()
    book = Directory(settings, keyring)
    log.directory = book
    registrar = Registrar(settings, book, log, keyring)  # type: ignore[arg-type]
    hallway = Hallway(settings, book, keyring, archive, log, IdempotencyIndex(settings, keyring))  # type: ignore[arg-type]
    await hallway.start()
    assert hallway._probing is not None
    hallway._probing.cancel()
    await registrar.add_customer("10001", "Shop", "test")
    account = await registrar.add_account("10001", new_account("shop"), "test")
    await log.send(DIRECTORY.name, encode(A_DOMAIN), key=record_key(A_DOMAIN.kind, A_DOMAIN.id, A_DOMAIN.tenant))
    api_key = await registrar.add_key(account, "api", CredentialUse.API_KEY, "test")
    login = await registrar.add_key(account, "login", CredentialUse.LOGIN, "test")
    operator = await registrar.add_key("", "operator", CredentialUse.OPERATOR, "test", tenant="*")
    suppressions = SuppressionBook(settings, keyring, directory / "suppressions")
    suppressions._view = View.open(directory / "suppressions", "memory", now_ms(), {})
    log.suppressions = suppressions
    requests = Requests(settings, log)  # type: ignore[arg-type]
    requests._partitions = 1
    desk = SuppressionDesk(suppressions, requests, book, keyring)
    log.controls = ControlBook(settings)
    pen = ControlPen(settings, log.controls, log)  # type: ignore[arg-type]
    kept = (store, PaceBook(settings), _no_alerts, desk)
    tools = Tools(settings, hallway, book, registrar, *kept, pen=pen, inspect=_nothing_waits)
    if app is None:
        app = build_app(tools)
    else:
        equip(app, tools)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app, client=("127.0.0.1", 50000)), base_url=ROOT)
    return World(
        app,
        client,
        log,
        archive,
        keyring,
        tools,
        registrar,
        api_key.token,
        (login.key_id, login.secret),
        operator.token,
    )


@pytest.fixture(scope="session")
def shared_app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """An application for one world after another, because putting its routes together takes longer than most tests."""
    return asyncio.run(a_world(tmp_path_factory.mktemp("app"))).app


@pytest.fixture
async def world(tmp_path: Path, shared_app: FastAPI) -> AsyncIterator[World]:
    found = await a_world(tmp_path, app=shared_app)
    async with found.client:
        yield found


_databases = itertools.count()


@pytest.fixture
async def store(engine: EngineProcess) -> AsyncIterator[StoreClient]:
    """A store of its own in the real engine, with all tables."""
    name = f"rest{next(_databases)}"
    clickhouse = {"url": engine.url, "user": engine.user, "password": engine.password, "database": name}
    settings = Settings.model_validate({"clickhouse": clickhouse})
    client = StoreClient(settings, "tests")
    await client.command(f"CREATE DATABASE {name}", anywhere=True)
    await migrate.bootstrap(client, settings)
    yield client
    await client.command(f"DROP DATABASE {name}", anywhere=True)
    await client.close()
