"""The quick search finds what the plain one finds."""

from hypothesis import given
from hypothesis import strategies as st

from depesche.schemas.landmark import find_by

MARKS = st.sampled_from([(b"\n--b", 1), (b"\r\n.\r\n", 2), (b"\n--", 2), (b"-", 0)])
PIECES = st.sampled_from([b"\n--b", b"\r\n.\r\n", b"-", b"--", b"\n", b".", b"\r\n", b"A" * 40, b"-" * 90, b"." * 70])


@given(st.lists(PIECES, max_size=12).map(b"".join), MARKS, st.integers(0, 60))
def test_it_is_find(content: bytes, mark: tuple[bytes, int], start: int) -> None:
    assert find_by(content, *mark, start) == content.find(mark[0], start)
