"""What a record of mail.outbound is, judged by the marks of its attempts."""

from hypothesis import given
from hypothesis import strategies as st

from depesche.schemas.records import AttemptPhase as Phase
from depesche.streams.mail.attempt_memory import AttemptMemory, Known


def memory(*marks: Known) -> AttemptMemory:
    made = AttemptMemory()
    for mark in marks:
        made.learn("u", mark)
    return made


def test_an_unknown_unit_is_new() -> None:
    assert AttemptMemory().standing("u", 1, 5) == "new"


def test_an_attempt_that_only_started_is_tried_again() -> None:
    assert memory(Known(1, Phase.STARTED, 5)).standing("u", 1, 5) == "new"


def test_a_dot_that_may_have_gone_out_without_an_end_is_ambiguous_wherever_the_record_stands() -> None:
    made = memory(Known(1, Phase.STARTED, 5), Known(1, Phase.COMMITTING, 5))
    assert made.standing("u", 1, 5) == "ambiguous"
    assert made.standing("u", 1, 900) == "ambiguous"


def test_a_later_start_does_not_take_a_dot_back() -> None:
    made = memory(Known(1, Phase.COMMITTING, 5), Known(1, Phase.STARTED, 9), Known(1, Phase.PARKED, 9))
    assert made.standing("u", 1, 9) == "ambiguous"


def test_an_end_is_told_again_for_its_own_record_and_passed_over_for_any_other() -> None:
    made = memory(Known(1, Phase.COMMITTING, 5), Known(1, Phase.FINISHED, 5, event=b"e"))
    assert made.standing("u", 1, 5) == "told"
    assert made.standing("u", 1, 6) == "stale"
    assert made.standing("u", 2, 7) == "new"


def test_an_end_that_is_settled_is_passed_over() -> None:
    assert memory(Known(1, Phase.FINISHED, 5, settled=True)).standing("u", 1, 5) == "stale"


def test_an_older_attempt_is_passed_over() -> None:
    assert memory(Known(3, Phase.STARTED, 50)).standing("u", 2, 60) == "stale"


def test_a_parked_unit_is_new_when_it_comes_back() -> None:
    made = memory(Known(1, Phase.PARKED, 5))
    assert made.standing("u", 1, 5) == "parked"
    assert made.standing("u", 1, 4) == "stale"
    assert made.standing("u", 1, 700) == "new"


def test_what_is_far_behind_is_forgotten() -> None:
    made = AttemptMemory()
    for offset in range(10):
        made.learn(f"u{offset}", Known(1, Phase.FINISHED, offset))
    made.forget_below(7)
    assert len(made) == 3
    assert made.standing("u6", 1, 6) == "new"
    assert made.standing("u7", 1, 99) == "stale"


PHASES = st.sampled_from([Phase.STARTED, Phase.COMMITTING, Phase.FINISHED, Phase.AMBIGUOUS, Phase.PARKED])


@given(st.lists(st.builds(Known, st.integers(1, 3), PHASES, st.integers(0, 9)), max_size=12))
def test_no_order_of_marks_makes_an_ended_attempt_new_or_an_open_dot_certain(marks: list[Known]) -> None:
    made = memory(*[Known(mark.attempt, mark.phase, mark.offset) for mark in marks])
    latest = max((mark.attempt for mark in marks), default=0)
    phases = {mark.phase for mark in marks if mark.attempt == latest}
    for offset in range(11):
        standing = made.standing("u", latest, offset)
        if phases & {Phase.FINISHED, Phase.AMBIGUOUS}:
            assert standing in ("told", "stale")
        elif Phase.COMMITTING in phases:
            assert standing == "ambiguous"
