"""The one place where real parts are chosen and joined: a service by its name, with the tools it is handed.

Tools are made once per process, on first use, and closed in the reverse order after the services have ended. Imports stand
inside the makers, so that a process loads only what its services need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from depesche.infra.layout import check_names
from depesche.schemas.service import Service
from depesche.schemas.settings import Settings

if TYPE_CHECKING:
    import ssl

    from aiokafka import AIOKafkaProducer

    from depesche.analytics.archive.keyring import Keyring
    from depesche.analytics.archive.reader import ArchiveReader
    from depesche.analytics.archive.writer import ArchiveWriter
    from depesche.analytics.controls.book import ControlBook
    from depesche.analytics.directory.directory import Directory
    from depesche.analytics.pace.book import PaceBook
    from depesche.analytics.store.client import StoreClient
    from depesche.analytics.suppressions.book import SuppressionBook
    from depesche.analytics.suppressions.desk import SuppressionDesk
    from depesche.api.hallway import Hallway
    from depesche.streams.stages.shaping_watch import ShapingWatch
    from depesche.streams.stages.suppression_check import SuppressionTools
    from depesche.streams.stages.warming import Warming
    from depesche.streams.wire.dns import Resolver


class Toolbox:
    """The tools of one process: each is made on first use and handed to every service that needs it."""

    def __init__(self, settings: Settings, process: str, services: Sequence[str], stack: AsyncExitStack) -> None:
        """``process`` is the name this process keeps over restarts: its member name in consumer groups.

        ``services``: all that stand in it.
        """
        self.settings = settings
        self.process = process
        self.services = tuple(services)
        self._stack = stack
        self._keyring: Keyring | None = None
        self._reader: ArchiveReader | None = None
        self._directory: Directory | None = None
        self._controls: ControlBook | None = None
        self._hallway: Hallway | None = None
        self._writer: ArchiveWriter | None = None
        self._tls: ssl.SSLContext | None = None
        self._store: StoreClient | None = None
        self._pace: PaceBook | None = None
        self._resolver: Resolver | None = None
        self._suppressions: SuppressionBook | None = None
        self._suppression_tools: SuppressionTools | None = None
        self._shaping: ShapingWatch | None = None

    @property
    def keyring(self) -> Keyring:
        """The data keys and sealed secrets."""
        if self._keyring is None:
            from depesche.analytics.archive.keyring import Keyring

            self._keyring = Keyring.open(self.settings.home / "keys", self.settings.master_key_file)
        return self._keyring

    @property
    def archive_reader(self) -> ArchiveReader:
        """Reads message bodies."""
        if self._reader is None:
            from depesche.analytics.archive.reader import ArchiveReader

            self._reader = ArchiveReader(self.settings.archive_directory, self.keyring)
            self._stack.callback(self._reader.close)
        return self._reader

    @property
    def store(self) -> StoreClient:
        """ClickHouse."""
        if self._store is None:
            from depesche.analytics.store.client import StoreClient

            self._store = StoreClient(self.settings, f"depesche-{self.process}")
            self._stack.push_async_callback(self._store.close)
        return self._store

    @property
    def resolver(self) -> Resolver:
        """Name resolution for delivery; one cache for whoever chooses routes and whoever takes them."""
        if self._resolver is None:
            from depesche.streams.wire.dns import Resolver

            settings = self.settings
            self._resolver = Resolver(settings.dns, allow_private=settings.deliver.allow_private)
            self._stack.push_async_callback(self._resolver.close)
        return self._resolver

    @property
    def tls(self) -> ssl.SSLContext:
        """What the SMTP doors encrypt with."""
        if self._tls is None:
            from depesche.api.smtp.tls import server_context
            from depesche.infra.local.certificate import ensure_certificate

            smtp = self.settings.smtp
            if smtp.certificate and smtp.private_key:
                self._tls = server_context(smtp.certificate, smtp.private_key)
            else:
                made = ensure_certificate(self.settings.home / "tls", "smtp", [smtp.hostname, "localhost", smtp.host])
                self._tls = server_context(made.certificate, made.key)
        return self._tls

    async def archive_writer(self) -> ArchiveWriter:
        """Writes message bodies; one for all doors of the process, whose syncs then serve them together."""
        if self._writer is None:
            from depesche.analytics.archive.writer import ArchiveWriter

            settings = self.settings
            self._writer = ArchiveWriter(settings.archive_directory, self.keyring, self.process, settings.archive)
            self._stack.push_async_callback(self._writer.close)
            await self._writer.start()
        return self._writer

    @property
    def shaping(self) -> ShapingWatch:
        """How each provider is sent to, by the shaping files as they are now."""
        if self._shaping is None:
            from depesche.streams.stages.shaping_watch import ShapingWatch

            self._shaping = ShapingWatch(self.settings)
        return self._shaping

    async def directory(self) -> Directory:
        """Customers, accounts, domains and keys, read to the end and followed."""
        if self._directory is None:
            from depesche.analytics.directory.directory import Directory

            self._directory = Directory(self.settings, self.keyring)
            self._stack.push_async_callback(self._directory.stop)
            await self._directory.start()
        return self._directory

    def at_the_end(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Have ``stop`` called when the services have ended, before the tools that were made earlier are closed."""
        self._stack.push_async_callback(stop)

    async def controls(self) -> ControlBook:
        """The operator's orders, read to the end and followed."""
        if self._controls is None:
            from depesche.analytics.controls.book import ControlBook

            self._controls = ControlBook(self.settings)
            self._stack.push_async_callback(self._controls.stop)
            await self._controls.start()
        return self._controls

    async def pace(self) -> PaceBook:
        """How fast each pool may send to each provider, read to the end and followed."""
        if self._pace is None:
            from depesche.analytics.pace.book import PaceBook

            self._pace = PaceBook(self.settings)
            self._stack.push_async_callback(self._pace.stop)
            await self._pace.start()
        return self._pace

    async def warming(self) -> Warming:
        """What own addresses that are warming up may send, by what is counted, read to the end and followed."""
        from depesche.analytics.warmup.book import WarmupBook
        from depesche.streams.stages.warming import Warming

        book, directory = WarmupBook(self.settings), await self.directory()
        self._stack.push_async_callback(book.stop)
        await book.start()
        return Warming(directory.pool, book)

    async def suppressions(self) -> SuppressionBook:
        """The suppression list, read to the end and followed in a view of this process's own."""
        if self._suppressions is None:
            from depesche.analytics.suppressions.book import SuppressionBook

            place = self.settings.home / "suppressions" / self.process
            self._suppressions = SuppressionBook(self.settings, self.keyring, place)
            self._stack.push_async_callback(self._suppressions.stop)
            await self._suppressions.start()
        return self._suppressions

    async def suppression_tools(self) -> SuppressionTools:
        """What the workshop needs to respect the list."""
        if self._suppression_tools is None:
            from depesche.analytics.suppressions.requests import Requests
            from depesche.streams.stages.suppression_check import SuppressionTools

            book = await self.suppressions()
            requests = Requests(self.settings, await self.producer("suppressions"))
            self._suppression_tools = SuppressionTools(book, requests, self.keyring)
        return self._suppression_tools

    async def suppression_desk(self) -> SuppressionDesk:
        """The list by address, for the doors."""
        from depesche.analytics.suppressions.desk import SuppressionDesk
        from depesche.analytics.suppressions.requests import Requests

        book, directory = await self.suppressions(), await self.directory()
        requests = Requests(self.settings, await self.producer("suppression-desk"))
        return SuppressionDesk(book, requests, directory, self.keyring)

    async def producer(self, name: str, linger_ms: int = 2) -> AIOKafkaProducer:
        """A producer of its own for ``name``: event traffic must not wait behind another's flush to disk."""
        from depesche.analytics.log.client import producer

        made = producer(self.settings, f"{self.process}-{name}", linger_ms=linger_ms)
        self._stack.push_async_callback(made.stop)
        await made.start()
        return made

    async def hallway(self) -> Hallway:
        """What both doors hand their submissions to."""
        if self._hallway is None:
            from depesche.api.hallway import Hallway
            from depesche.api.idempotency import IdempotencyIndex

            archive = await self.archive_writer()
            index = IdempotencyIndex(self.settings, self.keyring)
            self._stack.push_async_callback(index.stop)
            await index.start()
            # Somebody waits for the yes; under load the flush to disk lets records gather by itself.
            jobs = await self.producer("jobs", linger_ms=0)
            self._hallway = Hallway(self.settings, await self.directory(), self.keyring, archive, jobs, index)
            self._stack.push_async_callback(self._hallway.stop)
            await self._hallway.start()
        return self._hallway


