"""Attachments are shown to a scanner apart only where every reader of mail sees the same in them."""

import base64
import email
import email.policy
import random
from email.message import EmailMessage, Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.streams.mail.attachments import LARGE, MAX_LOOKED_AT, MAX_TAKEN, STAND_IN, attachments_apart

CONTENT = random.Random(3).randbytes(LARGE)
TEXT = base64.encodebytes(CONTENT).replace(b"\n", b"\r\n")
HEADER = b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n"
PART = b"--b\r\n" + HEADER + b"\r\n" + TEXT


def mail(header: bytes = HEADER, text: bytes = TEXT, end: bytes = b"--b--\r\n") -> bytes:
    """One part behind a mail's header."""
    return (
        b'From: a@b.example\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
        + header
        + b"\r\n"
        + text
        + end
    )


def leaves(message: Message) -> list[bytes]:
    """What the standard library reads in a mail."""
    return [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]  # type: ignore[misc]


@given(
    st.lists(st.tuples(st.sampled_from(["application", "image", "text"]), st.integers(0, 3 * LARGE)), max_size=4),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_rest_and_attachments_together_are_what_the_standard_library_reads(
    parts: list[tuple[str, int]], nested: bool, chance: random.Random
) -> None:
    made = EmailMessage(policy=email.policy.SMTP)
    made.set_content("Good day.\n")
    for kind, size in parts:
        made.add_attachment(chance.randbytes(size), maintype=kind if kind != "text" else "application", subtype="x")
    if nested:
        outer = EmailMessage(policy=email.policy.SMTP)
        outer.set_content("See below.\n")
        outer.add_attachment(made)
        made = outer
    message = made.as_bytes()
    rest, *taken = attachments_apart(message)
    whole, stand_in = leaves(email.message_from_bytes(message)), base64.b64decode(STAND_IN)
    shown = iter(taken)
    assert [next(shown) if leaf == stand_in else leaf for leaf in leaves(email.message_from_bytes(rest))] == whole
    assert next(shown, None) is None
    # A forwarded mail stays whole: only parts of the mail itself are taken out.
    assert len(taken) == (0 if nested else 1) * min(
        MAX_TAKEN, sum(4 * -(-size // 3) * 78 // 76 >= LARGE for _, size in parts)
    )


def test_what_was_taken_out_is_not_in_the_rest() -> None:
    rest, *taken = attachments_apart(mail())
    assert taken == [CONTENT]
    assert TEXT[:76] not in rest
    assert rest == mail(text=STAND_IN)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        pytest.param(HEADER, TEXT[: LARGE // 2], id="small"),
        pytest.param(HEADER.replace(b"application/pdf", b"text/html"), TEXT, id="text"),
        pytest.param(HEADER.replace(b"application/pdf", b"message/rfc822"), TEXT, id="a mail"),
        pytest.param(HEADER.replace(b"application/pdf", b"multipart/mixed"), TEXT, id="several parts"),
        pytest.param(HEADER.replace(b"base64", b"quoted-printable"), TEXT, id="quoted-printable"),
        pytest.param(HEADER.replace(b"base64", b"base64x"), TEXT, id="unknown encoding"),
        pytest.param(HEADER + b"Content-Transfer-Encoding: 7bit\r\n", TEXT, id="two encodings"),
        pytest.param(HEADER + b"Content-Type: text/plain\r\n", TEXT, id="two types"),
        pytest.param(HEADER[: HEADER.index(b"Content-T", 1)], TEXT, id="no encoding"),
        pytest.param(HEADER + b"X: " + b"x" * 5000 + b"\r\n", TEXT, id="endless header"),
        pytest.param(HEADER, b"QQ==\r\n" + TEXT, id="padding in the middle"),
        pytest.param(HEADER, TEXT.rstrip(b"=\r\n")[:-2] + b"=A\r\n", id="a letter behind the padding"),
        pytest.param(HEADER, b"Q\r\n--\r\n" + HEADER + b"\r\n" + TEXT, id="a line like a boundary that is none"),
        pytest.param(HEADER, b"Q\r\n--b \r\n" + HEADER + b"\r\n" + TEXT, id="a boundary and more"),
        pytest.param(HEADER + b"no header\r\n", TEXT, id="a header that is none"),
        pytest.param(HEADER, b"Q\r\n" + TEXT, id="a letter too many"),
        pytest.param(HEADER, b"!QUJD\r\n" + TEXT, id="a letter that is none"),
        pytest.param(HEADER, b"!QUJ\r\n" + TEXT, id="a letter that is none in a whole group"),
        pytest.param(HEADER, TEXT[:1000] + b" \t \t" + TEXT[1000:], id="spaces"),
        pytest.param(HEADER, TEXT[:20_000] + b"-" + TEXT[20_000:], id="a hyphen"),
        pytest.param(HEADER, b"begin 644 a.exe\r\n" + TEXT, id="uuencode"),
    ],
)
def test_what_readers_may_read_in_two_ways_stays_in_the_message(header: bytes, text: bytes) -> None:
    message = mail(header, text)
    assert attachments_apart(message) == (message,)


def test_a_part_that_never_ends_stays_in_the_message() -> None:
    assert attachments_apart(mail(end=b"")) == (mail(end=b""),)


def test_a_mail_whose_body_is_the_attachment_stays_whole() -> None:
    message = b"From: a@b.example\r\n" + HEADER + b"\r\n" + TEXT
    assert attachments_apart(message) == (message,)


def test_no_more_are_taken_than_a_scanner_is_asked_for_at_once() -> None:
    message = mail(end=PART * MAX_TAKEN + b"--b--\r\n")
    assert attachments_apart(message) == (
        mail(text=STAND_IN, end=PART.replace(TEXT, STAND_IN) * (MAX_TAKEN - 1) + PART + b"--b--\r\n"),
        *[CONTENT] * MAX_TAKEN,
    )


@pytest.mark.parametrize(("rows", "taken"), [(MAX_LOOKED_AT - 10, 1), (MAX_LOOKED_AT, 0)])
def test_a_mail_made_of_boundaries_is_not_looked_through(rows: int, taken: int) -> None:
    text = b"--b\r\n" * rows + b"x" * 5000 + b"\r\n"
    message = mail(b"Content-Type: text/plain\r\n", text, PART + b"--b--\r\n")
    assert len(attachments_apart(message)) == 1 + taken


def test_an_attachment_behind_one_that_stays_is_taken() -> None:
    assert attachments_apart(mail(text=b"!" + TEXT, end=PART + b"--b--\r\n"))[1:] == (CONTENT,)


@given(st.binary(max_size=300))
def test_nothing_a_stranger_writes_breaks_it(noise: bytes) -> None:
    attachments_apart(mail(header=noise))
    attachments_apart(mail(text=noise + TEXT))
    attachments_apart(noise)
