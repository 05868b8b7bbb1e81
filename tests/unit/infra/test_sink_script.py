"""The sink's script, and its conversations over a transport in memory, written as transcripts."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from depesche.infra.local.sink.desk import Desk
from depesche.infra.local.sink.ground_truth import measure
from depesche.infra.local.sink.listeners import MAIN, Listener, all_listeners
from depesche.infra.local.sink.scenarios import Script, Timing, scenarios, stem_of
from depesche.infra.local.sink.session import LONGEST_COMMAND, MOST_RECIPIENTS, Session


class Wire(asyncio.Transport):
    """The client's end of a connection: what the sink wrote, and whether it hung up."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.2", 2525)})
        self.received = b""
        self.writes = 0
        self.closed = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.received += bytes(data)
        self.writes += 1

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def take(self) -> bytes:
        taken, self.received, self.writes = self.received, b"", 0
        return taken


class Client:
    """A conversation with one listener of a sink that only counts."""

    def __init__(self, listener: Listener = MAIN) -> None:
        self.desk = Desk(Script(Timing()), None, None, Path("unused"), [])
        self.wire = Wire()
        self.session = Session(self.desk, listener)
        self.session.connection_made(self.wire)
        self.banner = self.wire.take()

    def say(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            self.session.data_received(piece)
        return self.wire.take()

    def codes(self, *pieces: bytes) -> list[bytes]:
        return [line[:3] for line in self.say(*pieces).splitlines() if line[3:4] != b"-"]

    def envelope(self, recipient: str = "ada") -> None:
        self.say(b"EHLO shop.test\r\n")
        self.say(f"MAIL FROM:<news@shop.test>\r\nRCPT TO:<{recipient}@sandbox.test>\r\n".encode())


@pytest.mark.parametrize(
    ("recipient", "stem"),
    [
        ("hardbounce@sandbox.test", "hardbounce"),
        ("HardBounce+order17@sandbox.test", "hardbounce"),
        ("hardbounce-42@sandbox.test", "hardbounce"),
        ("defer-3x@sandbox.test", "defer-3x"),
        ("defer-3x-17+a@sandbox.test", "defer-3x"),
        ("hard-bounce@sandbox.test", "hard-bounce"),
        ('"odd@part"@sandbox.test', '"odd@part"'),
        ("nowhere", ""),
    ],
)
def test_the_local_part_without_its_counter_names_the_scenario(recipient: str, stem: str) -> None:
    assert stem_of(recipient) == stem


def test_every_scenario_is_explained_and_its_reply_is_what_it_says() -> None:
    for name, scenario in scenarios(Timing()).items():
        assert scenario.sentence.endswith("."), name
        assert stem_of(f"{name}@sandbox.test") == name
        if scenario.answer.accepts and scenario.stage == "dot":
            assert scenario.kept, name


def test_defer_3x_refuses_three_attempts_of_each_recipient() -> None:
    script = Script(Timing())
    for recipient in ("defer-3x-1@sandbox.test", "defer-3x-2@sandbox.test"):
        answers = [script.cast(recipient, 0.0) for _ in range(5)]
        assert [answer is not None for answer in answers] == [True, True, True, False, False]


def test_greylisting_ends_after_its_time_and_not_before() -> None:
    script = Script(Timing(greylist=10.0))
    seen = [script.cast("greylist@sandbox.test", now) is None for now in (100.0, 100.0, 109.9, 110.0, 500.0)]
    assert seen == [False, False, False, True, True]
    assert script.cast("greylist-2@sandbox.test", 500.0) is not None


async def test_a_plain_mail_goes_through_step_by_step() -> None:
    client = Client()
    assert client.banner == b"220 mx.sandbox.test ESMTP Depesche sink\r\n"
    assert client.codes(b"EHLO shop.test\r\n") == [b"250"]
    assert client.codes(b"MAIL FROM:<news@shop.test> BODY=8BITMIME SIZE=40\r\n") == [b"250"]
    assert client.codes(b"RCPT TO:<ada@sandbox.test>\r\n") == [b"250"]
    assert client.codes(b"DATA\r\n") == [b"354"]
    assert client.codes(b"Subject: x\r\n\r\nbody\r\n.\r\n") == [b"250"]
    assert client.codes(b"QUIT\r\n") == [b"221"]
    assert client.wire.closed
    assert (client.desk.counters.kept, client.desk.counters.content_bytes) == (1, 20)


async def test_replies_to_pipelined_commands_leave_in_one_write() -> None:
    client = Client()
    client.say(b"EHLO shop.test\r\n")
    for command in (b"MAIL FROM:<>\r\n", b"RCPT TO:<ada@sandbox.test>\r\n", b"DATA\r\n"):
        client.session.data_received(command)
    client.wire.take()
    client.say(b".\r\n")
    client.session.data_received(b"MAIL FROM:<>\r\nRCPT TO:<hardbounce@sandbox.test>\r\nDATA\r\nRSET\r\n")
    assert client.wire.writes == 1
    assert [line[:3] for line in client.wire.take().splitlines()] == [b"250", b"550", b"554", b"250"]


async def test_a_mail_cut_into_single_bytes_is_the_same_mail() -> None:
    conversation = (
        b"EHLO shop.test\r\nMAIL FROM:<news@shop.test>\r\nRCPT TO:<ada@sandbox.test>\r\nDATA\r\n"
        b"..x\r\n\r\n.\r.\r\n\n.\r\r\n.y\r\n.\r\nNOOP\r\n"
    )
    whole, bytewise = Client(), Client()
    whole.say(conversation)
    bytewise.say(*(conversation[at : at + 1] for at in range(len(conversation))))
    assert whole.desk.counters == bytewise.desk.counters
    assert whole.desk.counters.kept == 1


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        (b".\r\n", 0),
        (b"\r\n.\r\n", 2),
        (b"..\r\n.\r\n", 3),
        (b"a\r\n..\r\n..b\r\n.\r\n", 10),
    ],
)
async def test_stuffed_dots_are_taken_out(sent: bytes, size: int) -> None:
    client = Client()
    client.envelope()
    client.say(b"DATA\r\n")
    assert client.codes(sent) == [b"250"]
    assert client.desk.counters.content_bytes == size


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r"])
async def test_only_a_dot_between_full_newlines_ends_the_content(end: bytes) -> None:
    client = Client()
    client.envelope()
    client.say(b"DATA\r\n")
    assert client.say(b"content" + end) == b""


