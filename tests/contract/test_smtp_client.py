"""Our SMTP client against a host that misbehaves on purpose, step by step, and against a real Postfix."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from depesche.infra.local.postfix import Postfix
from depesche.infra.local.sink.ground_truth import Arrival, read_ground_truth
from depesche.infra.local.sink.listeners import all_listeners
from depesche.infra.local.sink.mailbox import list_mails, read_mail
from depesche.infra.local.sink.server import Sink, SinkSettings
from depesche.schemas.settings import DeliverSettings
from depesche.streams.wire.smtp import Answer, SMTPConnection, Terms, TLSPolicy, open_connection
from depesche.streams.wire.smtp_encode import Envelope, UnsendableError, content
from tests.contract.far_side import dns_server, opendkim, postfix, sink, zone

__all__ = ["dns_server", "opendkim", "postfix", "sink", "zone"]

ADDRESSES = {listener.label: listener.address for listener in all_listeners()}
PATIENT = DeliverSettings(
    connect_seconds=30, banner_seconds=30, command_seconds=30, data_seconds=30, block_seconds=30, dot_seconds=30
)
HASTY = PATIENT.model_copy(update={"banner_seconds": 1, "command_seconds": 1, "block_seconds": 1, "dot_seconds": 1})
"""For hosts that say nothing for ever: where the wait's end is what is tested, and only there, it comes soon."""
MESSAGE = b"From: a@shop.test\r\nSubject: Hello\r\nMessage-ID: <1@shop.test>\r\n\r\n.Hello\r\n..\r\n.\r\nBye\r\n"
OPENED: list[SMTPConnection] = []


@pytest.fixture(autouse=True)
async def _nothing_stays_open() -> AsyncIterator[None]:
    yield
    while OPENED:
        OPENED.pop().abort()


async def yes() -> bool:
    return True


def terms(sink: Sink, tls: TLSPolicy = "may", waits: DeliverSettings = PATIENT) -> Terms:
    return Terms("courier.test", sink.port, waits, tls=tls)


async def opened(
    sink: Sink, label: str = "sandbox", tls: TLSPolicy = "never", waits: DeliverSettings = PATIENT
) -> SMTPConnection:
    connection = await open_connection(f"mx.{label}.test", ADDRESSES[label], terms(sink, tls, waits))
    assert isinstance(connection, SMTPConnection), connection
    OPENED.append(connection)
    return connection


async def refused(sink: Sink, label: str, tls: TLSPolicy = "never", waits: DeliverSettings = PATIENT) -> Answer:
    answer = await open_connection(f"mx.{label}.test", ADDRESSES[label], terms(sink, tls, waits))
    assert isinstance(answer, Answer)
    return answer


async def send(
    connection: SMTPConnection,
    recipient: str,
    message: bytes = MESSAGE,
    before_dot: Callable[[], Awaitable[bool]] = yes,
) -> Answer:
    envelope = Envelope("return@shop.test", recipient, len(message))
    return await connection.send(envelope, content([message], leading_dots=True), before_dot)


def arrivals(sink: Sink, recipient: str) -> list[Arrival]:
    return [arrival for arrival in read_ground_truth(sink.settings.ground_truth) if recipient in arrival.recipients]


async def test_a_mail_arrives_byte_for_byte(sink: Sink) -> None:
    answer = await send(await opened(sink), "whole@sandbox.test")
    assert answer.delivered
    assert (answer.code, answer.enhanced, answer.ambiguous) == (250, "2.0.0", False)
    [arrival] = arrivals(sink, "whole@sandbox.test")
    assert arrival.bare_newline is False
    await sink.stored()
    [mail] = [mail for mail in list_mails(sink.settings.mailbox) if mail.recipients == ["whole@sandbox.test"]]
    assert read_mail(sink.settings.mailbox, mail.id)[1] == MESSAGE


async def test_the_transcript_tells_everything_but_the_content(sink: Sink) -> None:
    connection = await opened(sink)
    await send(connection, "first@sandbox.test")
    answer = await send(connection, "second@sandbox.test")
    lines = answer.transcript.splitlines()
    assert lines[0].startswith("= mx.sandbox.test [127.0.0.2]:")
    assert "> EHLO courier.test" in lines
    assert "> RCPT TO:<second@sandbox.test>" in lines
    assert "< 354 End data with <CR><LF>.<CR><LF>" in lines
    assert lines[-1].startswith("< 250 2.0.0 Ok")
    assert "first@" not in answer.transcript
    assert "Hello" not in answer.transcript


