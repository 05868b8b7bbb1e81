"""Replies of mail hosts: whole, in pieces, huge, foreign, or none at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.streams.wire.smtp_reply import MAX_TEXT, Reply, ReplyParser, printable


def parsed(*chunks: bytes) -> tuple[list[Reply], str]:
    parser = ReplyParser()
    replies = [reply for chunk in chunks for reply in parser.feed(chunk)]
    return replies, parser.broken


def test_a_reply_has_its_code_its_enhanced_code_and_its_words() -> None:
    [reply], _ = parsed(b"550 5.1.1 No such user\r\n")
    assert (reply.code, reply.first_digit, reply.enhanced, reply.text) == (550, 5, "5.1.1", "5.1.1 No such user")


def test_lines_of_one_reply_belong_together() -> None:
    [reply], _ = parsed(b"250-mx.example.org\r\n250-PIPELINING\r\n250 SIZE 1000\r\n")
    assert reply.raw.split(b"\n") == [b"mx.example.org", b"PIPELINING", b"SIZE 1000"]


def test_pipelined_replies_come_one_by_one() -> None:
    replies, _ = parsed(b"250 2.1.0 a\r\n250 2.1.5 b\r\n354 c\r\n")
    assert [reply.code for reply in replies] == [250, 250, 354]


@pytest.mark.parametrize("raw", [b"250\r\n", b"250 \r\n", b"250\n"])
def test_a_code_alone_is_a_reply(raw: bytes) -> None:
    [reply], _ = parsed(raw)
    assert (reply.code, reply.text) == (250, "")


@pytest.mark.parametrize(
    "raw",
    [
        b"what do you want?\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"2500 too long a code\r\n",
        b"150 no such class\r\n",
        b"650 no such class\r\n",
        b"25\r\n",
        b"250_OK\r\n",
        b"250-a\r\n550 b\r\n",
        b"250-a\r\nb\r\n",
    ],
)
def test_what_is_no_reply_breaks_the_conversation_and_raises_nothing(raw: bytes) -> None:
    replies, broken = parsed(raw)
    assert not replies
    assert broken


def test_half_a_line_is_no_reply() -> None:
    assert parsed(b"25") == ([], "")
    assert parsed(b"250 2.0.0 Ok: queued as 4") == ([], "")


def test_what_was_complete_before_the_break_still_counts() -> None:
    replies, broken = parsed(b"250 first\r\nnonsense\r\n250 never read\r\n")
    assert [reply.code for reply in replies] == [250]
    assert broken
    assert "nonsense" in broken


def test_64_kb_in_many_lines_are_read_and_cut() -> None:
    [reply], broken = parsed(b"550-" + b"x" * 120 + b"\r\n", *[b"550-" + b"y" * 120 + b"\r\n"] * 600, b"550 end\r\n")
    assert not broken
    assert reply.code == 550
    assert len(reply.text) == MAX_TEXT


@pytest.mark.parametrize("piece", [b"250-more and more\r\n", b"no line end at all "])
def test_a_reply_without_end_is_given_up_before_it_fills_the_memory(piece: bytes) -> None:
    parser = ReplyParser()
    fed = 0
    while not parser.broken:
        parser.feed(piece * 1000)
        fed += len(piece) * 1000
        assert fed < 1_000_000
    assert parser.broken == "the reply does not end"


def test_plain_text_injected_after_starttls_is_forgotten() -> None:
    parser = ReplyParser()
    assert [reply.code for reply in parser.feed(b"220 go\r\n250-evil.example\r\n250 AUT")] == [220]
    parser.reset()
    [reply] = parser.feed(b"250 honest\r\n")
    assert reply.text == "honest"


def test_control_characters_and_foreign_bytes_come_out_escaped() -> None:
    assert printable("Empfänger\x1b[31m\x00\x7f\u2028\u202e".encode() + b"\xe4") == (
        "Empfänger\\x1b[31m\\x00\\x7f\\u2028\\u202e\\xe4"
    )


@given(st.binary(max_size=300), st.integers(0, 50))
def test_printable_text_is_printable_and_short(raw: bytes, limit: int) -> None:
    text = printable(raw, limit)
    assert len(text) <= limit
    assert all(char.isprintable() or char == "\n" for char in text)
    text.encode()


LINES = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda code, sign, words: b"%d%s%s\r\n" % (code, sign, words),
        st.integers(0, 999),
        st.sampled_from([b" ", b"-", b""]),
        st.binary(max_size=20),
    ),
)


@given(st.lists(LINES, max_size=8).map(b"".join), st.lists(st.integers(1, 7), max_size=40))
def test_how_the_bytes_are_cut_makes_no_difference(stream: bytes, cuts: list[int]) -> None:
    pieces = []
    rest = stream
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert parsed(*pieces, rest) == parsed(stream)
