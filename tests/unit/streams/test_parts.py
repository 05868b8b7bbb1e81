"""What a scanner is given of a message: every leaf decoded, and never an exception, whatever a stranger wrote."""

import io
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from depesche.streams.mail.parts import MAX_DEPTH, MAX_MEMBERS, MAX_PARTS, decoded_parts
from tests.infected import forwarded, with_attachment, zipped

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def archive(method: int, members: int = 1) -> bytes:
    """An archive whose members say their number."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as opened:
        for number in range(members):
            opened.writestr(f"{number}.txt", b"member %d " % number * 20)
    return made.getvalue()


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable", b"binary"])
def test_an_attachment_comes_as_its_reader_would_save_it(encoding: bytes) -> None:
    content = b"Gr\xc3\xbc\xc3\x9fe = 100 %"
    assert any(part.strip() == content for part in decoded_parts(with_attachment(content, encoding)))


@pytest.mark.parametrize("method", METHODS)
def test_members_of_an_archive_come_behind_the_archive(method: int) -> None:
    whole = archive(method, 3)
    parts = list(decoded_parts(with_attachment(whole)))
    at = parts.index(whole)
    assert [part[:8] for part in parts[at + 1 : at + 4]] == [b"member 0", b"member 1", b"member 2"]


@pytest.mark.parametrize("method", METHODS)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), min_size=1, max_size=3))
@example([(58, 255)])
def test_a_damaged_archive_is_handed_over_as_it_stands(method: int, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(archive(method, 2))
    for at, bits in flips:
        damaged[at % len(damaged)] ^= bits
    assert bytes(damaged) in list(decoded_parts(with_attachment(bytes(damaged))))


@given(
    st.lists(
        st.sampled_from([b"--b", b"--b--", b"\r\n", b"\n", b"Content-Type: multipart/mixed; boundary=b", b"x", b"\xff"])
    )
)
def test_no_structure_makes_it_fail(pieces: list[bytes]) -> None:
    assert b"".join(decoded_parts(b"".join(pieces))) is not None


def test_it_follows_no_bomb() -> None:
    message = with_attachment(b"core")
    for _ in range(MAX_DEPTH * 3):
        message = forwarded(message)
    assert len(list(decoded_parts(message))) < MAX_PARTS
    many = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * (MAX_PARTS * 5) + b"--b--\r\n"
    assert len(list(decoded_parts(many))) <= MAX_PARTS + 1
    assert len(list(decoded_parts(with_attachment(archive(zipfile.ZIP_STORED, MAX_MEMBERS * 3))))) < MAX_MEMBERS + 10
    assert max(map(len, decoded_parts(with_attachment(zipped(bytes(80 << 20)))))) <= 64 << 20
