"""A submitted message: what is refused, what is read from its header, and what leaves the house."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.api.smtp import content
from depesche.api.smtp import fields as headers
from depesche.api.smtp.commands import SMTPRefusal, mail_parameters, path_command
from depesche.api.smtp.content import received
from depesche.api.smtp.controls import controls
from depesche.api.smtp.guard import LONGEST_DELAY_SECONDS, ConnectionLimit, LoginDelay, network_of, source_of
from depesche.api.smtp.login import decoded, plain_credentials
from depesche.api.smtp.replies import enhanced
from depesche.schemas.errors import ForbiddenSenderError, InvalidRequestError, NotAvailableError

FROM = b"From: Shop <orders@shop.example>\r\n"


def parsed(*lines: bytes, utf8: bool = False) -> list[headers.Field]:
    return headers.parse(b"".join(line + b"\r\n" for line in lines) + b"\r\n", utf8=utf8)


# The content.


@given(st.lists(st.sampled_from([b"", b".", b"..", b".x", b"a.", b"abc", b". "])), st.integers(0, 40))
def test_dot_stuffing_is_undone_once_in_header_and_body(lines: list[bytes], cut: int) -> None:
    stuffed = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines)
    plain = b"".join(line + b"\r\n" for line in lines)
    pieces = [stuffed[:cut], stuffed[cut:]] if 0 < cut < len(stuffed) else [stuffed] if stuffed else []
    found = received(pieces)
    whole = found.header + found.body
    assert whole == plain or whole == plain + b"\r\n", "only a missing empty line may be added"
    assert found.header == b"\r\n" or found.header.endswith(b"\r\n\r\n") or not plain


@pytest.mark.parametrize("bad", [b"\n", b"\r", b"\0", b"\r\r\n", b"\n\r", b"\r\n\n", b"x" * 999 + b"\r\n"])
@pytest.mark.parametrize("where", [b"A: b%s\r\n\r\nbody\r\n", b"A: b\r\n\r\nbody%sx\r\n", b"%s\r\n\r\nbody\r\n"])
def test_a_bare_cr_a_bare_lf_a_nul_and_an_endless_line_are_refused(bad: bytes, where: bytes) -> None:
    if bad == b"\r\r\n":
        where = where.replace(b"x\r\n", b"\r\n")
    with pytest.raises(InvalidRequestError) as caught:
        received([where.replace(b"%s", bad)])
    assert (caught.value.reply, caught.value.enhanced) == (550, "5.6.0")


LINES = st.sampled_from([b"\r\n", b"x\r\n", b".x\r\n", b"." * 3, b"x" * 997, b"x" * 500, b"\r", b"\n", b"\0", b"\n\r"])


def judged(inspect: Any, part: bytes) -> bool | str:
    try:
        return bool(inspect(part))
    except InvalidRequestError as fault:
        return fault.public


@given(st.lists(LINES, max_size=30))
def test_large_and_small_parts_are_judged_alike(pieces: list[bytes]) -> None:
    part = b"".join(pieces) + b"\r\n"
    small, large = judged(content._inspect, part), judged(content._inspect_large, part)
    assert small == large or {type(small), type(large)} == {str}, "of several faults either may be named"


@given(st.lists(st.sampled_from([b"", b".", b".x", b"x" * 998, b"." + b"x" * 997]), min_size=1, max_size=40))
def test_lawful_lines_pass_in_large_and_small_parts(lines: list[bytes]) -> None:
    stuffed = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines)
    dotted = any(line.startswith(b".") for line in lines[1:])
    assert content._inspect(stuffed) is content._inspect_large(stuffed) is dotted


def test_a_line_of_998_characters_passes_also_when_its_dot_was_stuffed() -> None:
    line = b"." + b"x" * 997
    assert received([b"A: b\r\n\r\n." + line + b"\r\n"]).body == line + b"\r\n"


def test_a_header_larger_than_64_kb_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="header size"):
        received([b"".join(b"X-%d: %s\r\n" % (n, b"x" * 900) for n in range(80)) + b"\r\nbody\r\n"])
    with pytest.raises(InvalidRequestError, match="header size"):
        received([b"X: y\r\n" * 20_000])


# The header.


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("orders@shop.example", "orders@shop.example"),
        ("Shop <orders@shop.example>", "orders@shop.example"),
        ('"Shop, the <best>" <orders@shop.example>', "orders@shop.example"),
        ("=?utf-8?q?B=C3=BCcher?= <orders@SHOP.example>", "orders@shop.example"),
        ("orders@shop.example (Shop)", "orders@shop.example"),
        ('<"odd name"@shop.example>', '"odd name"@shop.example'),
        ("Shop\r\n <orders@shop.example>", "orders@shop.example"),
        ("Bücher <orders@bücher.example>", "orders@xn--bcher-kva.example"),
    ],
)
def test_the_one_address_in_from_is_found(value: str, address: str) -> None:
    assert str(headers.from_address(parsed(b"From: " + value.encode(), utf8=True))) == address


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Shop",
        "a@shop.example, b@shop.example",
        "a@evil.example, Shop <orders@shop.example>",
        "<a@evil.example> <orders@shop.example>",
        "a@evil.example <orders@shop.example>",
        "Shop <orders@shop.example> <b@evil.example>",
        "Shop <orders@shop.example>, b@evil.example",
        "Team: orders@shop.example;",
        "orders@shop.example@evil.example",
        "@evil.example:orders@shop.example",
        "<orders@shop.example",
        "orders@[127.0.0.1]",
        "(orders@shop.example) b",
        '"<orders@shop.example>"',
        "orders@shop .example",
        "Shop <orders@localhost>",
    ],
)
def test_a_from_in_which_two_readers_could_see_two_senders_is_refused(value: str) -> None:
    with pytest.raises(ForbiddenSenderError):
        headers.from_address(parsed(b"From: " + value.encode()))


def test_two_from_fields_and_none_are_refused_as_not_registered() -> None:
    with pytest.raises(ForbiddenSenderError):
        parsed(b"From: a@shop.example", b"from: b@evil.example")
    with pytest.raises(ForbiddenSenderError):
        headers.from_address(parsed(b"To: a@b.example"))


@pytest.mark.parametrize(
    "lines",
    [
        [b"From : a@b.example"],
        [b" From: a@b.example"],
        [b"From a@b.example Mon"],
        [b"Subject: a", b"SUBJECT: b"],
        [b"From: a@b.example", b"   "],
        [b"no field"],
        [b": x"],
        [b"Subject: \xfc"],
        [b"Fr\xc3\xb6m: x"],
        [b"X: y"] * 1001,
    ],
)
def test_a_header_that_two_readers_could_read_differently_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(InvalidRequestError):
        parsed(*lines, utf8=True)


def test_eight_bit_in_the_header_needs_smtputf8() -> None:
    with pytest.raises(InvalidRequestError, match="8-bit"):
        parsed("Subject: Grüße".encode())
    assert parsed("Subject: Grüße".encode(), utf8=True)[0].value == "Grüße"


def test_folded_fields_are_one_field() -> None:
    (field,) = parsed(b"Subject: a", b" b", b"\tc")
    assert (field.name, field.value, field.raw) == ("subject", "a b\tc", b"Subject: a\r\n b\r\n\tc\r\n")


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?utf-8?q?a=0D=0ABcc:_evil@x?=", "a Bcc: evil@x"),
        ("=?unknown-charset?q?a?=", "=?unknown-charset?q?a?="),
    ],
)
def test_a_subject_is_shown_decoded_and_without_control_characters(value: str, seen: str) -> None:
    assert headers.readable(value) == seen


def test_the_from_pattern_cannot_be_made_to_search_long() -> None:
    for hostile in ('"' * 5000, "a " * 5000, "(" * 5000, "<" * 5000, '"\\' * 5000, "a@" * 5000, '""' * 5000 + "<"):
        assert headers._FROM.match(hostile) is None


# The control headers.


def asked(*lines: str) -> Any:
    return controls(parsed(FROM[:-2], *(line.encode() for line in lines), utf8=True))


def test_control_headers_are_read_whatever_their_case() -> None:
    found = asked(
        "X-RETARUS-M4A-REFERENCE: order 17",
        "x-retarus-m4a-campaign-id: =?utf-8?q?Fr=C3=BChling?=",
        "X-Retarus-M4A-Cost-Center: 4711",
        "X-RETARUS-M4A-ANTIVIRUS-ACTIVE: false",
        "X-RETARUS-M4A-TRACE-RECOVER-ACTIVE: FALSE",
        "X-Idempotency-Key: k-1",
    )
    assert (found.reference, found.campaign_id, found.cost_center) == ("order 17", "Frühling", "4711")
    assert (found.notification, found.idempotency_key) == (None, "k-1")


def test_push_details_are_taken_when_they_are_complete() -> None:
    found = asked(
        "X-RETARUS-M4A-NOTIFICATION-URL: https://hook.example/in",
        "X-RETARUS-M4A-NOTIFICATION-HEADER: X-A=1=2",
        "X-RETARUS-M4A-NOTIFICATION-HEADER: X-B=",
        "X-RETARUS-M4A-NOTIFICATION-AUTH-METHOD: BASIC",
        "X-RETARUS-M4A-NOTIFICATION-AUTH-USER: u",
        "X-RETARUS-M4A-NOTIFICATION-AUTH-PASSWORD: p",
    ).notification
    assert (found.url, dict(found.headers)) == ("https://hook.example/in", {"X-A": "1=2", "X-B": ""})
    assert (found.user, found.password) == ("u", "p")


URL = "X-RETARUS-M4A-NOTIFICATION-URL: https://hook.example/"
HEADER = "X-RETARUS-M4A-NOTIFICATION-HEADER: "
AUTH = "X-RETARUS-M4A-NOTIFICATION-AUTH-"


@pytest.mark.parametrize(
    "lines",
    [
        ["X-RETARUS-M4A-REFERENCE: " + "x" * 51],
        ["X-RETARUS-M4A-REFERENCE:"],
        ["X-RETARUS-M4A-REFERENCE: a", "X-RETARUS-M4A-REFERENCE: b"],
        ["X-RETARUS-M4A-ANTIVIRUS-ACTIVE: yes"],
        ["X-RETARUS-M4A-TRACE-RECOVER-ACTIVE: 1"],
        [HEADER + "a=b"],
        [AUTH + "USER: u"],
        [URL + "x" * 1000],
        ["X-RETARUS-M4A-NOTIFICATION-URL: ftp://hook.example/"],
        ["X-RETARUS-M4A-NOTIFICATION-URL: https:///x"],
        ["X-RETARUS-M4A-NOTIFICATION-URL: https://hook.example:99999/"],
        [URL, HEADER + "no equals sign"],
        [URL, HEADER + "a=1", HEADER + "A=2"],
        [URL, HEADER + "a=" + "x" * 600, HEADER + "b=" + "x" * 600],
        [URL, HEADER + "a b=1"],
        [URL, AUTH + "METHOD: DIGEST", AUTH + "USER: u", AUTH + "PASSWORD: p"],
        [URL, AUTH + "METHOD: BASIC", AUTH + "USER: u"],
        [URL, AUTH + "USER: u", AUTH + "PASSWORD: p"],
        ["X-Idempotency-Key: " + "k" * 256],
        ["X-Idempotency-Key: a", "X-Idempotency-Key: b"],
    ],
)
def test_malformed_or_incomplete_control_headers_are_refused(lines: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        asked(*lines)
    assert caught.value.public.startswith("X-")


@pytest.mark.parametrize("name", ["TRACE-RECOVER-ACTIVE", "MESSAGE-SIGNING-ACTIVE", "SOMETHING-NEW"])
def test_a_feature_that_does_not_exist_yet_is_never_silently_ignored(name: str) -> None:
    with pytest.raises(NotAvailableError) as caught:
        asked(f"X-RETARUS-M4A-{name}: true")
    assert (caught.value.reply, caught.value.enhanced) == (554, "5.3.3")


# Commands, logins, limits.


@pytest.mark.parametrize(
    ("argument", "path", "parameters"),
    [
        ("FROM:<a@b.example>", "a@b.example", {}),
        ("from: <a@b.example> SIZE=10 body=8BITMIME", "a@b.example", {"SIZE": "10", "BODY": "8BITMIME"}),
        ('FROM:<"a b>c"@d.example>', '"a b>c"@d.example', {}),
        ("FROM:<>", "", {}),
    ],
)
def test_paths_and_parameters_are_found(argument: str, path: str, parameters: dict[str, str]) -> None:
    found = path_command(argument, "FROM")
    assert (found.path, dict(found.parameters)) == (path, parameters)


@pytest.mark.parametrize(
    "argument",
    [None, "", "FROM", "FROM:", "FROM:a@b.example", "TO:<a@b.example>", "FROM:<a@b.example", "FROM:<a@b.example>x",
     "FROM:<a b@c.example>", "FROM:<<a@b.example>>", "FROM:<a@b.example> SIZE=1 SIZE=2", "FROM:<a@b.example> =1",
     "FROM:<a@b.example> A==", "FROM  :<a@b.example>"],
)  # fmt: skip
def test_anything_else_is_a_syntax_error(argument: str | None) -> None:
    with pytest.raises(SMTPRefusal) as caught:
        path_command(argument, "FROM")
    assert (caught.value.code, caught.value.enhanced) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("SIZE", "101", 552), ("SIZE", "", 501), ("SIZE", "-1", 501), ("SIZE", "1e3", 501), ("SIZE", "9" * 5000, 501),
     ("BODY", "BINARYMIME", 501), ("SMTPUTF8", "1", 501), ("AUTH", "", 501), ("AUTH", "a+zz", 501),
     ("RET", "FULL", 555), ("NOTIFY", "NEVER", 555)],
)  # fmt: skip
def test_parameters_that_are_not_ours_or_too_large_are_refused(name: str, value: str, code: int) -> None:
    with pytest.raises(SMTPRefusal) as caught:
        mail_parameters({name: value}, 100)
    assert caught.value.code == code


def test_our_parameters_are_taken() -> None:
    found = mail_parameters({"SIZE": "100", "BODY": "8bitmime", "SMTPUTF8": "", "AUTH": "a+2Bb@c.example"}, 100)
    assert (found.size, found.smtputf8) == (100, True)


@pytest.mark.parametrize(
    ("reply", "with_code"),
    [
        ("250 OK", "250 2.0.0 OK"),
        ("501 Syntax: RSET", "501 5.5.4 Syntax: RSET"),
        ("502 EXPN not implemented", "502 5.5.1 EXPN not implemented"),
        ("550 5.7.1 No", "550 5.7.1 No"),
        ("451 5.7.1 No", "451 4.3.0 5.7.1 No"),
        ("250-PIPELINING", "250-PIPELINING"),
        ("354 Go", "354 Go"),
        ("220 host ESMTP", "220 host ESMTP"),
    ],
)
def test_every_reply_gets_an_enhanced_code_of_its_class(reply: str, with_code: str) -> None:
    assert enhanced(reply) == with_code


def test_logins_are_decoded_strictly() -> None:
    assert decoded("=") == ""
    assert decoded("YQ==") == "a"
    assert plain_credentials("\0user\0secret") == plain_credentials("user\0user\0secret") == ("user", "secret")
    for text in ("*", "a", "YQ=", "YQ==\n", "/w=="):
        with pytest.raises(SMTPRefusal):
            decoded(text)
    for response in ("", "user\0secret", "other\0user\0secret", "a\0b\0c\0d"):
        with pytest.raises(SMTPRefusal):
            plain_credentials(response)


def test_connections_are_counted_in_all_and_per_source() -> None:
    limit = ConnectionLimit(3, 2)
    assert [limit.enter(source) for source in ("a", "a", "a", "b", "c")] == [True, True, False, True, False]
    limit.leave("a")
    assert limit.enter("c")


def test_each_wrong_password_from_one_network_waits_longer_and_nobody_elses_does() -> None:
    delay = LoginDelay()
    waits = [delay.after_failure(f"192.0.2.{n}", n) for n in range(20)]
    assert waits == sorted(waits)
    assert waits[1] == 2 * waits[0]
    assert waits[-1] == LONGEST_DELAY_SECONDS
    assert delay.after_failure("198.51.100.1", 20) == waits[0]
    assert delay.after_failure("192.0.2.1", 10_000) == waits[0], "forgotten after a while"


def test_a_source_is_the_address_and_its_network_what_one_subscriber_has() -> None:
    assert source_of(("::ffff:192.0.2.7", 25, 0, 0)) == "192.0.2.7"
    assert source_of(("fe80::1%eth0", 25, 0, 0)) == "fe80::1"
    assert source_of("") == source_of(None) == ""
    assert network_of("192.0.2.7") == "192.0.2.0/24"
    assert network_of("2001:db8:1:2::3") == "2001:db8:1::/48"


def test_it_is_known_that_no_line_begins_with_a_dot() -> None:
    assert received([b"A: b\r\n\r\nbody\r\n"]).leading_dots is False
    for stuffed in (b"A: b\r\n\r\n..\r\n", b"A: b\r\n\r\nx\r\n..\r\n", b"..: b\r\n\r\n\r\n", b"A: b\r\n\r\n.x\r\n"):
        assert received([stuffed]).leading_dots is None
