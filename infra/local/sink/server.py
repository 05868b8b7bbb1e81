"""The sink as a server: its settings and its listeners, started and stopped together."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from depesche.infra.local.fault import LocalFault
from depesche.infra.local.part import private_folder
from depesche.infra.local.ports import require_loopback
from depesche.infra.local.sink.desk import Counters, Desk
from depesche.infra.local.sink.ground_truth import GroundTruth
from depesche.infra.local.sink.listeners import Listener, all_listeners
from depesche.infra.local.sink.mailbox import Mailbox
from depesche.infra.local.sink.scenarios import Script, Timing
from depesche.infra.local.sink.session import Session


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept of a mail: `mails` files in the mailbox (0: none, for benchmarks) and, with `log`, the ground truth.

    Without a mailbox newlines are not looked at, and without both a mail is only counted. `fsync` puts each line of the
    ground truth on the disk before the reply.
    """

    mails: int = 500
    log: bool = True
    fsync: bool = False


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """Where the sink lives and listens. `port` 0 takes a free one, the same on all addresses."""

    folder: Path
    port: int = 0
    listeners: tuple[Listener, ...] = field(default_factory=all_listeners)
    keeping: Keeping = field(default_factory=Keeping)
    timing: Timing = field(default_factory=Timing)

    @property
    def ground_truth(self) -> Path:
        """The file of arrivals."""
        return self.folder / "ground-truth.jsonl"

    @property
    def mailbox(self) -> Path:
        """The folder for `list_mails` and `read_mail`."""
        return self.folder / "mailbox"


class Sink:
    """The sink in this process: `start`, `stop`, and in between `port` and `counters`."""

    def __init__(self, settings: SinkSettings) -> None:
        self.settings = settings
        self.port = settings.port
        self._desk: Desk | None = None
        self._servers: list[asyncio.Server] = []

    @property
    def counters(self) -> Counters:
        """What was seen since `start`. Raises LocalFault before it."""
        return self._running().counters

    async def start(self) -> None:
        """Listen on all addresses. Raises LocalFault when one cannot be bound."""
        desk = self._desk = _open_desk(self.settings)
        try:
            for listener in self.settings.listeners:
                require_loopback(listener.address, f"the sink's listener {listener.label}")
                self._servers.append(await self._listen(desk, listener))
        except OSError as error:
            await self.stop()
            raise LocalFault(
                f"The sink cannot listen on {listener.address}:{self.port}: {error.strerror or error}.",
                "Choose another port in the settings; the addresses 127.0.0.0/8 are all local on Linux.",
            ) from error

    async def _listen(self, desk: Desk, listener: Listener) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Session(desk, listener), listener.address, self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def stop(self) -> None:
        """Stop listening, end all conversations, write what waits."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._desk is not None:
            desk, self._desk = self._desk, None
            desk.hang_up()
            await asyncio.to_thread(desk.close)

    async def stored(self) -> None:
        """Wait until every mail kept so far can be read from the mailbox."""
        mailbox = self._running().mailbox
        if mailbox is not None:
            await asyncio.to_thread(mailbox.flush)

    def _running(self) -> Desk:
        if self._desk is None:
            raise LocalFault("The sink does not run.", "Start it first.")
        return self._desk


def _open_desk(settings: SinkSettings) -> Desk:
    private_folder(settings.folder)
    keeping = settings.keeping
    return Desk(
        Script(settings.timing),
        GroundTruth(settings.ground_truth, fsync=keeping.fsync) if keeping.log else None,
        Mailbox(settings.mailbox, keeping.mails) if keeping.mails else None,
        settings.folder / "tls",
        [f"mx.{listener.label}.test" for listener in settings.listeners],
    )


async def serve_sink(settings: SinkSettings) -> None:
    """Run the sink until cancelled. Raises LocalFault when an address cannot be bound."""
    sink = Sink(settings)
    await sink.start()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await sink.stop()


def listener_named(listeners: Iterable[Listener], label: str) -> Listener:
    """Return the listener with a label; raises KeyError when there is none."""
    for listener in listeners:
        if listener.label == label:
            return listener
    raise KeyError(label)