async def test_one_connection_carries_many_mails(sink: Sink) -> None:
    connection = await opened(sink)
    before = sink.counters.sessions
    for number in range(20):
        assert (await send(connection, f"many-{number}@sandbox.test")).delivered
    assert sink.counters.sessions == before


TRANSACTIONS = {
    "defer": ("rcpt", 450, "4.2.0"),
    "hardbounce": ("rcpt", 550, "5.1.1"),
    "full": ("rcpt", 452, "4.2.2"),
    "nodata": ("data", 554, "5.7.1"),
    "spam": ("dot", 554, "5.7.1"),
    "tempdot": ("dot", 451, "4.3.0"),
    "421": ("rcpt", 421, "4.3.2"),
    "421data": ("data", 421, "4.3.2"),
    "421dot": ("dot", 421, "4.3.2"),
    "eofmail": ("rcpt", 0, ""),
    "rsetmail": ("rcpt", 0, ""),
    "eofdata": ("content", 0, ""),
    "rsetdata": ("content", 0, ""),
    "badreply": ("rcpt", 0, ""),
    "bigreply": ("rcpt", 550, ""),
    "nonascii": ("rcpt", 550, "5.1.1"),
}


@pytest.mark.parametrize("label", ["sandbox", "nopipelining"])
@pytest.mark.parametrize(("fault", "ending"), TRANSACTIONS.items())
async def test_what_goes_wrong_before_a_reply_to_the_dot_is_never_in_doubt(
    sink: Sink, label: str, fault: str, ending: tuple[str, int, str]
) -> None:
    message = MESSAGE + b"x" * 70 + b"\r\n" * 3000 if fault in ("eofdata", "rsetdata") else MESSAGE

    async def slowly() -> bool:
        # The host must get the chance to hang up within the content.
        await asyncio.sleep(0.05)
        return True

    answer = await send(await opened(sink, label), f"{fault}+{label}@sandbox.test", message, slowly)
    assert (answer.step, answer.code, answer.enhanced) == ending
    assert not answer.ambiguous
    assert len(answer.text) <= 2000
    assert not [arrival for arrival in arrivals(sink, f"{fault}+{label}@sandbox.test") if arrival.kept]


@pytest.mark.parametrize("fault", ["dropdot", "rsetdot", "silentdot", "halfreply", "baddot"])
async def test_no_whole_reply_to_the_dot_is_ambiguous(sink: Sink, fault: str) -> None:
    connection = await opened(sink, waits=HASTY if fault == "silentdot" else PATIENT)
    answer = await send(connection, f"{fault}-1@sandbox.test")
    assert (answer.step, answer.code, answer.ambiguous) == ("dot", 0, True)
    assert not answer.delivered
    assert not connection.usable
    assert len(arrivals(sink, f"{fault}-1@sandbox.test")) == 1


async def test_a_long_acceptance_is_an_acceptance(sink: Sink) -> None:
    assert (await send(await opened(sink), "bigaccept@sandbox.test")).delivered


async def test_slow_replies_are_waited_for(sink: Sink) -> None:
    assert (await send(await opened(sink), "slow@sandbox.test")).delivered
    assert (await send(await opened(sink), "tarpit@sandbox.test")).delivered


async def test_a_host_that_stops_reading_is_left_before_the_dot(sink: Sink) -> None:
    big = b"Subject: big\r\n\r\n" + (b"x" * 998 + b"\r\n") * 20_000
    answer = await send(await opened(sink, waits=HASTY), "stall@sandbox.test", big)
    assert (answer.step, answer.code, answer.ambiguous) == ("content", 0, False)
    assert answer.text == "the host took no more of the mail"


@pytest.mark.parametrize("label", ["sandbox", "nopipelining"])
@pytest.mark.parametrize("fault", ["hardbounce", "nodata", "spam"])
async def test_a_refused_mail_leaves_the_connection_fit_for_the_next(sink: Sink, label: str, fault: str) -> None:
    connection = await opened(sink, label)
    for number in range(3):
        assert not (await send(connection, f"{fault}-{number}@sandbox.test")).delivered
        assert connection.usable
    assert (await send(connection, "after@sandbox.test")).delivered


OPENINGS = {
    "busy": ("banner", 421),
    "closed": ("banner", 554),
    "silent": ("banner", 0),
    "hangup": ("banner", 0),
    "reset": ("banner", 0),
    "notsmtp": ("banner", 0),
    "busyehlo": ("ehlo", 421),
}


