"""The clamd client against the real daemon: many requests on kept connections, and no verdict is never a clean one."""

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from depesche.infra.local.clamd import Clamd, ClamdSettings
from depesche.infra.local.part import find_program
from depesche.schemas.errors import ScannerUnavailableError, TooLargeError
from depesche.streams.mail.attachments import MAX_TAKEN, attachments_apart
from depesche.streams.wire.clamd import ClamAV
from tests.infected import INFECTED, NOISE, VIRUS, forwarded, with_attachments, zipped

pytestmark = pytest.mark.skipif(
    find_program("clamd") is None, reason="clamd is not here: apt-get install clamav-daemon"
)

LARGEST = 1 << 20
ODD_LINES = (
    b"Content-Type: text/plain",
    b"Content-Type: message/rfc822",
    b"Content-Type: multipart/mixed; boundary=c",
    b"Content-Transfer-Encoding: base64",
    b"Content-Transfer-Encoding : base64",
    b"Content-Transfer-Encoding: 7bit",
    b"Content-Transfer-Encoding: x-uuencode",
    b"no header at all",
    b"",
    b"--b",
    b"--b--",
    b"--c",
)
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


def _mutant(chance: random.Random) -> bytes:
    """A mail with the test virus in a large attachment, and a few lines of its structure changed somehow."""
    content = chance.choice([NOISE[:30_000] + VIRUS, VIRUS + NOISE[:30_000], zipped(VIRUS, NOISE[:40_000])])
    message = with_attachments([content])
    lines = (forwarded(message) if chance.random() < 0.3 else message).split(b"\r\n")
    for _ in range(chance.randint(1, 5)):
        at = chance.choice([*range(min(12, len(lines))), *range(max(0, len(lines) - 4), len(lines))])
        spot = chance.randrange(len(lines[at]) + 1)
        changed = {
            "insert": [chance.choice(ODD_LINES), lines[at]],
            "delete": [],
            "double": [lines[at], lines[at]],
            "case": [lines[at].swapcase()],
            "fold": [b" " + lines[at]],
            "letter": [
                lines[at][:spot] + chance.choice([b"=", b"-", b"!", b"\0", b"\n", b" ", b"A"]) + lines[at][spot:]
            ],
        }
        lines[at : at + 1] = chance.choice(list(changed.values()))
    return b"\r\n".join(lines)


async def test_nothing_is_hidden_by_being_taken_out_of_its_mail(daemon: Clamd) -> None:
    address, chance = f"127.0.0.1:{daemon.settings.port}", random.Random(11)
    whole, apart = ClamAV(address, 20, whole=True), ClamAV(address, 20)
    found = taken = 0
    try:
        for number in range(300):
            message = _mutant(chance)
            verdict = await whole.scan(message)
            assert verdict is None or await apart.scan(message), f"mutant {number}: {message[:500]!r}"
            found += verdict is not None
            taken += verdict is not None and len(attachments_apart(message)) > 1
    finally:
        whole.close()
        apart.close()
    # The mutants would show nothing if hardly any were still a mail with an attachment.
    assert found > 150
    assert 15 < taken < found


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
