"""Far sides for the tests that send: each on free ports, in a folder of its own, ended when the test module is done.

Import the fixtures that a test needs by name. Servers that only the system's packages have are skipped, with the line that
installs them, where they are not there.
"""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from depesche.infra.local.clamd import Clamd, ClamdSettings
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.knot import Knot, KnotSettings
from depesche.infra.local.opendkim import OpenDKIM, OpenDKIMSettings
from depesche.infra.local.part import Part
from depesche.infra.local.postfix import Postfix, PostfixSettings
from depesche.infra.local.published import ZoneFolder
from depesche.infra.local.sink.listeners import addresses, all_listeners
from depesche.infra.local.sink.scenarios import Timing
from depesche.infra.local.sink.server import Sink, SinkSettings
from depesche.infra.local.zone import FarSides, sandbox_zone

POSTFIX_ADDRESS = "127.0.0.3"


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def running(part: Part) -> AsyncIterator[None]:
    """Run a program of the far side, skip the test where the machine has none."""
    reason = part.available()
    if reason is not None:
        pytest.skip(f"{part.name}: {reason}")
    await asyncio.to_thread(part.prepare)
    process = await asyncio.create_subprocess_exec(*part.command())
    try:
        await part.ready(30)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@pytest_asyncio.fixture(scope="module")
async def zone(tmp_path_factory: pytest.TempPathFactory) -> ZoneFolder:
    """The sandbox zone: `sandbox.test` is the sink, `inbox.test` Postfix."""
    folder = ZoneFolder(tmp_path_factory.mktemp("zone"))
    folder.write_base(sandbox_zone(FarSides(inbox=POSTFIX_ADDRESS, listeners=addresses(all_listeners()))))
    return folder


@pytest_asyncio.fixture(scope="module")
async def dns_server(zone: ZoneFolder) -> AsyncIterator[DNSServer]:
    """The in-process name server, able to fail on purpose."""
    server = DNSServer(zone)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module")
async def knot(zone: ZoneFolder, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Knot]:
    """Knot DNS with the same zone."""
    part = Knot(KnotSettings(tmp_path_factory.mktemp("knot"), zone.path, port=free_port()))
    async with running(part):
        yield part


@pytest_asyncio.fixture(scope="module")
async def sink(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sink]:
    """The scripted sink on all its addresses, with short delays."""
    quick = Timing(slow=0.05, drip=0.002, greylist=0.2)
    server = Sink(SinkSettings(tmp_path_factory.mktemp("sink"), listeners=all_listeners(slow=0.05), timing=quick))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module")
async def opendkim(dns_server: DNSServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenDKIM]:
    """OpenDKIM as a verifying milter that takes keys from the test name server."""
    settings = OpenDKIMSettings(tmp_path_factory.mktemp("opendkim"), free_port(), "127.0.0.1", dns_server.port)
    part = OpenDKIM(settings)
    async with running(part):
        yield part


@pytest_asyncio.fixture(scope="module")
async def postfix(opendkim: OpenDKIM, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postfix]:
    """A real Postfix for `inbox.test`, with OpenDKIM's verdict in each mail."""
    port = free_port(POSTFIX_ADDRESS)
    settings = PostfixSettings(
        Path(tmp_path_factory.mktemp("postfix")), POSTFIX_ADDRESS, port, milter_port=opendkim.settings.port
    )
    part = Postfix(settings)
    async with running(part):
        yield part


@pytest_asyncio.fixture(scope="module")
async def clamd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clamd]:
    """ClamAV with the EICAR signature."""
    part = Clamd(ClamdSettings(tmp_path_factory.mktemp("clamd"), port=free_port()))
    async with running(part):
        yield part
    shutil.rmtree(part.scratch())