@pytest.mark.parametrize(("label", "ending"), OPENINGS.items())
async def test_a_host_that_does_not_greet(sink: Sink, label: str, ending: tuple[str, int]) -> None:
    answer = await refused(sink, label, waits=HASTY if label == "silent" else PATIENT)
    assert (answer.step, answer.code) == ending
    assert not answer.ambiguous
    assert answer.text


async def test_a_late_greeting_is_waited_for(sink: Sink) -> None:
    assert (await send(await opened(sink, "slowbanner"), "a@slowbanner.test")).delivered


async def test_nobody_listens(sink: Sink) -> None:
    answer = await open_connection("mx.dead.test", "127.0.0.9", terms(sink))
    assert isinstance(answer, Answer)
    assert (answer.step, answer.code, answer.enhanced) == ("connect", 0, "4.4.1")


async def test_a_source_address_that_is_not_ours_is_a_failed_connection(sink: Sink) -> None:
    foreign = Terms("courier.test", sink.port, PATIENT, source_ip="192.0.2.1")
    answer = await open_connection("mx.sandbox.test", "127.0.0.2", foreign)
    assert isinstance(answer, Answer)
    assert answer.step == "connect"


async def test_a_host_without_ehlo_is_greeted_the_old_way(sink: Sink) -> None:
    connection = await opened(sink, "heloonly")
    assert connection.extensions == frozenset()
    assert (await send(connection, "a@heloonly.test")).delivered


@pytest.mark.parametrize(
    ("label", "ending"), [("busymail", ("mail", 421)), ("refusemail", ("mail", 553)), ("dropmail", ("mail", 0))]
)
async def test_a_host_that_refuses_the_sender(sink: Sink, label: str, ending: tuple[str, int]) -> None:
    answer = await send(await opened(sink, label), f"a@{label}.test")
    assert (answer.step, answer.code) == ending
    assert not answer.stale


async def test_a_kept_connection_that_died_is_told_apart_from_a_refusal(sink: Sink) -> None:
    connection = await opened(sink)
    assert (await send(connection, "a@sandbox.test")).delivered
    connection._channel.eof_received()
    answer = await send(connection, "b@sandbox.test")
    assert answer.stale
    assert not answer.ambiguous


async def test_what_the_host_cannot_take_is_not_sent(sink: Sink) -> None:
    bare, small = await opened(sink, "bare"), await opened(sink, "small")
    needs = {
        "5.6.7": (bare, Envelope("a@shop.test", "ä@bare.test", len(MESSAGE))),
        "5.6.3": (bare, Envelope("a@shop.test", "a@bare.test", len(MESSAGE), eight_bit=True)),
        "5.3.4": (small, Envelope("a@shop.test", "a@small.test", 20_001)),
    }
    for enhanced, (connection, envelope) in needs.items():
        answer = await connection.send(envelope, MESSAGE, yes)
        assert (answer.step, answer.code, answer.enhanced) == ("mail", 0, enhanced)
        assert (await send(connection, f"after-{enhanced}@bare.test")).delivered


async def test_an_international_address_goes_out_as_it_is_where_the_host_takes_it(sink: Sink) -> None:
    envelope = Envelope("größe@shop.test", "Käthe@sandbox.test", len(MESSAGE), eight_bit=True, smtputf8=True)
    answer = await (await opened(sink)).send(envelope, content([MESSAGE], leading_dots=True), yes)
    assert answer.delivered
    [arrival] = arrivals(sink, "Käthe@sandbox.test")
    assert arrival.sender == "größe@shop.test"


async def test_the_dot_waits_for_the_hook_and_falls_with_it(sink: Sink) -> None:
    seen: list[int] = []

    async def late() -> bool:
        await asyncio.sleep(0.1)
        seen.append(len(arrivals(sink, "hook@sandbox.test")))
        return True

    async def no() -> bool:
        return False

    async def fails() -> bool:
        raise RuntimeError("the log is gone")

    assert (await send(await opened(sink), "hook@sandbox.test", before_dot=late)).delivered
    assert seen == [0]
    answer = await send(await opened(sink), "nohook@sandbox.test", before_dot=no)
    assert (answer.step, answer.ambiguous, answer.text) == ("content", False, "given up before the final dot")
    with pytest.raises(RuntimeError):
        await send(await opened(sink), "nohook@sandbox.test", before_dot=fails)
    await asyncio.sleep(0.05)
    assert not arrivals(sink, "nohook@sandbox.test")


