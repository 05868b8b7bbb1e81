"""Mails from strangers, taken apart: broken ones too, and any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.streams.mail.bounce import read
from depesche.streams.mail.letter import MAX_TEXT, decode_words, html_text, read_letter, split_mails

from .samples import SAMPLES


def test_headers_are_unfolded_and_found_in_any_case() -> None:
    letter = read_letter(b"SUBJECT: one\n two\n\tthree\nX-A: 1\nx-a: 2\n\nbody")
    assert letter.get("subject") == "one two three"
    assert letter.get_all("x-a") == ("1", "2")
    assert (letter.body, letter.get("none")) == (b"body", "")


def test_a_mail_without_headers_is_all_body() -> None:
    assert read_letter(b"no header here\nat all").body == b"no header here\nat all"


def test_a_line_of_an_mbox_is_no_header() -> None:
    assert read_letter(b"From daemon Thu Oct  1 10:00:00 2026\nSubject: x\n\n").get("subject") == "x"


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r", b"\r\r\n"])
def test_every_line_end_reads_alike(line_end: bytes) -> None:
    mail = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: text/html\n\n<p>two\n--b--\n"
    letter = read_letter(mail.replace(b"\n", line_end))
    assert [part.text.strip() for part in letter.parts] == ["one", "two"]


@pytest.mark.parametrize(
    ("header", "body", "parts"),
    [
        ('boundary="b"', b"--b\n\none\n--b\n\ntwo\n--b--\n", 2),
        ("boundary=b", b"--b\n\none\n--b\n\ntwo", 2),
        ("boundary=b", b" --b\n\none\n --b \n\ntwo\n --b--", 2),
        ("boundary=declared", b"--other\n\none\n--other\n\ntwo\n--other--\n", 2),
        ("charset=x", b"--b\n\none\n--b\n\ntwo\n--b--\n", 2),
        ("boundary=b", b"nothing of the kind", 0),
        ("boundary=b", b"", 0),
    ],
)
def test_parts_are_found_where_the_boundary_is_not_as_it_should_be(header: str, body: bytes, parts: int) -> None:
    letter = read_letter(f"Content-Type: multipart/mixed; {header}\n\n".encode() + body)
    assert len(letter.parts) == parts
    assert letter.is_plain == (parts == 0)


def test_the_mail_inside_a_mail_is_read_but_not_entered() -> None:
    letter = read_letter(b"Content-Type: message/rfc822\n\nSubject: inner\nContent-Type: text/html\n\n<b>x")
    assert letter.parts[0].get("subject") == "inner"
    assert [part.type for part in letter.walk()] == ["message/rfc822"]


def test_depth_and_number_of_parts_are_bounded() -> None:
    deep = b"x"
    for level in range(500):
        deep = b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level) + deep
    wide = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 5_000
    assert len(list(read_letter(deep).walk())) < 20
    assert len(list(read_letter(wide).walk())) < 100


@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        ("utf-8", "größer".encode(), "größer"),
        ("iso-8859-1", "größer".encode("latin-1"), "größer"),
        ("", "größer".encode(), "größer"),
        ("no-such-thing", "größer".encode("cp1252"), "größer"),
        ("us-ascii", "配信".encode("iso-2022-jp"), "配信"),
        ("shift_jis", "配信".encode("shift_jis"), "配信"),
        ("unicode-1-1-utf-7", b"+AGE-b", "ab"),
        ("zlib_codec", b"x\x9c plain", "xœ plain"),
        ("utf-16", b"odd", "odd"),
    ],
)
def test_text_is_decoded_by_its_character_set_or_by_what_it_looks_like(charset: str, raw: bytes, text: str) -> None:
    assert read_letter(b"Content-Type: text/plain; charset=" + charset.encode() + b"\n\n" + raw).text == text


def test_what_has_no_width_is_not_read_and_text_is_bounded() -> None:
    assert read_letter(b"\n" + "u\u200bs\u00ade\u0000r\u00a0x".encode()).text == "us\u00ader x"
    assert len(read_letter(b"\n" + b"x" * (4 * MAX_TEXT)).text) == MAX_TEXT


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        ("=?utf-8?q?gr=C3=B6=C3=9Fer?=", "größer"),
        ("=?UTF-8?B?Z3LDtsOf?= =?utf-8?q?er?=", "größer"),
        ("a =?iso-8859-1?q?=FC_b?= c", "a ü b c"),
        ("=?utf-8?b?!!!?=", ""),
        ("=?nothing", "=?nothing"),
        ("plain", "plain"),
    ],
)
def test_encoded_words_are_decoded(value: str, decoded: str) -> None:
    assert decode_words(value) == decoded


def test_html_is_read_as_its_reader_sees_it() -> None:
    text = html_text(
        "<html><style>p{color:red}</style><p>Mailbox&nbsp;<b>full</b>:<br>&lt;ada@example.org&gt; <ada@x.y>"
    )
    assert [line.strip() for line in text.split("\n") if line.strip()] == [
        "Mailbox full:",
        "<ada@example.org> <ada@x.y>",
    ]
    assert html_text("&#" + "9" * 10_000 + ";").strip() == ""


def test_an_mbox_holds_several_mails_and_a_mail_one() -> None:
    one, two = b"Subject: 1\n\nFrom here on\n", b"Subject: 2\n\n"
    mbox = b"From a Thu Oct  1\n" + one + b"\nFrom b Thu Oct  1\n" + two
    assert [read_letter(mail).get("subject") for mail in split_mails(mbox)] == ["1", "2"]
    assert split_mails(one) == (one,)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=4_000))
def test_any_bytes_are_read(mail: bytes) -> None:
    for report in read(mail):
        assert report.verdict.kind


_LINES = st.sampled_from(
    [
        *(line for sample in SAMPLES for line in sample.mail.split(b"\n")),
        b"Content-Type: multipart/report; boundary=b",
        b"Content-Type: message/delivery-status",
        b"Content-Type: message/feedback-report",
        b"Content-Transfer-Encoding: base64",
        b"--b",
        b"--b--",
        b"Final-Recipient: rfc822; ada@example.org",
        b"Feedback-Type: abuse",
        b'{"notificationType": "Bounce", "bounce": {"bouncedRecipients": [{"emailAddress": "ada@example.org"}]}}',
        b"\xff\xfe\x00",
        b"",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_LINES, max_size=60), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_lines_of_bounces_in_any_order_are_read_alike_in_every_line_end(lines: list[bytes], line_end: bytes) -> None:
    assert read(line_end.join(lines)) == read(b"\n".join(lines))


FLOODS = (
    *(b"<", b"@", b"a@", b"a@b.cc ", b"<a@b.cc>: host\n", b"550 5.1.1 ", b"A: b\n", b" c\n", b"\n", b"\r", b'"', b"> "),
    *(b"\x00", b"\xff", b"=?utf-8?q?a?= ", b"<style", b"&#99999999;", b"--b\n\n", b"From x\n", b"{", b"[", b"\x1b$B"),
    b"-----\n",
)


@pytest.mark.parametrize("piece", FLOODS)
def test_a_mail_written_to_hurt_is_read(piece: bytes) -> None:
    flood = piece * (300_000 // len(piece))
    for head in (
        b"",
        b"From: mailer-daemon@x.example\nSubject: failed\n\n",
        b"Content-Type: text/html\n\n",
        b"Subject: ",
    ):
        read(head + flood)


def test_a_delimiter_that_is_no_utf_8_is_guessed_once() -> None:
    mail = b"Content-Type: multipart/mixed; boundary=lost\n\n--\xe4\xff\n\nhello\n--\xe4\xff--\n"
    (part,) = read_letter(mail).parts
    assert part.text.strip() == "hello"