class Standing:
    """A service made of a server that only has start and stop."""

    def __init__(self, name: str, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._start = start
        self._stop = stop

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled."""
        await self._start()
        try:
            ready()
            await asyncio.get_running_loop().create_future()
        finally:
            await self._stop()


async def _dns(tools: Toolbox) -> Service:
    from depesche.infra.local import sandbox
    from depesche.infra.local.dns import DNSServer

    server = DNSServer(sandbox.zone_folder(tools.settings), "127.0.0.1", tools.settings.sandbox.dns_port)
    return Standing("dns", server.start, server.stop)


async def _mailbox(tools: Toolbox) -> Service:
    from depesche.infra.local import sandbox
    from depesche.infra.local.sink.server import Sink

    sink = Sink(sandbox.sink_settings(tools.settings))
    return Standing("mailbox", sink.start, sink.stop)


async def _smtp(tools: Toolbox) -> Service:
    from depesche.api.smtp.door import SMTPDoor

    return SMTPDoor(tools.settings, await tools.hallway(), await tools.directory(), tools.tls)


async def _inbound(tools: Toolbox) -> Service:
    from depesche.analytics.archive.return_keys import return_keys
    from depesche.api.returned_mail import Keeper
    from depesche.api.smtp.return_door import ReturnDoor

    archive, producer = await tools.archive_writer(), await tools.producer("returns")
    keeper = Keeper(tools.settings, tools.keyring, archive, producer)
    tools.at_the_end(keeper.stop)
    await keeper.start()
    return ReturnDoor(tools.settings, keeper, return_keys(tools.keyring), tools.tls)


async def _rest(tools: Toolbox) -> Service:
    from depesche.analytics.backlog.inspection import inspect
    from depesche.analytics.controls.pen import ControlPen
    from depesche.analytics.directory.registrar import Registrar
    from depesche.analytics.log.alerts import AlertBook
    from depesche.api.rest.door import RestDoor
    from depesche.api.rest.tools import Tools

    hallway, directory = await tools.hallway(), await tools.directory()
    registrar = Registrar(tools.settings, directory, await tools.producer("directory"), tools.keyring)
    pen = ControlPen(tools.settings, await tools.controls(), await tools.producer("controls"))
    counted = partial(inspect, tools.settings)
    alerts = AlertBook(tools.settings)
    tools.at_the_end(alerts.stop)
    pace, desk = await tools.pace(), await tools.suppression_desk()
    kept = (tools.store, pace, alerts.current, desk)
    return RestDoor(Tools(tools.settings, hallway, directory, registrar, *kept, pen=pen, inspect=counted))


async def _prepare(tools: Toolbox) -> Service:
    from depesche.streams.stages.prepare import Barriers, Prepare
    from depesche.streams.stages.routing import Routing

    directory = await tools.directory()
    controls = await tools.controls()
    return Prepare(
        tools.settings,
        tools.keyring,
        tools.archive_reader,
        directory,
        tools.process,
        Routing(tools.resolver, shapes=tools.shaping.of),
        Barriers(controls, await tools.suppression_tools()),
        beside_couriers="deliver" in tools.services,
    )


async def _deliver(tools: Toolbox) -> Service:
    from depesche.streams.stages.deliver import Deliver
    from depesche.streams.stages.terms import Guidance

    directory, check = await tools.directory(), await tools.suppression_tools()
    guidance = Guidance(tools.shaping.of, await tools.pace(), directory.pool_addresses, await tools.warming())
    reader, resolver, controls = tools.archive_reader, tools.resolver, await tools.controls()
    return Deliver(tools.settings, tools.keyring, reader, tools.process, resolver, controls, check, guidance)


async def _returns(tools: Toolbox) -> Service:
    from depesche.analytics.units.lookup import UnitLookup
    from depesche.streams.stages.returns import Returns

    return Returns(tools.settings, tools.keyring, tools.archive_reader, UnitLookup(tools.store), tools.process)


async def _retry(tools: Toolbox) -> Service:
    from depesche.streams.stages.retry import Retry

    return Retry(tools.settings, tools.process, controls=await tools.controls())


async def _analytics(tools: Toolbox) -> Service:
    from depesche.analytics.store.sink import Sink

    return Sink(tools.settings, tools.keyring, tools.store, tools.process)


async def _agents(tools: Toolbox) -> Service:
    from depesche.streams.agents.service import Agents

    return Agents(tools.settings, tools.process)


async def _monitor(tools: Toolbox) -> Service:
    from depesche.streams.monitor.service import Monitor

    return Monitor(tools.settings, await tools.directory(), tools.process)


MAKERS: Final[Mapping[str, Callable[[Toolbox], Awaitable[Service]]]] = {
    "agents": _agents,
    "analytics": _analytics,
    "deliver": _deliver,
    "inbound": _inbound,
    "monitor": _monitor,
    "prepare": _prepare,
    "rest": _rest,
    "retry": _retry,
    "returns": _returns,
    "smtp": _smtp,
    "dns": _dns,
    "mailbox": _mailbox,
}


async def assemble(names: Sequence[str], settings: Settings, process: str, stack: AsyncExitStack) -> list[Service]:
    """The services called ``names``, ready to run; their tools are closed with ``stack``.

    Raises:
        SetupError: there is no such service, or the machine lacks something.
        DepescheError: a tool could not be made.
    """
    check_names(tuple(names))
    tools = Toolbox(settings, process, names, stack)
    return [await MAKERS[name](tools) for name in names]