async def test_a_cancelled_attempt_sends_no_dot(sink: Sink) -> None:
    async def never() -> bool:
        await asyncio.sleep(60)
        return True

    task = asyncio.create_task(send(await opened(sink), "cancelled@sandbox.test", before_dot=never))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    assert not arrivals(sink, "cancelled@sandbox.test")


# TLS.


@pytest.mark.parametrize("label", ["sandbox", "expiredtls", "wrongname", "needtls"])
async def test_tls_is_used_where_offered_whatever_the_certificate(sink: Sink, label: str) -> None:
    connection = await opened(sink, label, "may")
    assert connection.peer.tls.startswith("TLSv1.")
    assert (await send(connection, f"tls@{label}.test")).delivered
    [arrival] = arrivals(sink, f"tls@{label}.test")
    assert arrival.tls


async def test_a_large_mail_goes_through_tls(sink: Sink) -> None:
    big = b"Subject: big\r\n\r\n" + (b"x" * 998 + b"\r\n") * 3000
    assert (await send(await opened(sink, tls="may"), "bigtls@sandbox.test", big)).delivered
    [arrival] = arrivals(sink, "bigtls@sandbox.test")
    assert arrival.size == len(big)


async def test_a_refused_starttls_means_plain_text_where_that_is_allowed(sink: Sink) -> None:
    connection = await opened(sink, "refusedtls", "may")
    assert (connection.peer.tls, connection.tls_failed) == ("", "STARTTLS was refused with 454")
    assert (await send(connection, "a@refusedtls.test")).delivered


@pytest.mark.parametrize("label", ["brokentls", "badtls"])
async def test_a_failed_handshake_ends_the_connection(sink: Sink, label: str) -> None:
    answer = await refused(sink, label, "may")
    assert (answer.step, answer.code, answer.enhanced) == ("starttls", 0, "4.7.5")
    assert "TLS handshake" in answer.text


@pytest.mark.parametrize("label", ["brokentls", "badtls", "refusedtls", "notls", "bare"])
async def test_where_tls_is_a_must_nothing_ever_leaves_in_plain_text(sink: Sink, label: str) -> None:
    answer = await refused(sink, label, "must")
    assert answer.step == "starttls"
    assert answer.code in (0, 454)
    assert "MAIL" not in answer.transcript


class Recorder(asyncio.Protocol):
    """A host that says its script line by line and keeps what it was sent."""

    def __init__(self, script: list[bytes]) -> None:
        self.script = script
        self.heard = b""
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.speak()

    def speak(self) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        if self.script:
            self.transport.write(self.script.pop(0))

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.speak()


async def recorded(
    script: list[bytes], tls: TLSPolicy = "may", waits: DeliverSettings = PATIENT
) -> tuple[Recorder, SMTPConnection | Answer]:
    recorder = Recorder(script)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: recorder, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    opened = await open_connection("mx.rec.test", "127.0.0.1", Terms("courier.test", port, waits, tls=tls))
    server.close()
    if isinstance(opened, SMTPConnection):
        OPENED.append(opened)
    return recorder, opened


async def test_plain_text_behind_the_220_of_starttls_is_not_believed() -> None:
    script = [b"220 hi\r\n", b"250-mx\r\n250 STARTTLS\r\n", b"220 go\r\n250-evil\r\n250 SMTPUTF8\r\n250 ok\r\n"]
    recorder, answer = await recorded(script, waits=HASTY)
    assert isinstance(answer, Answer)
    assert (answer.step, answer.code) == ("starttls", 0)
    assert b"MAIL" not in recorder.heard


async def test_a_host_that_wants_content_for_nobody_gets_a_lone_dot() -> None:
    script = [b"220 hi\r\n", b"250-mx\r\n250 PIPELINING\r\n", b"250 ok\r\n550 no\r\n354 go\r\n", b"554 nobody\r\n"]
    recorder, connection = await recorded(script)
    assert isinstance(connection, SMTPConnection)
    answer = await send(connection, "a@rec.test")
    assert (answer.step, answer.code) == ("rcpt", 550)
    assert recorder.heard.endswith(b"DATA\r\n.\r\n")
    assert b"Hello" not in recorder.heard


async def test_an_early_refusal_within_the_content_counts() -> None:
    script = [
        b"220 hi\r\n",
        b"250-mx\r\n250 PIPELINING\r\n",
        b"250 ok\r\n250 ok\r\n354 go\r\n",
        b"552 5.3.4 enough\r\n",
    ]

    async def slowly() -> bool:
        await asyncio.sleep(0.05)
        return True

    recorder, connection = await recorded(script)
    assert isinstance(connection, SMTPConnection)
    answer = await send(connection, "a@rec.test", before_dot=slowly)
    assert (answer.step, answer.code, answer.ambiguous) == ("content", 552, False)
    assert not recorder.heard.endswith(b"\r\n.\r\n")


