"""What an answer means for a unit: the first digit, what it was read from, and what a provider's own rules change."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.schemas.reply_classes import ReplyClass
from depesche.schemas.settings import DeliverSettings
from depesche.streams.mail.reply import Answered, Judge, judge
from depesche.streams.mail.shaping.book import ShapingBook, shipped
from depesche.streams.mail.shaping.reading import read
from depesche.streams.mail.shaping.shape import Shape

STEPS = ["dns", "connect", "banner", "ehlo", "starttls", "mail", "rcpt", "data", "content", "dot"]
ANSWERS = st.builds(
    Answered,
    st.sampled_from(STEPS),
    st.one_of(st.just(0), st.integers(200, 599)),
    st.one_of(st.just(""), st.from_regex(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True)),
    st.one_of(st.text(max_size=80), st.sampled_from(["user unknown", "rate limit", "[TSS04] try later", "S3150"])),
    st.sampled_from(["mx.example.org", "mta5.am0.yahoodns.net"]),
    st.sampled_from(["", "TLSv1.3/X"]),
    st.booleans(),
)


def shape(text: str = "", provider: str = "yahoo") -> Shape:
    return ShapingBook(DeliverSettings.model_validate({}), read(text, "own.toml"), shipped()).of(provider)


@pytest.mark.parametrize(
    ("answer", "verdict", "reply_class", "kind", "enhanced"),
    [
        (Answered("dot", 250, "2.0.0"), "delivered", "", "", "2.0.0"),
        (Answered("dot", 250), "delivered", "", "", "2.0.0"),
        (Answered("rcpt", 550, "5.1.1"), "bounced", "recipient_unknown", "hard", "5.1.1"),
        (Answered("rcpt", 550, "", "No such user"), "bounced", "recipient_unknown", "hard", "5.0.0"),
        (Answered("rcpt", 550), "bounced", "recipient_refused", "soft", "5.0.0"),
        (Answered("dot", 554), "bounced", "unclassified", "soft", "5.0.0"),
        (Answered("rcpt", 552, "5.2.2"), "bounced", "mailbox_full", "soft", "5.2.2"),
        (Answered("rcpt", 452, "4.2.2"), "deferred", "mailbox_full", "soft", "4.2.2"),
        (Answered("dot", 554, "5.7.1"), "bounced", "policy", "block", "5.7.1"),
        (Answered("dot", 550, "5.7.26"), "bounced", "auth_failed", "block", "5.7.26"),
        (Answered("rcpt", 451, "4.7.28"), "deferred", "rate_limited", "soft", "4.7.28"),
        (Answered("rcpt", 451, "4.7.1", "Greylisted, come back"), "deferred", "greylisted", "soft", "4.7.1"),
        (Answered("rcpt", 550, "5.1.1", "blocked by zen.spamhaus.org"), "bounced", "reputation", "block", "5.1.1"),
        (Answered("banner", 421, "4.3.2"), "deferred", "system", "soft", "4.3.2"),
        (Answered("banner", 421), "deferred", "system", "soft", "4.4.1"),
        (Answered("banner", 554, "5.3.2"), "bounced", "system", "soft", "5.3.2"),
        (Answered("mail", 0, "5.6.7"), "bounced", "content_refused", "soft", "5.6.7"),
        (Answered("dns", 0, "5.1.10"), "bounced", "no_mail_host", "soft", "5.1.10"),
        (Answered("dns", 0, "5.1.2"), "bounced", "domain_unknown", "hard", "5.1.2"),
        (Answered("dns", 0, "4.4.3"), "deferred", "network", "soft", "4.4.3"),
        (Answered("connect", 0, "4.4.1"), "deferred", "network", "soft", "4.4.1"),
        (Answered("content"), "deferred", "network", "soft", "4.4.2"),
        (Answered("dot", ambiguous=True), "deferred", "network", "soft", "4.4.2"),
        (Answered("starttls", 502, "5.5.1"), "deferred", "tls", "soft", "5.5.1"),
        (Answered("data", 250, "2.0.0"), "deferred", "unclassified", "soft", "2.0.0"),
        (Answered("", 0, "4.4.7"), "deferred", "expired", "soft", "4.4.7"),
    ],
)
def test_the_first_digit_decides_and_words_and_codes_explain(
    answer: Answered, verdict: str, reply_class: str, kind: str, enhanced: str
) -> None:
    found = judge(answer)
    assert (found.verdict, found.reply_class, found.kind, found.enhanced) == (verdict, reply_class, kind, enhanced)


def test_a_judgement_says_what_it_was_read_from() -> None:
    assert judge(Answered("rcpt", 550, "5.1.1")).rule == "enhanced:5.1.1"
    assert judge(Answered("connect")).rule == "step:connect"
    assert judge(Answered("rcpt", 552, "", "Mailbox is full")).rule.startswith("words:")
    assert judge(Answered("rcpt", 550, "5.1.1")).rules_version > 0


def test_our_own_words_are_not_taken_for_the_hosts() -> None:
    assert judge(Answered("connect", 0, "4.4.1", "user unknown")).reply_class == "network"


def test_a_demand_for_tls_after_tls_failed_is_no_bounce() -> None:
    assert judge(Answered("mail", 530, "5.7.0")).verdict == "deferred"
    assert judge(Answered("mail", 530, "5.7.0", tls="TLSv1.3/X")).verdict == "bounced"


@settings(deadline=None)
@given(ANSWERS)
def test_nothing_is_bounced_that_was_not_refused_for_good(answer: Answered) -> None:
    found = judge(answer)
    assert (found.verdict == "delivered") <= (answer.step == "dot" and not answer.ambiguous)
    if found.verdict == "bounced":
        assert not answer.ambiguous
        assert answer.code // 100 == 5 or (answer.code == 0 and answer.enhanced.startswith("5"))


@settings(deadline=None)
@given(ANSWERS)
def test_hard_is_only_a_dead_address(answer: Answered) -> None:
    found = judge(answer)
    assert (found.kind == "hard") == (found.reply_class in ("recipient_unknown", "domain_unknown", "recipient_moved"))


@settings(deadline=None)
@given(ANSWERS)
def test_a_judge_remembers_nothing_wrong(answer: Answered) -> None:
    one = shape()
    before = JUDGE.judge(answer, one)
    assert before == judge(answer, one) == JUDGE.judge(answer, one)


JUDGE = Judge()


def test_two_answers_that_differ_in_an_id_only_are_one_to_a_judge_and_others_are_not() -> None:
    one = shape(provider="example.org")
    first = JUDGE.judge(Answered("rcpt", 550, "5.1.1", "<ada@x.test> no such user 4XyZ12abcdef77"), one)
    assert JUDGE.judge(Answered("rcpt", 550, "5.1.1", "<bob@x.test> no such user 9XyZ12abcdef78"), one) is first
    assert JUDGE.judge(Answered("rcpt", 550, "5.1.1", "<bob@x.test> mailbox full 9XyZ12abcdef78"), one) is not first


DEFERRED = """
[[provider.yahoo.answer]]
name = "not-for-good"
code = 554
action = "defer"

