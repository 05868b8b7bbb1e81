"""What is composed is what was asked for, seen through an independent parser."""

from __future__ import annotations

import email
import email.header
import email.policy
import email.utils
import re
from datetime import UTC, datetime
from email.message import Message

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from depesche.api.compose import (
    Heading,
    compose,
    custom_lines,
    finished,
    priority_lines,
    reply_lines,
    unsubscribe_lines,
)
from depesche.api.mime_body import File, Text, build_body, charset_name, codec_of
from depesche.api.submission import Content
from depesche.schemas.errors import InvalidRequestError, TooLargeError
from depesche.schemas.values import Address, Mailbox

SENDER = Mailbox("Shop", Address.parse("news@shop.example"))
ADA = Mailbox("Ada Example", Address.parse("ada@example.org"))


def a_message(subject: str = "Hello", **changes: object) -> Content:
    body = build_body(Text("Hello\n"), None, ())
    values: dict[str, object] = {"sender": SENDER, "to": (ADA,), "cc": (), "reply_to": (), "more": ()} | changes
    return compose(Heading(subject=Text(subject), **values), body, finished(body))  # type: ignore[arg-type]


def whole(content: Content) -> bytes:
    return b"".join(content.parts)


def parsed(content: Content) -> Message:
    return email.message_from_bytes(whole(content), policy=email.policy.compat32)


def leaves(content: bytes) -> list[Message]:
    """The parts that hold something, in order."""
    return [part for part in email.message_from_bytes(content).walk() if not part.is_multipart()]


def shown(message: Message, name: str) -> str:
    return str(email.header.make_header(email.header.decode_header(message[name])))


def names_seen(content: Content) -> list[str]:
    """Names by a reader of our own, that knows nothing of folding but that a continuation begins with a blank."""
    header = whole(content).split(b"\r\n\r\n", 1)[0]
    return [line.split(b":", 1)[0].decode().lower() for line in header.split(b"\r\n") if line[:1] not in b" \t"]


def test_the_header_part_ends_with_the_empty_line_and_is_as_long_as_it_says() -> None:
    content = a_message()
    assert content.parts[0].endswith(b"\r\n\r\n")
    assert content.header_size == len(content.parts[0])


def test_every_message_has_exactly_one_of_each_basic_field() -> None:
    basic = ["from", "to", "subject", "date", "message-id", "mime-version", "content-type", "content-transfer-encoding"]
    assert names_seen(a_message()) == basic


def test_the_message_id_is_a_uuid_at_the_senders_domain_and_stands_in_the_header() -> None:
    content = a_message()
    assert content.message_id.endswith("@shop.example")
    assert parsed(content)["Message-ID"] == f"<{content.message_id}>"


def test_the_date_is_the_given_one() -> None:
    body = build_body(None, None, ())
    content = compose(Heading(SENDER, (ADA,), (), (), Text("x")), body, b"", datetime(2026, 1, 15, 8, 0, tzinfo=UTC))
    assert parsed(content)["Date"] == "Thu, 15 Jan 2026 08:00:00 +0000"


def test_two_blocks_share_the_very_same_body_object() -> None:
    body = build_body(Text("one body"), None, ())
    payload = finished(body)
    first, second = (compose(Heading(SENDER, (ADA,), (), (), Text(s)), body, payload) for s in ("a", "b"))
    assert first.parts[1] is second.parts[1]


def test_a_message_without_shown_recipients_names_a_group_without_members() -> None:
    assert parsed(a_message(to=()))["To"] == "undisclosed-recipients:;"


@pytest.mark.parametrize(
    "subject",
    [
        "plain",
        "Grüße aus München",
        "日本語の件名" * 30,
        "a" * 998,
        "word " * 180 + "end",
        "=?utf-8?q?looks_like_one?=",
        "two  blanks   and four    inside" * 5,
        "emoji 🎉 and NEL \x85 and BOM \ufeff",
        "= ? _ underscore",
    ],
)
def test_a_subject_arrives_as_it_was_written(subject: str) -> None:
    content = a_message(subject)
    assert shown(parsed(content), "Subject").replace("\r\n", "") == subject
    assert max(map(len, content.parts[0].split(b"\r\n"))) <= 998


def test_encoded_words_are_at_most_seventy_five_characters_and_lines_seventy_six() -> None:
    content = a_message("Ärger mit Übergrößen " * 20)
    for line in content.parts[0].split(b"\r\n"):
        assert len(line) <= 78
        assert all(len(word) <= 75 for word in line.split() if word.startswith(b"=?"))