async def test_commands_out_of_order_are_refused() -> None:
    client = Client()
    assert client.codes(b"MAIL FROM:<a@shop.test>\r\n") == [b"503"]
    client.say(b"EHLO shop.test\r\n")
    assert client.codes(b"RCPT TO:<a@sandbox.test>\r\nDATA\r\n") == [b"503", b"503"]
    assert client.codes(b"MAIL FROM:a@shop.test\r\n") == [b"501"]
    assert client.codes(b"MAIL FROM:<a@shop.test>\r\nMAIL FROM:<b@shop.test>\r\n") == [b"250", b"503"]
    assert client.codes(b"AUTH PLAIN\r\nVRFY ada\r\nNOOP\r\nRSET\r\nRCPT TO:<a@sandbox.test>\r\n") == [
        b"502",
        b"252",
        b"250",
        b"250",
        b"503",
    ]


async def test_limits_hold_for_commands_recipients_and_content() -> None:
    client = Client(Listener("small", "127.0.1.32", largest=100))
    assert client.codes(b"EHLO shop.test\r\nMAIL FROM:<a@shop.test> SIZE=101\r\n") == [b"250", b"552"]
    client.say(b"MAIL FROM:<a@shop.test>\r\n")
    replies = client.codes(*(f"RCPT TO:<a{n}@sandbox.test>\r\n".encode() for n in range(MOST_RECIPIENTS + 1)))
    assert (replies[-2], replies[-1]) == (b"250", b"452")
    client.say(b"DATA\r\n")
    for _ in range(100):
        assert client.say(b"x" * 98 + b"\r\n") == b""
    assert len(client.session._unread) < 2000
    assert client.codes(b".\r\nNOOP\r\n") == [b"552", b"250"]
    assert client.codes(b"x" * (LONGEST_COMMAND + 1)) == [b"500"]
    assert client.wire.closed


