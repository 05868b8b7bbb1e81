"""Nothing that leaves can be read as two mails, or as another one than it is (SMTP smuggling, outbound)."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from depesche.streams.wire.smtp_encode import END, Envelope, UnsendableError, content, mail_command, rcpt_command

ALPHABET = st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"\r\n.", b"\r\n.\r\n", b"a", b"\0", b"\xff", b"QUIT"])
ANYTHING = st.lists(st.one_of(ALPHABET, st.binary(max_size=5)), max_size=30).map(b"".join)
WHOLE_LINES = st.lists(
    st.lists(st.sampled_from([b".", b"..", b"a", b" ", b"\0", b"\xff", b"MAIL FROM:<>"]), max_size=4).map(b"".join),
    max_size=12,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines) or b"\r\n")


def read_strictly(wire: bytes) -> tuple[bytes, bytes]:
    """What RFC 5321 says: only CRLF ends a line, only CRLF.CRLF ends the mail; one leading dot is taken off."""
    if wire.startswith(END):
        return b"", wire[len(END) :]
    end = wire.index(b"\r\n.\r\n")
    lines = wire[:end].split(b"\r\n")
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines), wire[end + 5 :]


def read_leniently(wire: bytes) -> tuple[bytes, bytes]:
    """What the most forgiving servers do: CR, LF and CRLF all end a line, and a lone dot between any two ends the mail."""
    taken: list[bytes] = []
    position = 0
    while True:
        match = re.compile(rb"([^\r\n]*)(\r\n|\r|\n)").match(wire, position)
        assert match is not None
        position = match.end()
        if match[1] == b".":
            return b"".join(taken), wire[position:]
        taken.append(match[1].removeprefix(b".") + match[2])


@given(WHOLE_LINES, st.integers(0, 40))
@example(b".\r\n", 0)
@example(b"..\r\n.\r\n", 1)
def test_a_strict_and_a_lenient_receiver_read_exactly_the_message(message: bytes, cut: int) -> None:
    after = b"RSET\r\n"
    wire = content([message[:cut], message[cut:]], leading_dots=False) + END + after
    assert read_strictly(wire) == (message, after)
    assert read_leniently(wire) == (message, after)


@given(ANYTHING, st.booleans())
@example(b"a\r\n.\rQUIT\r\n", True)
@example(b"a\n.\r\n", False)
@example(b"a\r\n.\n\r\n", False)
@example(b"a\r\r\n.\r\r\n", False)
@example(b"\n\r\n", False)
@example(b"a\r\n\r", False)
def test_arbitrary_bytes_are_refused_or_arrive_as_they_are(message: bytes, leading_dots: bool) -> None:
    try:
        wire = content([message], leading_dots=leading_dots) + END
    except UnsendableError:
        assert re.search(rb"\r(?!\n)|(?<!\r)\n", message) or not message.endswith(b"\r\n")
        return
    assert read_strictly(wire) == (message, b"")
    assert read_leniently(wire) == (message, b"")


def test_only_leading_dots_are_doubled() -> None:
    message = b"..\r\n.x\r\ny.\r\n.\r\n"
    assert content([message], leading_dots=True) == b"...\r\n..x\r\ny.\r\n..\r\n"


def test_a_message_without_leading_dots_is_not_copied() -> None:
    message = b"Subject: x\r\n\r\nHello\r\n"
    assert content([message], leading_dots=False) is message


ALL = frozenset({"SIZE", "8BITMIME", "SMTPUTF8"})


def test_parameters_are_given_only_where_offered_and_needed() -> None:
    plain = Envelope("a@example.org", "b@example.org", 1234)
    rich = Envelope("ä@example.org", "b@example.org", 5, eight_bit=True, smtputf8=True)
    assert mail_command(plain, ALL) == b"MAIL FROM:<a@example.org> SIZE=1234\r\n"
    assert mail_command(plain, frozenset()) == b"MAIL FROM:<a@example.org>\r\n"
    assert mail_command(rich, ALL) == "MAIL FROM:<ä@example.org> SIZE=5 BODY=8BITMIME SMTPUTF8\r\n".encode()
    assert mail_command(Envelope("", "b@example.org", 0), frozenset()) == b"MAIL FROM:<>\r\n"


def test_a_quoted_local_part_keeps_its_blanks_and_brackets() -> None:
    assert rcpt_command(Envelope("", '"a <b> c"@example.org', 0)) == b'RCPT TO:<"a <b> c"@example.org>\r\n'


@pytest.mark.parametrize(
    "address",
    [
        "a@b\r\nDATA",
        "a@b\nDATA",
        "a@b\0",
        "a@b> X=<c",
        "a b@c",
        '"a\r\n"@b',
        "a@b\u2028",
        '"a"> X=<c',
        '"a"@b> X=<c',
        '"a"b"@c',
        "x" * 1001,
    ],
)
def test_an_address_that_leaves_its_brackets_is_refused(address: str) -> None:
    with pytest.raises(UnsendableError):
        mail_command(Envelope(address, "b@example.org", 0), ALL)
    with pytest.raises(UnsendableError):
        rcpt_command(Envelope("", address, 0))


def test_nobody_is_no_recipient() -> None:
    with pytest.raises(UnsendableError):
        rcpt_command(Envelope("", "", 0))
