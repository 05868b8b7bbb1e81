"""The sink over real connections: it misbehaves as it was told to, and its ground truth stays true."""

# Fixtures are imported by name and then named as arguments, which looks like an unused import and a redefinition.
# ruff: noqa: F401, F811

import asyncio
import contextlib
import hashlib
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvloop

from depesche.infra.local.fault import LocalFault
from depesche.infra.local.sink.ground_truth import Arrival, read_ground_truth
from depesche.infra.local.sink.listeners import MAIN, Listener, all_listeners
from depesche.infra.local.sink.mailbox import list_mails, read_mail
from depesche.infra.local.sink.server import Keeping, Sink, SinkSettings, listener_named
from tests.contract.far_side import sink

CONTENT = b"Subject: x\r\nMessage-ID: <m@shop.test>\r\n\r\nbody\r\n"


@contextlib.contextmanager
def connected(address: str, port: int) -> Iterator[smtplib.SMTP]:
    client = smtplib.SMTP(address, port, timeout=10, local_hostname="shop.test")
    try:
        client.ehlo()
        yield client
    finally:
        client.close()


def send(sink: Sink, recipient: str, content: bytes = CONTENT) -> None:
    with connected(MAIN.address, sink.port) as client:
        client.sendmail("news@shop.test", [f"{recipient}@sandbox.test"], content)


def arrivals_of(sink: Sink, recipient: str) -> list[Arrival]:
    address = f"{recipient}@sandbox.test"
    return [arrival for arrival in read_ground_truth(sink.settings.ground_truth) if address in arrival.recipients]


def address_of(label: str) -> str:
    return listener_named(all_listeners(), label).address


@pytest.mark.parametrize("recipient", ["dropdot", "rsetdot"])
async def test_a_kept_mail_whose_reply_was_lost_is_in_the_ground_truth(sink: Sink, recipient: str) -> None:
    with pytest.raises(smtplib.SMTPServerDisconnected):
        await asyncio.to_thread(send, sink, recipient)
    (arrival,) = arrivals_of(sink, recipient)
    assert (arrival.kept, arrival.reply) == (True, "")


@pytest.mark.parametrize("recipient", ["eofmail", "rsetmail", "eofdata", "rsetdata"])
async def test_a_mail_without_its_final_dot_never_was(sink: Sink, recipient: str) -> None:
    with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
        await asyncio.to_thread(send, sink, recipient)
    assert arrivals_of(sink, recipient) == []


async def test_a_reset_reaches_the_client_as_a_reset(sink: Sink) -> None:
    def provoke() -> None:
        with socket.create_connection((address_of("reset"), sink.port), timeout=10) as connection:
            connection.recv(100)

    with pytest.raises(ConnectionResetError):
        await asyncio.to_thread(provoke)


@pytest.mark.parametrize("recipient", ["slow", "tarpit"])
async def test_late_and_dripping_replies_are_whole(sink: Sink, recipient: str) -> None:
    await asyncio.to_thread(send, sink, recipient)
    (arrival,) = arrivals_of(sink, recipient)
    assert arrival.kept
    assert arrival.reply.startswith("250 ")


async def test_commands_pipelined_behind_a_slow_reply_wait_their_turn(sink: Sink) -> None:
    commands = b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<slow@sandbox.test>\r\nRCPT TO:<b@sandbox.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"

    def converse() -> bytes:
        with socket.create_connection((MAIN.address, sink.port), timeout=10) as connection:
            connection.sendall(commands)
            return connection.makefile("rb").read()

    replies = await asyncio.to_thread(converse)
    codes = [line[:3] for line in replies.splitlines() if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"250", b"250", b"354", b"250", b"221"]


async def test_a_stalled_receiver_stops_taking_bytes(sink: Sink) -> None:
    def fill() -> int:
        with connected(MAIN.address, sink.port) as client:
            client.mail("news@shop.test")
            client.rcpt("stall@sandbox.test")
            client.docmd("DATA")
            assert client.sock is not None
            client.sock.settimeout(0.5)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 64 << 20:
                    sent += client.sock.send(b"x" * 65536)
            return sent

    assert await asyncio.to_thread(fill) < 64 << 20


def _secure(label: str, port: int, context: ssl.SSLContext) -> tuple[int, str]:
    with connected(address_of(label), port) as client:
        assert client.has_extn("starttls")
        client._host = f"mx.{label}.test"  # type: ignore[attr-defined] # the name that the certificate should bear
        code, _ = client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        return code, client.sock.version() or ""


def trusting(sink: Sink, kind: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=sink.settings.folder / "tls" / f"{kind}.crt")


