"""What a scanner is given of a message: the quick ways read the same as the plain ones."""

import base64
import binascii

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from depesche.streams.mail.parts import decoded_parts

ATTACHED = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
LETTERS = st.sampled_from([b"QUJD", b"QUI=", b"QQ==", b"=", b"\r\n", b" ", b"!", b"-", b"_", b"A", b"Zm9v" * 20])


def plainly(body: bytes) -> bytes:
    """As far as the standard library goes, and else letter by letter (RFC 2045 6.8)."""
    try:
        return binascii.a2b_base64(body.rstrip())
    except binascii.Error:
        letters = bytes(letter for letter in body if letter in base64.b64encode(bytes(range(256)) * 3) and letter != 61)
        return binascii.a2b_base64(letters[: len(letters) // 4 * 4] + b"====")


@given(st.lists(LETTERS, max_size=30).map(b"".join))
@example(b"QUJD\r\nQUI=\r\nQUJD\r\n")
@example(b"QUJDQUI=\r\n\r\n")
@example(b"AAA=A")
@example(b"AA==A")
def test_base64_is_read_as_the_standard_library_reads_it(body: bytes) -> None:
    assert list(decoded_parts(ATTACHED + b"QUJD\r\n" + body)) == [plainly(b"QUJD\r\n" + body)]


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        (b"A: 1\r\n\r\n", b"text\n\nmore\r\n\r\n"),
        (b"A: 1\n\n", b"text\r\n\r\nmore"),
        (b"A: 1\r\nB: 2\n\n", b"text\n\n"),
        (b"A: 1\r\n\r\n", b""),
    ],
)
def test_a_header_ends_at_its_first_empty_line_of_either_kind(head: bytes, rest: bytes) -> None:
    assert list(decoded_parts(head + rest)) == [rest]


def test_what_has_no_empty_line_is_all_body() -> None:
    assert list(decoded_parts(b"nothing but text\r\n")) == [b"nothing but text\r\n"]
