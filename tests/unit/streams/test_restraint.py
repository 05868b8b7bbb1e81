"""What a route holds itself to after an answer: limits found, raised and lifted, suspensions with an end."""

import pytest

from depesche.schemas.reply_classes import ReplyClass
from depesche.streams.mail.reply import Judgement
from depesche.streams.mail.restraint import Restraint
from depesche.streams.mail.shaping.shape import Action, AnswerRule, SuspendRule


def refusal(reply_class: ReplyClass, *actions: Action, seconds: float = 600, factor: float = 0.5) -> Judgement:
    rule = AnswerRule("rule", "here", actions=frozenset(actions), seconds=seconds, factor=factor) if actions else None
    return Judgement("deferred", reply_class.value, "soft", "4.0.0", shaping=rule)


TOO_MUCH = refusal(ReplyClass.RATE_LIMITED)
BUSY = refusal(ReplyClass.SYSTEM)


def busy_minute(taken: int, time_scale: float = 1.0) -> Restraint:
    made = Restraint(time_scale)
    for number in range(taken):
        made.taken(1000.0 + number * 59.0 * time_scale / taken)
    return made


@pytest.mark.parametrize("time_scale", [1.0, 0.01])
def test_the_first_421_for_the_rate_finds_the_limit(time_scale: float) -> None:
    made = busy_minute(20, time_scale)
    now = 1000.0 + 59 * time_scale
    assert made.per_minute(now) is None
    assert made.refused(TOO_MUCH, 421, (), now)
    assert made.per_minute(now) == pytest.approx(16)
    # It rises slowly, passes what it was, and is gone after six quiet minutes.
    assert 20 < (made.per_minute(now + 31 * time_scale) or 0) < 24
    assert made.per_minute(now + 361 * time_scale) is None


def test_what_was_under_way_does_not_lower_the_limit_again() -> None:
    made = busy_minute(20)
    made.refused(TOO_MUCH, 421, (), 1059.0)
    assert not made.refused(TOO_MUCH, 421, (), 1060.0)
    assert made.per_minute(1060.0) == pytest.approx(16)


def test_a_single_4xx_for_the_rate_may_be_one_mailboxs_and_three_in_a_row_are_meant_for_us() -> None:
    made = busy_minute(60)
    for _ in range(5):
        assert not made.refused(TOO_MUCH, 451, (), 1059.0)
        assert not made.refused(TOO_MUCH, 451, (), 1059.0)
        made.taken(1059.0)
    assert not made.refused(TOO_MUCH, 451, (), 1059.0)
    assert not made.refused(BUSY, 421, (), 1059.0)
    assert made.refused(TOO_MUCH, 451, (), 1059.0)


def test_other_refusals_change_nothing() -> None:
    made = busy_minute(60)
    for reply_class in (
        ReplyClass.GREYLISTED,
        ReplyClass.MAILBOX_FULL,
        ReplyClass.RECIPIENT_UNKNOWN,
        ReplyClass.SYSTEM,
    ):
        for _ in range(10):
            assert not made.refused(refusal(reply_class), 451, (), 1059.0)
    assert made.per_minute(1059.0) is None


def test_actions_of_a_rule_suspend_and_slow_down_with_an_end() -> None:
    made = busy_minute(600)
    assert made.refused(refusal(ReplyClass.RATE_LIMITED, "suspend", "slow", factor=0.1), 451, (), 1059.0)
    assert (made.reason, made.suspended(1100.0), made.suspended(1660.0)) == ("rule", True, False)
    assert made.per_minute(1100.0) == pytest.approx(60)
    assert made.per_minute(1660.0) is None


def test_enough_refusals_within_the_time_suspend_and_spread_ones_do_not() -> None:
    rules = (SuspendRule("here", frozenset({ReplyClass.REPUTATION}), 5, 60.0, 900.0),)
    quick, slow = Restraint(), Restraint()
    listed = refusal(ReplyClass.REPUTATION)
    assert [quick.refused(listed, 550, rules, 100.0 + n) for n in range(5)] == [False, False, False, False, True]
    assert quick.suspended(1003.0)
    assert not any(slow.refused(listed, 550, rules, 100.0 + 20 * n) for n in range(20))