LINES = st.lists(st.sampled_from([b".", b"..", b"a", b"\0\xff", b"RCPT TO:<evil@x.test>", b""]), min_size=1, max_size=8)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(LINES.map(lambda lines: b"".join(line + b"\r\n" for line in lines)))
async def test_what_is_on_the_wire_is_the_message_and_nothing_but_the_message(message: bytes) -> None:
    script = [b"220 hi\r\n", b"250-mx\r\n250 PIPELINING\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"]
    recorder, connection = await recorded(script, "never")
    assert isinstance(connection, SMTPConnection)

    async def read_by_now() -> bool:
        while not recorder.heard.endswith(b"\r\n") or len(recorder.heard) < len(message):
            await asyncio.sleep(0)
        recorder.script.append(b"250 ok\r\n")
        return True

    assert (await send(connection, "a@rec.test", message, read_by_now)).delivered
    sent = recorder.heard.split(b"DATA\r\n", 1)[1]
    lines = sent.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b".\r\n" not in [line + b"\r\n" for line in lines[:-2]]
    assert b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2]) == message
    assert sent.count(b"\r") == sent.count(b"\n") == sent.count(b"\r\n")
    connection.abort()


# Other loops, other hosts.


def test_the_same_holds_on_uvloop(tmp_path: Path) -> None:
    async def story() -> list[tuple[str, int, bool]]:
        sink = Sink(SinkSettings(tmp_path / "sink", listeners=all_listeners(slow=0.05)))
        await sink.start()
        endings = []
        big = b"Subject: big\r\n\r\n" + (b"x" * 998 + b"\r\n") * 20_000
        for recipient, tls, message in (
            ("plain@sandbox.test", "never", MESSAGE),
            ("tls@sandbox.test", "may", MESSAGE),
            ("big@sandbox.test", "may", big),
            ("hardbounce@sandbox.test", "may", MESSAGE),
            ("dropdot@sandbox.test", "may", MESSAGE),
            ("halfreply@sandbox.test", "never", MESSAGE),
            ("rsetdata@sandbox.test", "never", big),
            ("stall@sandbox.test", "never", big),
        ):
            waits = HASTY if recipient.startswith("stall") else PATIENT
            connection = await opened(sink, tls="may" if tls == "may" else "never", waits=waits)
            answer = await send(connection, recipient, message)
            endings.append((answer.step, answer.code, answer.ambiguous))
            connection.abort()
        await sink.stop()
        return endings

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        endings = runner.run(story())
    OPENED.clear()
    assert endings == [
        ("dot", 250, False),
        ("dot", 250, False),
        ("dot", 250, False),
        ("rcpt", 550, False),
        ("dot", 0, True),
        ("dot", 0, True),
        ("content", 0, False),
        ("content", 0, False),
    ]


async def test_a_real_postfix_takes_our_mail_with_tls_and_all_its_dots(postfix: Postfix) -> None:
    chosen = postfix.settings
    how = Terms("courier.test", chosen.port, DeliverSettings())
    connection = await open_connection("mx.inbox.test", chosen.address, how)
    assert isinstance(connection, SMTPConnection), connection
    assert "PIPELINING" in connection.extensions
    numbers = random.Random(1)
    for number in range(3):
        body = b"".join(b"." * numbers.randrange(4) + b"x" * numbers.randrange(100) + b"\r\n" for _ in range(200))
        answer = await send(connection, f"ada{number}@inbox.test", b"Subject: %d\r\n\r\n" % number + body)
        assert answer.delivered, answer
    unknown = await send(connection, "nobody@elsewhere.test")
    assert unknown.step == "rcpt"
    assert unknown.code in (454, 550, 554)
    connection.quit()


async def test_unsendable_content_never_reaches_the_wire() -> None:
    with pytest.raises(UnsendableError):
        content([b"Subject: x\r\n\r\nline\n.\r\nMAIL FROM:<evil@x.test>\r\n"], leading_dots=True)


async def test_goodbye_is_said(sink: Sink) -> None:
    connection = await opened(sink)
    connection.quit()
    assert not connection.usable
    for _ in range(100):
        if connection._channel._transport is None:
            break
        await asyncio.sleep(0.01)
    assert connection._channel._transport is None
