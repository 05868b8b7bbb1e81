"""Tokens come in evenly, and never more than a second's worth at once."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.streams.mail.bucket import Bucket

STEPS = st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=200)


@settings(deadline=None)
@given(st.floats(0.01, 200), STEPS)
def test_in_no_window_more_pass_than_a_second_and_the_window_are_worth(per_second: float, steps: list[float]) -> None:
    bucket, passed = Bucket(per_second, 0.0), []
    for now in itertools.accumulate(steps):
        while bucket.take(now):
            passed.append(now)
    burst = max(1.0, per_second)
    for first in range(0, len(passed), 7):
        for last in range(first, len(passed), 5):
            assert last - first + 1 <= burst + (passed[last] - passed[first]) * per_second + 1e-3


@settings(deadline=None)
@given(st.floats(0.01, 200), STEPS)
def test_whoever_waits_as_long_as_told_passes(per_second: float, steps: list[float]) -> None:
    bucket, now = Bucket(per_second, 0.0), 0.0
    for step in steps:
        now += step
        wait = bucket.wait(now)
        assert wait <= 1 / per_second + 1e-6
        assert bucket.take(now + wait)
        now += wait


def test_the_first_goes_at_once_and_without_a_limit_all_do() -> None:
    slow = Bucket(1 / 60, 10.0)
    assert [slow.take(10.0), slow.take(10.0), slow.take(69.0), slow.take(70.1)] == [True, False, False, True]
    free = Bucket(None, 0.0)
    assert all(free.take(0.0) for _ in range(10_000))


def test_a_new_rate_holds_at_once_and_what_was_saved_is_no_more_than_its_second() -> None:
    bucket = Bucket(100.0, 0.0)
    bucket.set_rate(2.0, 60.0)
    assert sum(bucket.take(60.0) for _ in range(100)) == 2
    bucket.set_rate(100.0, 60.0)
    assert bucket.wait(60.0) == pytest.approx(0.01, abs=1e-6)
    bucket.drain(70.0)
    assert not bucket.take(70.0)
