"""Lines and contents are cut out of the input alike wherever packets end, and never take more than bounded memory."""

from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.api.smtp.intake import MAX_RUNAWAY, BadLine, Budget, ContentCollector, Intake, RunawayError

PIECES = st.lists(
    st.sampled_from([b"\r\n", b".", b"..", b"a", b"\r", b"\n", b"ab.c", b"\r\n.", b"\r\n.."]), max_size=30
)


def collector(limit: int = 1 << 20) -> ContentCollector:
    return ContentCollector(limit, Budget(1 << 30))


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(borders)]


@given(PIECES, st.lists(st.integers(min_value=0), max_size=12))
def test_a_content_ends_at_the_first_crlf_dot_crlf_wherever_packets_are_cut(
    parts: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(parts) + b"\r\n.\r\nRSET\r\n"
    # The line end of the DATA command counts as the one before the first line.
    end = (b"\r\n" + stream).find(b"\r\n.\r\n")
    content, rest = stream[:end], stream[end + 3 :]
    found = collector()
    left = None
    for piece in cut(stream, cuts):
        if left is None:
            left = found.feed(piece)
        else:
            left += piece
    assert left == rest
    assert found.received == len(content)
    assert b"".join(found.take()) == content


@given(st.lists(st.sampled_from([b"NOOP\r\n", b"RSET\r\n", b"x" * 30 + b"\r\n", b"\r\n"])), st.lists(st.integers(0)))
def test_lines_come_out_as_they_were_sent_wherever_packets_are_cut(lines: list[bytes], cuts: list[int]) -> None:
    intake = Intake()
    found = []
    for piece in cut(b"".join(lines), cuts):
        intake.feed(piece)
        while (line := intake.line(100)) is not None:
            found.append(line)
    assert found == [line[:-2] for line in lines]


@pytest.mark.parametrize("line", [b"NOOP\n", b"NO\rOP\r\n", b"NO\0OP\r\n", b"NOOP\r\r\n", b"x" * 101 + b"\r\n", b"\n"])
def test_a_line_with_another_end_or_a_stray_control_is_no_command(line: bytes) -> None:
    intake = Intake()
    intake.feed(line + b"QUIT\r\n")
    assert isinstance(intake.line(100), BadLine)
    assert intake.line(100) == b"QUIT"


def test_a_line_that_never_ends_takes_no_memory_and_ends_the_conversation() -> None:
    intake = Intake()
    heard = 0
    with pytest.raises(RunawayError):
        while True:
            intake.feed(b"x" * 1000)
            heard += 1000
            assert intake.line(100) is None
            assert len(intake) <= 1000
    assert heard <= 100 + MAX_RUNAWAY + 2000


def test_the_tail_of_a_line_too_long_is_not_taken_for_a_command() -> None:
    intake = Intake()
    intake.feed(b"x" * 200)
    assert intake.line(100) is None
    intake.feed(b"QUIT\r\nNOOP\r\n")
    assert isinstance(intake.line(100), BadLine)
    assert intake.line(100) == b"NOOP"


def test_what_was_sent_behind_data_in_the_same_packet_is_content() -> None:
    intake = Intake()
    intake.feed(b"DATA\r\nSubject: x\r\n\r\nHello\r\n.\r\nQUIT\r\n")
    assert intake.line(100) == b"DATA"
    found = collector()
    intake.collect(found)
    assert not intake.collecting
    assert b"".join(found.take()) == b"Subject: x\r\n\r\nHello\r\n"
    assert intake.line(100) == b"QUIT"


def test_a_content_far_beyond_the_limit_ends_the_conversation() -> None:
    found = collector(1000)
    with pytest.raises(RunawayError):
        for _ in range(1000):
            found.feed(b"x" * 1000)
    assert found.received <= 1000 + MAX_RUNAWAY + 1000


def test_tiny_packets_take_no_more_memory_than_their_bytes() -> None:
    found = collector()
    for _ in range(50_000):
        found.feed(b"ab")
    chunks = found.take()
    assert sum(map(sys.getsizeof, chunks)) < 2 * 100_000


def test_all_connections_share_one_budget_and_give_it_back() -> None:
    budget = Budget(10_000)
    one, two = ContentCollector(1 << 20, budget), ContentCollector(1 << 20, budget)
    one.feed(b"x" * 8000)
    two.feed(b"y" * 8000)
    assert two.starved
    assert not one.starved
    assert budget.held == 8000
    assert two.feed(b"\r\n.\r\nQUIT\r\n") == b"QUIT\r\n", "it is still listened to, to the end"
    assert two.take() == []
    assert b"".join(one.take()) == b"x" * 8000
    assert budget.held == 0