@pytest.mark.parametrize(
    ("recipient", "codes", "closed"),
    [
        ("defer", [b"450", b"554"], False),
        ("full", [b"452", b"554"], False),
        ("hardbounce-7", [b"550", b"554"], False),
        ("421", [b"421"], True),
        ("eofmail", [], True),
        ("421data", [b"250", b"421"], True),
        ("nodata", [b"250", b"554"], False),
        ("eofdata", [b"250", b"354"], True),
        ("spam", [b"250", b"354", b"554"], False),
        ("tempdot", [b"250", b"354", b"451"], False),
        ("dropdot", [b"250", b"354"], True),
        ("halfreply", [b"250", b"354", b"25"], True),
        ("421dot", [b"250", b"354", b"421"], True),
    ],
)
async def test_the_recipient_decides_what_happens(recipient: str, codes: list[bytes], closed: bool) -> None:
    client = Client()
    client.say(b"EHLO shop.test\r\nMAIL FROM:<news@shop.test>\r\n")
    got = client.codes(f"RCPT TO:<{recipient}@sandbox.test>\r\n".encode())
    for piece in (b"DATA\r\n", b"body\r\n.\r\n"):
        if not client.wire.closed and (got[-1] != b"554"):
            got += client.codes(piece)
    assert (got, client.wire.closed) == (codes, closed)
    assert client.desk.counters.kept == (recipient in ("dropdot", "halfreply"))


async def test_a_big_reply_is_one_reply_of_many_lines() -> None:
    client = Client()
    client.say(b"EHLO shop.test\r\nMAIL FROM:<news@shop.test>\r\n")
    reply = client.say(b"RCPT TO:<bigreply@sandbox.test>\r\n")
    lines = reply.splitlines()
    assert len(reply) >= 65_536
    assert {line[:4] for line in lines[:-1]} == {b"550-"}
    assert lines[-1][:4] == b"550 "


async def test_each_listener_offers_what_its_name_says() -> None:
    offers = {}
    for listener in all_listeners():
        if "banner" in listener.answers:
            continue
        client = Client(listener)
        offers[listener.label] = client.say(b"EHLO shop.test\r\n")
    assert b"PIPELINING" in offers["sandbox"]
    assert b"PIPELINING" not in offers["nopipelining"]
    assert b"STARTTLS" not in offers["notls"]
    assert offers["bare"] == b"250 mx.bare.test\r\n"
    assert b"SIZE 20000\r\n" in offers["small"]
    assert offers["busyehlo"].startswith(b"421")
    assert offers["heloonly"].startswith(b"502")


async def test_a_listener_that_needs_tls_takes_nothing_in_plain() -> None:
    client = Client(Listener("needtls", "127.0.1.38", needs_tls=True))
    client.say(b"EHLO shop.test\r\n")
    assert client.codes(b"MAIL FROM:<a@shop.test>\r\n") == [b"530"]


def test_a_content_is_measured_whole_and_by_its_body() -> None:
    content = b"Subject: x\r\nMessage-ID:\r\n <folded@shop.test>\r\n\r\nbody\r\n"
    seen = measure(content)
    assert (seen.size, seen.message_id, seen.bare_newline) == (len(content), "<folded@shop.test>", False)
    assert seen.sha256 == hashlib.sha256(content).hexdigest()
    assert seen.body_sha256 == hashlib.sha256(b"body\r\n").hexdigest()


@pytest.mark.parametrize(
    ("content", "message_id"),
    [
        (b"Message-ID: <a@b>\r\n\r\n", "<a@b>"),
        (b"X: y\r\nMessage-ID: <a@b>\r\n\r\n", "<a@b>"),
        (b"X: y\r\nmessage-id:<a@b>\r\n\r\n", "<a@b>"),
        (b"X: y\r\n\r\nMessage-ID: <body@b>\r\n", ""),
        (b"X-Message-ID: <other@b>\r\n\r\n", ""),
        (b"X: y\r\nMessage-ID: <broken\r\n\r\n<x>", ""),
        (b"", ""),
    ],
)
def test_the_message_id_is_found_in_the_header_only(content: bytes, message_id: str) -> None:
    assert measure(content).message_id == message_id


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\r\nb\n"])
def test_a_newline_that_is_not_whole_is_noticed(content: bytes) -> None:
    assert measure(content).bare_newline is True
    assert measure(content, newlines=False).bare_newline is None
