"""When the sink writes: a lone mail at once, a steady stream not too often, and never later than promised."""

from hypothesis import given
from hypothesis import strategies as st

from depesche.analytics.store.pace import CREDIT_SECONDS, SHARE, FlushPace


def test_what_comes_alone_is_written_at_once() -> None:
    pace = FlushPace(0.8)
    pace.came(100.0)
    assert not pace.due(100.0, quiet=False)
    assert pace.due(100.005, quiet=True)


def test_nothing_held_is_nothing_due() -> None:
    pace = FlushPace(0.8)
    assert not pace.due(100.0, quiet=True)
    pace.came(100.0)
    pace.flushed(100.1, 0.05)
    assert not pace.due(200.0, quiet=True)


def test_the_events_of_one_mail_may_all_be_written_at_once() -> None:
    pace, now = FlushPace(0.8), 100.0
    for _ in range(3):
        pace.came(now)
        assert pace.due(now + 0.005, quiet=True)
        now += 0.06
        pace.flushed(now, 0.05)
    assert 3 * 0.05 / SHARE < CREDIT_SECONDS + 0.05 / SHARE


@given(st.lists(st.tuples(st.floats(0.001, 0.3), st.floats(0.01, 0.2)), min_size=50, max_size=200))
def test_nothing_is_held_longer_than_promised_and_writing_takes_its_share_only(told: list[tuple[float, float]]) -> None:
    longest = 1_000.0
    pace, now, writing, begun = FlushPace(longest), 0.0, 0.0, 0.0
    for gap, took in told:
        now += gap
        pace.came(now)
        while not pace.due(now, quiet=True):
            step = pace.wait(now)
            assert step > 0
            now += step
        now += took
        writing += took
        pace.flushed(now, took)
    assert writing * (1 / SHARE) - CREDIT_SECONDS - 0.2 / SHARE <= now - begun + 1e-6


@given(st.floats(0.01, 5.0), st.floats(0.0, 100.0))
def test_a_promise_is_kept_however_dear_writing_is(longest: float, took: float) -> None:
    pace = FlushPace(longest)
    pace.came(0.0)
    pace.flushed(took, took)
    start = took + 1.0
    pace.came(start)
    assert pace.due(start + longest + 1e-9, quiet=False)
    assert pace.wait(start) <= max(longest, 0.005) + 1e-9