@pytest.mark.parametrize(
    "name",
    [
        "Ada",
        "Ada Example",
        "Example, Ada",
        'Ada "the first" Lovelace',
        "back\\slash",
        "Jürgen Ä",
        "=?x?=",
        "a@b.example",
    ],
)
def test_a_display_name_arrives_as_it_was_written(name: str) -> None:
    content = a_message(to=(Mailbox(name, ADA.address), SENDER))
    (first, address), (second, _) = email.utils.getaddresses([parsed(content)["To"]])
    assert str(email.header.make_header(email.header.decode_header(first))) == name
    assert address == "ada@example.org"
    assert second == "Shop"


def test_an_encoded_display_name_is_read_and_not_encoded_twice() -> None:
    content = a_message(to=(Mailbox("=?UTF-8?Q?J=C3=BCrgen?=", ADA.address),))
    assert "Jürgen" in shown(parsed(content), "To")


def test_a_thousand_recipients_fold_into_short_lines() -> None:
    many = tuple(Mailbox("", Address.parse(f"recipient{n}@example.org")) for n in range(1000))
    content = a_message(to=many)
    assert max(map(len, content.parts[0].split(b"\r\n"))) <= 78
    assert len(email.utils.getaddresses([parsed(content)["To"]])) == 1000


def test_a_header_above_a_hundred_kilobytes_is_refused() -> None:
    with pytest.raises(TooLargeError):
        a_message(more=custom_lines({f"X-A{n}": "x " * 490 for n in range(110)}))


def test_an_address_beyond_ascii_stands_as_utf8_and_asks_for_smtputf8() -> None:
    heading = Heading(SENDER, (Mailbox("", Address.parse("jürgen@example.org")),), (), (), Text("x"))
    body = build_body(None, None, ())
    assert heading.needs_smtputf8
    assert "jürgen@example.org".encode() in compose(heading, body, b"").parts[0]


INJECTIONS = [
    "a\r\nBcc: evil@x.example",
    "a\nBcc: evil@x.example",
    "a\rBcc: evil@x.example",
    "a\x00b",
    "a\x0bb",
    "a\u2028Bcc: evil@x.example",
    "a\u2029b",
    "a\ud800b",
    "=?utf-8?q?a=0D=0ABcc:_evil@x.example?=",
    "=?utf-8?b?YQ0KQmNjOiBldmlsQHguZXhhbXBsZQ==?=",
    "=?us-ascii?q?=0A?= =?us-ascii?q?X:_1?=",
    "=?utf-8?q?=E2=80=A8?=",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_custom_header_with_an_open_or_hidden_line_end_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        custom_lines({"X-Order": text})


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_display_name_with_an_open_or_hidden_line_end_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        a_message(to=(Mailbox(text, ADA.address),))


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_file_name_with_an_open_or_hidden_line_end_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        build_body(None, None, (File(text, "application/pdf", b"x"),))


@pytest.mark.parametrize(
    "name", ["Bcc", "Subject", "X-A: 1\r\nBcc", "X-", "X-Ä", "x-retarus-m4a-x", "X-Depesche-Y", "", "X A", "X-A\n"]
)
def test_only_harmless_header_names_are_allowed(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        custom_lines({name: "value"})


def test_a_header_given_twice_in_different_case_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        custom_lines([("X-Run", "1"), ("x-run", "2")])


def test_a_header_given_by_priority_and_by_hand_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        a_message(more=(*priority_lines("HIGH"), *custom_lines({"x-priority": "5"})))


def test_priority_speaks_to_all_readers() -> None:
    message = parsed(a_message(more=priority_lines("LOW")))
    assert (message["X-Priority"], message["Importance"]) == ("5", "low")
    assert priority_lines("NORMAL") == priority_lines(None) == ()


@pytest.mark.parametrize("given_id", ["earlier@shop.example", "<earlier@shop.example>"])
def test_a_reply_names_its_forerunner(given_id: str) -> None:
    message = parsed(a_message(more=reply_lines(given_id)))
    assert message["In-Reply-To"] == message["References"] == "<earlier@shop.example>"


@pytest.mark.parametrize("given_id", ["a b@c", "a>\r\nBcc: x", "<a><b>", "ü@x", "x" * 901])
def test_a_reply_to_something_else_than_one_message_is_refused(given_id: str) -> None:
    with pytest.raises(InvalidRequestError):
        reply_lines(given_id)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("out@shop.example", "<mailto:out@shop.example>"),
        ("mailto:out@shop.example?subject=off", "<mailto:out@shop.example?subject=off>"),
        ("https://shop.example/u?x=1&y=?z", "<https://shop.example/u?x=1&y=?z>"),
        ("<https://shop.example/u>, out@shop.example", "<https://shop.example/u>, <mailto:out@shop.example>"),
    ],
)
def test_list_unsubscribe_takes_addresses_and_https(target: str, line: str) -> None:
    assert parsed(a_message(more=unsubscribe_lines(target)))["List-Unsubscribe"].replace("\r\n", "") == line


