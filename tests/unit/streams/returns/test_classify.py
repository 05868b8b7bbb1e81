"""From the words of a mail host to a class: by replies in the manner of many hosts, and by what must never happen."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.schemas.errors import SetupError
from depesche.schemas.reply_classes import CLASS_MEANING, HARD_CLASSES, Kind, ReplyClass
from depesche.streams.mail.classify import MAX_WORDS, Basis, ReplyRules, classify, default_rules, plain_words
from depesche.streams.mail.returns.replies import read_reply

REPLIES = tomllib.loads(Path(__file__).with_name("replies.toml").read_text(encoding="utf-8"))
MINIMAL = {"version": 1, "rule": [], "enhanced": {}, "code": {}, "phase": {}, "provider": {}}


@pytest.mark.parametrize(("expected", "words"), [(name, words) for name, all_ in REPLIES.items() for words in all_])
def test_a_reply_is_put_into_its_class(expected: str, words: str) -> None:
    reply = read_reply(words)
    assert default_rules().classify(reply.code, reply.enhanced, words, "", reply.phase).reply_class == expected


def test_every_class_of_a_reply_has_an_example() -> None:
    of_reports = {"complaint", "unsubscribed", "not_spam", "auth_report", "auto_reply", "delivered"}
    assert set(REPLIES) == {str(name) for name in ReplyClass} - of_reports


def test_every_class_says_what_it_means_in_both_languages() -> None:
    assert set(CLASS_MEANING) == set(ReplyClass)
    for meaning in CLASS_MEANING.values():
        assert meaning.english.endswith(".")
        assert meaning.german.endswith(".")


def test_only_a_dead_address_is_hard() -> None:
    assert {ReplyClass.RECIPIENT_UNKNOWN, ReplyClass.DOMAIN_UNKNOWN, ReplyClass.RECIPIENT_MOVED} == HARD_CLASSES


@pytest.mark.parametrize("code", range(500, 600))
def test_a_5xx_alone_never_suppresses(code: int) -> None:
    for phase in ("", "connect", "banner", "ehlo", "mail", "rcpt", "data", "dot"):
        assert not classify(code, "", "", "", phase).suppress
        assert not classify(code, "5.0.0", "no", "", phase).suppress


def test_a_temporary_refusal_does_not_suppress_even_if_the_user_is_unknown() -> None:
    found = classify(450, "4.1.1", "450 4.1.1 <ada@example.org>: User unknown")
    assert (found.kind, found.suppress) == (Kind.HARD, False)


def test_a_permanent_one_does() -> None:
    assert classify(550, "5.1.1", "550 5.1.1 User unknown").suppress
    assert classify(550, "5.1.1", "").suppress


@pytest.mark.parametrize("phase", ["banner", "ehlo", "starttls", "mail"])
def test_before_the_recipient_was_named_no_words_are_about_the_recipient(phase: str) -> None:
    for words in ("550 user unknown", "550 no such domain", "550 mailbox does not exist", "551 not our customer"):
        assert classify(550, "", words, "", phase).kind is not Kind.HARD


def test_words_count_before_codes() -> None:
    found = classify(550, "5.1.1", "550 5.1.1 blocked using zen.example")
    assert (found.reply_class, found.basis) == (ReplyClass.REPUTATION, Basis.WORDS)


def test_a_telling_code_counts_before_words_that_say_little() -> None:
    found = classify(452, "4.2.2", "452 4.2.2 please try again later")
    assert (found.reply_class, found.rule) == (ReplyClass.MAILBOX_FULL, "enhanced:4.2.2")


def test_a_code_without_words_or_detail_still_tells_something() -> None:
    assert classify(552, "", "552 .").rule == "code:552"
    assert classify(550, "", "550 .", "", "mail").rule == "phase:mail"
    assert classify(550, "", "550 .").reply_class is ReplyClass.UNCLASSIFIED


def test_an_acceptance_is_no_refusal_whatever_it_says() -> None:
    assert classify(250, "2.1.5", "250 2.1.5 user unknown? no, fine").reply_class is ReplyClass.DELIVERED


def test_an_address_or_a_link_in_the_words_says_nothing() -> None:
    words = plain_words(
        "550 5.7.1 <spam-user-unknown@full.example> see https://x.example/spam?virus=1 (spf@dmarc.example)"
    )
    assert words == "<> see x.example (<>)"


def test_a_reply_of_many_lines_reads_as_one_sentence_and_two_replies_as_two() -> None:
    assert plain_words("550-5.7.1 Too bad,\r\n550 5.7.1 we are closed") == "Too bad, we are closed"
    assert plain_words("450 busy\n551 not our user") == "busy; not our user"


def test_words_beyond_the_limit_are_not_read() -> None:
    padding = "z" * MAX_WORDS
    assert classify(550, "", f"550 {padding} user unknown").reply_class is ReplyClass.UNCLASSIFIED


def test_provider_is_known_by_its_host() -> None:
    rules = default_rules()
    assert rules.provider_of("mta5.am0.yahoodns.net.") == "yahoo"
    assert rules.provider_of("notyahoodns.net") == ""


def test_rules_have_names_of_their_own_and_patterns_that_match_no_empty_text() -> None:
    rules = default_rules().rules
    assert len({rule.name for rule in rules}) == len(rules)
    assert [rule.name for rule in rules if any(one.search("") for one in rule.any)] == []


def test_a_rule_for_one_provider_speaks_only_there() -> None:
    rules = ReplyRules(MINIMAL | {"rule": [{"name": "own", "class": "policy", "provider": "yahoo", "any": ["sorry"]}]})
    assert rules.classify(550, "", "550 sorry", "yahoo").rule == "words:own"
    assert rules.classify(550, "", "550 sorry", "gmx").rule == "none"


@pytest.mark.parametrize(
    "rule",
    [
        {"name": "own", "class": "no_such_class", "any": ["x"]},
        {"name": "own", "class": "policy", "any": ["(?=x)"]},
        {"name": "own", "class": "policy", "any": ["("]},
        {"name": "own", "class": "policy"},
    ],
)
def test_a_rule_that_is_not_valid_is_named(rule: dict[str, object]) -> None:
    with pytest.raises(SetupError, match="own"):
        ReplyRules(MINIMAL | {"rule": [rule]})


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 999), st.text(max_size=12), st.text(max_size=4_000), st.text(max_size=8), st.text(max_size=8))
def test_any_words_are_put_into_a_class(code: int, enhanced: str, words: str, provider: str, phase: str) -> None:
    found = classify(code, enhanced, words, provider, phase)
    assert found.kind is CLASS_MEANING[found.reply_class].kind
    assert not found.suppress or found.kind is Kind.HARD


@pytest.mark.parametrize(
    "piece", ["user ", "a", "<a@b.c>", "550 5.1.1 ", "not ", "\u00e4", "mailbox full ", "(", "http://"]
)
def test_words_written_to_hurt_are_put_into_a_class(piece: str) -> None:
    # RE2 takes linear time and only a bounded part is read, so that a hundred thousand characters cost what two thousand do.
    assert classify(550, "", piece * (100_000 // len(piece))).kind in Kind


def test_reading_returned_mail_never_uses_a_backtracking_engine() -> None:
    import depesche.streams.mail.classify as classifier

    folder = Path(str(classifier.__file__)).parent
    readers = [
        *folder.glob("returns/*.py"),
        *(folder / f"{name}.py" for name in ("arf", "bounce", "classify", "dsn", "letter")),
    ]
    assert len(readers) > 12
    assert [path.name for path in readers if "import re\n" in path.read_text(encoding="utf-8")] == []