async def test_tls_is_good_expired_misnamed_broken_or_refused_as_the_listener_says(sink: Sink) -> None:
    anyone = ssl._create_unverified_context()
    for label in ("second", "expiredtls", "wrongname"):
        code, version = await asyncio.to_thread(_secure, label, sink.port, anyone)
        assert (code, version) == (220, "TLSv1.3")
    await asyncio.to_thread(_secure, "second", sink.port, trusting(sink, "good"))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        await asyncio.to_thread(_secure, "expiredtls", sink.port, trusting(sink, "expired"))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await asyncio.to_thread(_secure, "wrongname", sink.port, trusting(sink, "wrongname"))
    for label in ("brokentls", "badtls"):
        with pytest.raises((ssl.SSLError, OSError)):
            await asyncio.to_thread(_secure, label, sink.port, anyone)
    with pytest.raises(smtplib.SMTPResponseException, match="454"):
        await asyncio.to_thread(_secure, "refusedtls", sink.port, anyone)


async def test_what_was_sent_in_plain_behind_starttls_is_thrown_away(sink: Sink) -> None:
    def inject() -> int:
        with connected(MAIN.address, sink.port) as client:
            assert client.sock is not None
            client.sock.sendall(b"STARTTLS\r\nMAIL FROM:<evil@shop.test>\r\n")
            assert client.getreply()[0] == 220
            client.sock = ssl._create_unverified_context().wrap_socket(client.sock)
            client.file = None
            client.ehlo()
            return client.docmd("RCPT", "TO:<ada@sandbox.test>")[0]

    assert await asyncio.to_thread(inject) == 503


async def test_faults_before_any_recipient_have_a_listener_each(sink: Sink) -> None:
    seen = {}
    for label in (
        "busy",
        "closed",
        "notsmtp",
        "hangup",
        "busyehlo",
        "busymail",
        "refusemail",
        "dropmail",
        "slowbanner",
    ):
        with socket.create_connection((address_of(label), sink.port), timeout=10) as connection:
            connection.sendall(b"EHLO a\r\nMAIL FROM:<>\r\nQUIT\r\n")
            replies = b""
            with contextlib.suppress(ConnectionResetError):
                replies = await asyncio.to_thread(connection.makefile("rb").read)
        seen[label] = [line[:3] for line in replies.splitlines() if line[3:4] in b" /"]
    assert seen["slowbanner"] == [b"220", b"250", b"250", b"221"]
    assert seen["refusemail"] == [b"220", b"250", b"553", b"221"]
    # A connection that closes while more was sent may be reset before its last words were read.
    assert seen["busymail"] in ([], [b"220", b"250", b"421"])
    assert seen["dropmail"] in ([], [b"220", b"250"])
    assert seen["busyehlo"] in ([], [b"220", b"421"])
    assert seen["hangup"] == []
    assert seen["busy"] in ([], [b"421"])
    assert seen["closed"] in ([], [b"554"])


async def test_the_ground_truth_tells_content_envelope_and_listener(sink: Sink) -> None:
    recipients = ["ground+1@sandbox.test", "hardbounce@sandbox.test", "ground+2@sandbox.test"]

    def deliver() -> None:
        with connected(address_of("third"), sink.port) as client:
            client.starttls(context=ssl._create_unverified_context())
            client.sendmail("news@shop.test", recipients, b".\r\n" + CONTENT)

    await asyncio.to_thread(deliver)
    (arrival,) = arrivals_of(sink, "ground+1")
    assert arrival.recipients == [recipients[0], recipients[2]]
    assert (arrival.sender, arrival.tls, arrival.bare_newline) == ("news@shop.test", True, False)
    assert arrival.listener == f"{address_of('third')}:{sink.port}"
    assert arrival.sha256 == hashlib.sha256(b".\r\n" + CONTENT).hexdigest()
    await sink.stored()
    stored = next(mail for mail in list_mails(sink.settings.mailbox) if mail.time == arrival.time)
    assert read_mail(sink.settings.mailbox, stored.id)[1] == b".\r\n" + CONTENT