def test_list_unsubscribe_is_lenient_with_the_empty_string() -> None:
    assert unsubscribe_lines("") == unsubscribe_lines(None) == ()


@pytest.mark.parametrize(
    "target",
    [
        "http://shop.example/u",
        "ftp://x.example",
        "https://",
        "no address",
        "https://x.example/a b",
        "https://x/\r\nBcc: a",
        "https://[x",
    ],
)
def test_list_unsubscribe_refuses_everything_else(target: str) -> None:
    with pytest.raises(InvalidRequestError):
        unsubscribe_lines(target)


def test_text_html_pictures_and_files_nest_as_readers_expect() -> None:
    body = build_body(
        Text("plain"),
        Text('<img src="cid:logo1">'),
        (File("logo.png", "image/png", b"\x89PNG", "logo1"), File("label.pdf", "application/pdf", b"%PDF")),
    )
    content = compose(Heading(SENDER, (ADA,), (), (), Text("x")), body, finished(body))
    kinds = [part.get_content_type() for part in parsed(content).walk()]
    assert kinds == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/pdf",
    ]
    picture, label = [part for part in parsed(content).walk() if part.get_filename()]
    assert (picture["Content-ID"], picture.get_content_disposition()) == ("<logo1>", "inline")
    assert (label.get_filename(), label.get_content_disposition()) == ("label.pdf", "attachment")
    assert label.get_payload(decode=True) == b"%PDF"


@pytest.mark.parametrize(
    "name", ["Rechnung für Ünsal.pdf", "請求書" * 25 + ".pdf", "a'b\"c.pdf", "x" * 250 + ".txt", "100%.pdf", "a;b.pdf"]
)
def test_a_file_name_survives_in_both_forms(name: str) -> None:
    body = build_body(None, None, (File(name, "application/pdf", b"x"),))
    content = compose(Heading(SENDER, (ADA,), (), (), Text("x")), body, finished(body))
    part = leaves(whole(content))[1]
    assert part.get_filename() == name
    old = str(part.get_param("name"))
    assert str(email.header.make_header(email.header.decode_header(old))).replace("\r\n", "") == name


def test_a_path_in_a_file_name_is_cut_to_its_last_part() -> None:
    _, part = leaves(as_message((File("../../etc/pass.txt", "text/plain", b"x"),)))
    assert part.get_filename() == "pass.txt"


def as_message(files: tuple[File, ...]) -> bytes:
    body = build_body(None, None, files)
    return whole(compose(Heading(SENDER, (ADA,), (), (), Text("x")), body, finished(body)))


@pytest.mark.parametrize(
    "kind", ["", "pdf", "multipart/mixed", "text/plain; x", 'a/b; c="\r\n"', "a/b\r\nX: y", 'text/plain;charset="a"b']
)
def test_a_content_type_that_is_none_is_refused(kind: str) -> None:
    with pytest.raises(InvalidRequestError):
        build_body(None, None, (File("x", kind, b""),))


def test_an_attached_message_is_sent_as_a_file_of_bytes() -> None:
    assert b"Content-Type: application/octet-stream;" in as_message((File("x.eml", "message/rfc822", b"From: a"),))


def test_a_calendar_keeps_its_method() -> None:
    text = as_message((File("i.ics", "text/calendar; method=REQUEST; charset=utf-8", b"BEGIN"),))
    assert leaves(text)[1].get_param("method") == "REQUEST"


def text_of(text: Text) -> tuple[str, str, str]:
    body = build_body(text, None, ())
    message = parsed(compose(Heading(SENDER, (ADA,), (), (), Text("x")), body, finished(body)))
    charset = message.get_content_charset() or ""
    content = message.get_payload(decode=True)
    assert isinstance(content, bytes)
    return message["Content-Transfer-Encoding"], charset, content.decode(charset)


