"""Mail of systems that the reader has no rules for: languages, layouts, line ends, mail that was cut or changed on its way."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from depesche.schemas.reply_classes import Kind
from depesche.streams.mail.bounce import read
from depesche.streams.mail.classify import Classified, classify
from depesche.streams.mail.returns.replies import read_reply
from depesche.streams.mail.returns.report import Report

from .foreign import FOREIGN, LIVING, REPLIES, WORDS, Foreign

each_system = pytest.mark.parametrize("foreign", FOREIGN, ids=[one.system for one in FOREIGN])
DECIDED = tuple(one for one in FOREIGN if one.expected)


def kinds(reports: tuple[Report, ...]) -> dict[str, str]:
    return {one.recipient.lower(): str(one.verdict.kind) for one in reports}


def suppressed(mail: bytes) -> set[str]:
    return {one.recipient.lower() for one in read(mail) if one.verdict.suppress}


@each_system
def test_a_mail_is_read_right_and_nobody_is_suppressed_who_is_not_dead(foreign: Foreign) -> None:
    reports = read(foreign.mail)
    if foreign.expected is not None:
        assert kinds(reports) == dict(foreign.expected)
    dead = {address for address, kind in foreign.expected or () if kind == Kind.HARD}
    assert suppressed(foreign.mail) <= dead


@each_system
def test_line_ends_and_a_missing_last_one_make_no_difference(foreign: Foreign) -> None:
    lines = foreign.mail.split(b"\n")
    mixed = b"".join(line + (b"\r\n" if number % 3 else b"\n") for number, line in enumerate(lines))
    forms = [foreign.mail.replace(b"\n", line_end) for line_end in (b"\r\n", b"\r", b"\r\r\n")]
    forms += [mixed, foreign.mail.rstrip(b"\n"), foreign.mail + b"\n\n"]
    expected = read(foreign.mail)
    assert all(read(form) == expected for form in forms)


@given(st.sampled_from(FOREIGN), st.floats(0, 1))
@example(next(one for one in FOREIGN if one.system == "quota-with-5.1.1"), 0.93)
@example(next(one for one in FOREIGN if one.system == "policy-with-5.1.1"), 0.85)
@example(next(one for one in FOREIGN if one.system == "ses-sns-json"), 0.999)
@example(next(one for one in FOREIGN if one.system == "dns-server-failure"), 0.99)
def test_a_mail_that_was_cut_suppresses_nobody_whom_the_whole_would_not(foreign: Foreign, part: float) -> None:
    assert suppressed(foreign.mail[: int(part * len(foreign.mail))]) <= suppressed(foreign.mail)


@given(
    st.sampled_from(DECIDED), st.sampled_from([b"nordpost.example", b"mail-7.a-b.example", b"xn--bcher-kva.example"])
)
def test_the_name_of_the_domain_decides_nothing(foreign: Foreign, domain: bytes) -> None:
    assert foreign.expected is not None
    names = {b"example.org": domain, b"EXAMPLE.ORG": domain.upper(), b"mail.example.net": b"host." + domain}
    mail = foreign.mail
    for name, other in names.items():
        mail = mail.replace(name, other)
    wanted = {address.replace("example.org", domain.decode()): kind for address, kind in foreign.expected}
    if b"base64" not in foreign.mail:
        assert kinds(read(mail)) == wanted


@given(st.sampled_from(DECIDED))
def test_the_name_of_the_product_and_of_unknown_headers_decides_nothing(foreign: Foreign) -> None:
    assert foreign.expected is not None
    mail = (
        b"X-Mailer: Nordpost 4\nX-Nordpost-Scan: done\nReceived: from a by b; Thu, 1 Oct 2026 10:00:00 +0200\n"
        + foreign.mail
    )
    for product in (
        b"hMailServer",
        b"MailEnable",
        b"FortiMail",
        b"MDaemon",
        b"qmail-send",
        b"Haraka",
        b"Postfix",
        b"SendGrid",
    ):
        mail = mail.replace(product, b"Nordpost")
    assert kinds(read(mail)) == dict(foreign.expected)


PLAIN = tuple(one for one in DECIDED if b"\nContent-" not in one.mail and b"\n>" not in one.mail)


def of(foreign: Foreign, change: Callable[[bytes], bytes]) -> bytes:
    """The mail with another body."""
    head, _, body = foreign.mail.partition(b"\n\n")
    return head + b"\n\n" + change(body)


@pytest.mark.parametrize("foreign", PLAIN, ids=[one.system for one in PLAIN])
def test_as_html_indented_or_quoted_it_means_the_same(foreign: Foreign) -> None:
    assert foreign.expected is not None
    wanted = dict(foreign.expected)
    markup = of(
        foreign, lambda body: b"<div>" + html.escape(body.decode()).replace("\n", "<br>\n").encode() + b"</div>"
    )
    assert kinds(read(b"Content-Type: text/html; charset=utf-8\n" + markup)) == wanted
    assert kinds(read(of(foreign, lambda body: body.replace(b"\n", b"\n   ")))) == wanted
    assert kinds(read(of(foreign, lambda body: b"".join(b"> " + line + b"\n" for line in body.split(b"\n"))))) == wanted


@pytest.mark.parametrize(("kind", "words"), WORDS, ids=[words for _, words in WORDS])
def test_words_mean_the_same_in_every_language(kind: str, words: str) -> None:
    found = classify(550, "", words)
    assert found.kind == kind
    assert not found.suppress or kind == Kind.HARD


@pytest.mark.parametrize(("kind", "words"), [one for one in WORDS if not one[1].isascii()])
def test_accents_lost_on_the_way_change_nothing(kind: str, words: str) -> None:
    bare = "".join(char for char in unicodedata.normalize("NFD", words) if not 0x300 <= ord(char) < 0x370)
    assert classify(550, "", unicodedata.normalize("NFC", bare)).kind == kind


def meant(words: str) -> Classified:
    reply = read_reply(words)
    return classify(reply.code, reply.enhanced, reply.text, "", reply.phase)


@pytest.mark.parametrize(("kind", "words"), REPLIES, ids=[words for _, words in REPLIES])
def test_a_reply_is_of_the_kind_that_its_words_say(kind: str, words: str) -> None:
    assert meant(words).kind == kind


@pytest.mark.parametrize("words", LIVING)
def test_what_is_unknown_but_is_not_the_recipient_suppresses_nobody(words: str) -> None:
    assert not meant(words).suppress