async def test_what_was_acknowledged_survives_the_death_of_the_sink(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from depesche.infra.local.sink.listeners import MAIN\n"
        "from depesche.infra.local.sink.server import Sink, SinkSettings\n"
        "async def main():\n"
        "    sink = Sink(SinkSettings(pathlib.Path(sys.argv[1]), listeners=(MAIN,)))\n"
        "    await sink.start()\n"
        "    print(sink.port, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = int(await asyncio.to_thread(process.stdout.readline))

            def deliver() -> None:
                with connected(MAIN.address, port) as client:
                    for number in range(50):
                        client.sendmail("news@shop.test", [f"kept-{number}@sandbox.test"], CONTENT)
                    process.send_signal(signal.SIGKILL)

            await asyncio.to_thread(deliver)
        finally:
            process.kill()
    settings = SinkSettings(tmp_path, listeners=(MAIN,))
    assert [arrival.recipients for arrival in read_ground_truth(settings.ground_truth)] == [
        [f"kept-{number}@sandbox.test"] for number in range(50)
    ]
    # A new sink on the same folder goes on, with mails and names that do not collide.
    before = {mail.id for mail in list_mails(settings.mailbox)}
    again = Sink(settings)
    await again.start()
    await asyncio.to_thread(send, again, "later")
    await again.stop()
    later = [mail for mail in list_mails(settings.mailbox) if mail.id not in before]
    assert [mail.recipients for mail in later] == [["later@sandbox.test"]]


@contextlib.asynccontextmanager
async def small_sink(folder: Path, keeping: Keeping) -> AsyncIterator[Sink]:
    sink = Sink(SinkSettings(folder, listeners=(MAIN,), keeping=keeping))
    await sink.start()
    try:
        yield sink
    finally:
        await sink.stop()


async def test_the_mailbox_keeps_the_last_mails_and_their_order(tmp_path: Path) -> None:
    async with small_sink(tmp_path, Keeping(mails=5)) as sink:
        for number in range(12):
            await asyncio.to_thread(send, sink, f"last-{number}", CONTENT.replace(b"x", b"n%d" % number))
            await sink.stored()
        listed = list_mails(sink.settings.mailbox)
        assert [mail.subject for mail in listed] == ["n11", "n10", "n9", "n8", "n7"]
        assert len(list(sink.settings.mailbox.glob("*.eml"))) == 5
        with pytest.raises(KeyError):
            read_mail(sink.settings.mailbox, "1")
        assert len(list(read_ground_truth(sink.settings.ground_truth))) == 12


async def test_a_sink_for_benchmarks_only_counts(tmp_path: Path) -> None:
    async with small_sink(tmp_path, Keeping(mails=0, log=False)) as sink:
        await asyncio.to_thread(send, sink, "counted")
        await asyncio.to_thread(send, sink, "counted")
        assert (sink.counters.mails, sink.counters.kept, sink.counters.content_bytes) == (2, 2, 2 * len(CONTENT))
        assert list_mails(sink.settings.mailbox) == []
        assert not sink.settings.ground_truth.exists()


async def test_a_sink_that_cannot_write_acknowledges_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.fail("this test needs /dev/full, a file on a disk that is always full")
    (tmp_path / "ground-truth.jsonl").symlink_to("/dev/full")
    async with small_sink(tmp_path, Keeping()) as sink:
        with pytest.raises(smtplib.SMTPDataError, match="451"):
            await asyncio.to_thread(send, sink, "lost")
        assert sink.counters.kept == 0


async def test_a_taken_port_and_a_foreign_address_are_refused_with_a_sentence(tmp_path: Path) -> None:
    async with small_sink(tmp_path / "first", Keeping()) as first:
        second = Sink(SinkSettings(tmp_path / "second", port=first.port, listeners=(MAIN,)))
        with pytest.raises(LocalFault, match="cannot listen"):
            await second.start()
    with pytest.raises(LocalFault, match="machine only"):
        await Sink(SinkSettings(tmp_path / "third", listeners=(Listener("open", "0.0.0.0"),))).start()


def test_the_sink_runs_on_uvloop_as_well(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_sink(tmp_path, Keeping()) as sink:
            await asyncio.to_thread(send, sink, "fast")

            def secured() -> None:
                with connected(MAIN.address, sink.port) as client:
                    client.starttls(context=ssl._create_unverified_context())
                    client.sendmail("news@shop.test", ["fast-2@sandbox.test"], CONTENT * 3000)

            await asyncio.to_thread(secured)
            with pytest.raises(smtplib.SMTPServerDisconnected):
                await asyncio.to_thread(send, sink, "rsetdot")
            assert [arrival.tls for arrival in read_ground_truth(sink.settings.ground_truth)] == [False, True, False]

    uvloop.run(run())


def test_the_files_of_the_sink_are_for_its_owner_only(tmp_path: Path) -> None:
    async def run() -> None:
        async with small_sink(tmp_path / "sink", Keeping()):
            pass

    asyncio.run(run())
    for path in (tmp_path / "sink", tmp_path / "sink" / "mailbox", tmp_path / "sink" / "ground-truth.jsonl"):
        assert path.stat().st_mode & 0o077 == 0, path
