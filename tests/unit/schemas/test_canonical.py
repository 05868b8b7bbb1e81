"""The body hash is the one that DKIM verifiers compute."""

import base64
import hashlib

import dkim.canonicalization
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.schemas.canonical import body_sha256


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b".", b"text", b"\r\n\r\n"])).map(b"".join))
def test_every_body_hashes_as_dkimpy_canonicalises_it(body: bytes) -> None:
    assert body_sha256(body) == hashlib.sha256(dkim.canonicalization.Simple.canonicalize_body(body)).digest()


def test_an_empty_body_hashes_as_one_line_end() -> None:
    # The value is given in RFC 6376 section 3.4.3.
    assert base64.b64encode(body_sha256(b"")) == b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="


@pytest.mark.parametrize("unit", [b"\r\n", b"\n\r", b"\r\r\n"])
def test_a_body_of_nothing_but_line_ends_costs_no_more_than_any_other(unit: bytes) -> None:
    # Ten million steps of Python would stop a door for a second; this finishes within the test's time limit either way,
    # so what is held here is the value, over a length at which a quadratic search would not come back.
    body = b"x" + unit * 3_000_000
    assert body_sha256(body) == hashlib.sha256(body[: len(body) - 2 * _pairs_at_end(body)] + b"\r\n").digest()


def _pairs_at_end(body: bytes) -> int:
    count = 0
    while body.endswith(b"\r\n", 0, len(body) - 2 * count):
        count += 1
    return count