[[provider.yahoo.answer]]
name = "never"
enhanced = "7.99"
class = "policy"
action = ["bounce", "suspend"]
for = "10m"
"""


def test_a_rule_of_the_shaping_file_turns_the_verdict_and_is_named() -> None:
    in_force = shape(DEFERRED)
    deferred = judge(Answered("dot", 554, "5.7.1", "not today"), in_force)
    assert (deferred.verdict, deferred.reply_class, deferred.rule) == ("deferred", "policy", "shaping:not-for-good")
    bounced = judge(Answered("rcpt", 451, "4.7.99"), in_force)
    assert (bounced.verdict, bounced.reply_class, bounced.rule) == ("bounced", "policy", "shaping:never")
    assert bounced.shaping is not None
    assert (bounced.shaping.seconds, bounced.shaping.actions) == (600, {"bounce", "suspend"})
    assert judge(Answered("dot", 554, "5.7.1"), shape(DEFERRED, "gmx")).verdict == "bounced"


@settings(deadline=None)
@given(ANSWERS)
def test_no_rule_speaks_where_nobody_refused_or_all_is_in_doubt(answer: Answered) -> None:
    everything = shape('[[default.answer]]\nname = "all"\nany = ""\naction = "bounce"\n', "example.org")
    found = judge(answer, everything)
    if answer.ambiguous or answer.code < 400:
        assert found == judge(answer)
    else:
        assert (found.verdict, found.rule) == ("bounced", "shaping:all")


SAMPLES = tomllib.loads(Path(__file__).with_name("provider_answers.toml").read_text("utf-8"))["answer"]


@pytest.mark.parametrize(
    "sample", SAMPLES, ids=lambda sample: f"{sample['provider']}-{sample['code']}-{sample['class']}"
)
def test_the_shipped_rules_know_what_providers_say(sample: dict[str, Any]) -> None:
    answer = Answered(sample["step"], sample["code"], sample["enhanced"], sample["text"])
    found = judge(answer, shape(provider=sample["provider"]))
    assert (found.verdict, found.reply_class) == (sample["verdict"], sample["class"])
    assert sorted(found.shaping.actions if found.shaping else ()) == sample["actions"]


def test_every_class_a_shipped_rule_gives_can_be_an_answer() -> None:
    for name in (*ShapingBook(DeliverSettings.model_validate({})).providers, "example.org"):
        for rule in shape(provider=name).answers:
            assert rule.reply_class not in (ReplyClass.DELIVERED, ReplyClass.AUTO_REPLY, ReplyClass.NOT_SPAM)