def test_plain_ascii_stays_readable() -> None:
    assert text_of(Text("one\ntwo\rthree\r\n")) == ("7bit", "utf-8", "one\r\ntwo\r\nthree\r\n")


def test_a_few_umlauts_are_quoted_and_many_are_base64() -> None:
    assert text_of(Text("Grüße, wie geht es?"))[0] == "quoted-printable"
    assert text_of(Text("日本語" * 10))[0] == "base64"


def test_a_wanted_base64_is_done() -> None:
    assert text_of(Text("hello", base64=True)) == ("base64", "utf-8", "hello\r\n")


def test_a_line_above_998_octets_is_wrapped_without_changing_the_text() -> None:
    encoding, _, content = text_of(Text("<p>" + "x" * 5000))
    assert (encoding, content) == ("quoted-printable", "<p>" + "x" * 5000 + "\r\n")


@pytest.mark.parametrize(
    ("charset", "sent"),
    [("iso-8859-1", "iso-8859-1"), ("windows-1252", "windows-1252"), ("utf-16", "utf-8"), ("us-ascii", "utf-8")],
)
def test_the_wanted_charset_is_kept_where_it_can_hold_the_text(charset: str, sent: str) -> None:
    assert text_of(Text("Grüße", charset))[1:] == (sent, "Grüße\r\n")


@pytest.mark.parametrize("name", ["rot13", "hex", "zlib", "idna", "unicode_escape", "utf-7", "nonsense", ""])
def test_codecs_that_are_no_charsets_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        charset_name(name)


@pytest.mark.parametrize("name", ["UTF-8", "ISO-8859-1", "US-ASCII", "UTF-16LE", "utf8", "Windows-1252", "Shift_JIS"])
def test_the_usual_java_names_of_charsets_are_known(name: str) -> None:
    assert codec_of(charset_name(name)).name


words = st.text(max_size=120) | st.sampled_from(INJECTIONS) | st.text(alphabet="=?utf-8qQbB_0DA\r\n: ", max_size=60)


@settings(max_examples=150, deadline=None)
@given(subject=words, name=words, header=words, file_name=words, header_name=st.text(max_size=20) | st.just("X-Ok"))
@example(subject="=?utf-8?q?a=0D=0ABcc:_x?=", name="", header="", file_name="f", header_name="X-Ok")
def test_whatever_is_given_the_names_seen_are_the_names_intended(
    subject: str, name: str, header: str, file_name: str, header_name: str
) -> None:
    try:
        body = build_body(None, Text("<p>x"), (File(file_name, "a/b", b"x"),))
        more = custom_lines({header_name: header})
        heading = Heading(Mailbox(name, SENDER.address), (Mailbox(name, ADA.address),), (), (), Text(subject), more)
        content = compose(heading, body, finished(body))
    except InvalidRequestError:
        return
    intended = ["from", "to", "subject", "date", "message-id", header_name.lower(), "mime-version", "content-type"]
    assert names_seen(content) == intended
    assert [key.lower() for key in parsed(content)] == intended
    modern = email.message_from_bytes(whole(content), policy=email.policy.SMTP)
    assert [key.lower() for key in modern] == intended
    parts = leaves(whole(content))
    assert len(parts) == 2
    assert sorted(key.lower() for key, _ in parts[1].items()) == [
        "content-disposition",
        "content-transfer-encoding",
        "content-type",
    ]
    for line in whole(content).split(b"\r\n"):
        assert len(line) <= 998
        assert not set(line) & set(b"\r\n\0\x0b\x0c\x1b")


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=400))
def test_any_text_arrives_as_it_was_written_but_for_its_line_ends(text: str) -> None:
    wanted = "\r\n".join(re.split(r"\r\n|\r|\n", text))
    _, _, content = text_of(Text(text))
    assert content in (wanted, wanted + "\r\n")


@settings(max_examples=60, deadline=None)
@given(octets=st.binary(max_size=300))
def test_any_attachment_arrives_octet_by_octet(octets: bytes) -> None:
    part = leaves(as_message((File("x.bin", "application/octet-stream", octets),)))[1]
    assert part.get_payload(decode=True) == octets


def test_a_lone_surrogate_in_the_text_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        build_body(Text("a\ud800"), None, ())
