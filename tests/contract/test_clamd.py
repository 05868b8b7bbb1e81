"""The clamd client against the real daemon: many requests on kept connections, and no verdict is never a clean one."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from depesche.infra.local.clamd import Clamd, ClamdSettings
from depesche.infra.local.part import find_program
from depesche.schemas.errors import ScannerUnavailableError, TooLargeError
from depesche.streams.mail.attachments import MAX_TAKEN
from depesche.streams.wire.clamd import ClamAV
from tests.infected import INFECTED, NOISE, VIRUS, with_attachments

pytestmark = pytest.mark.skipif(
    find_program("clamd") is None, reason="clamd is not here: apt-get install clamav-daemon"
)

LARGEST = 1 << 20
CLEAN = b"From: ada@example.org\r\nSubject: hello\r\n\r\nNothing to see here.\r\n"


def _start(daemon: Clamd) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(daemon.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest_asyncio.fixture(scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> AsyncIterator[Clamd]:
    folder = tmp_path_factory.mktemp("clamd")
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)
    # Without the official database: what is held here is the conversation, and it must not depend on the machine.
    made = Clamd(ClamdSettings(folder, port=free_port(), largest=LARGEST, database=Path("/nonexistent")))
    made.prepare()
    process = _start(made)
    try:
        await made.ready(30)
        yield made
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


@pytest_asyncio.fixture(params=[False, True], ids=["attachments apart", "whole"])
async def engine(daemon: Clamd, request: pytest.FixtureRequest) -> AsyncIterator[ClamAV]:
    made = ClamAV(f"127.0.0.1:{daemon.settings.port}", 20, whole=request.param)
    yield made
    made.close()


@pytest.mark.parametrize("place", INFECTED)
async def test_the_test_virus_is_found_wherever_it_is(place: str, engine: ClamAV) -> None:
    assert "eicar" in (await engine.scan(INFECTED[place]) or "").lower()


async def test_a_clean_mail_passes_and_the_version_is_known(engine: ClamAV) -> None:
    assert await engine.scan(CLEAN) is None
    assert engine.version


async def test_of_many_at_once_each_gets_its_own_verdict(engine: ClamAV) -> None:
    infected = INFECTED["in base64"]
    # Of different sizes, so that the daemon's threads end them in another order than they came in.
    mails = [infected if n % 3 == 0 else CLEAN + b"x" * (n * 2000) + b"\r\n" for n in range(90)]
    verdicts = await asyncio.gather(*(engine.scan(mail) for mail in mails))
    assert [verdict is not None for verdict in verdicts] == [n % 3 == 0 for n in range(90)]


async def test_a_mail_above_the_daemons_limit_is_refused_and_not_passed(engine: ClamAV) -> None:
    with pytest.raises((TooLargeError, ScannerUnavailableError)):
        await engine.scan(CLEAN + b"x" * (2 * LARGEST))
    assert await engine.scan(CLEAN) is None


@pytest.mark.parametrize("infected", range(MAX_TAKEN + 2))
async def test_of_many_large_attachments_any_one_may_be_the_infected_one(infected: int, engine: ClamAV) -> None:
    contents = [NOISE[:40_000] + (VIRUS if place == infected else b"") for place in range(MAX_TAKEN + 2)]
    assert "eicar" in (await engine.scan(with_attachments(contents)) or "").lower()


async def test_nobody_listening_is_no_verdict(free_port: Callable[[], int]) -> None:
    with pytest.raises(ScannerUnavailableError):
        await ClamAV(f"127.0.0.1:{free_port()}", 5).scan(CLEAN)


async def test_a_daemon_that_never_answers_is_no_verdict() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # It answers VERSION, which opens a session, and then nothing any more.
        writer.write(b"1: ClamAV 0/0/never\0")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ScannerUnavailableError, match="in time"):
            await ClamAV(f"127.0.0.1:{port}", 0.2).scan(CLEAN)


async def test_a_connection_cut_in_the_middle_is_no_verdict() -> None:
    async def cuts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"1: ClamAV 0/0/never\0")
        await reader.readuntil(b"zINSTREAM\0")
        writer.close()

    server = await asyncio.start_server(cuts, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ScannerUnavailableError):
            await ClamAV(f"127.0.0.1:{port}", 5).scan(CLEAN)
