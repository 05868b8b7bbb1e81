"""When a unit is tried again, and when it is given up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.schemas.settings import DeliverSettings
from depesche.schemas.topics import RETRIES
from depesche.streams.mail.ladder import after_attempt, delay_ms, until, without_attempt

HOUR = 3_600_000
LADDER = DeliverSettings().ladder


def test_the_gaps_grow_and_the_last_rung_repeats() -> None:
    tries = [after_attempt(LADDER, attempt, 0, 1000 * HOUR) for attempt in range(1, 9)]
    assert [found.rung for found in tries if found] == ["1m", "5m", "15m", "1h", "1h", "4h", "4h", "4h"]
    assert tries[0] is not None
    assert tries[0].due_at == 60_000


def test_a_try_that_would_come_too_late_is_none() -> None:
    assert after_attempt(LADDER, 1, 0, 60_000) is not None
    assert after_attempt(LADDER, 1, 1, 60_000) is None


def test_time_can_be_made_to_pass_faster() -> None:
    found = after_attempt(LADDER, 1, 0, HOUR, time_scale=0.01)
    assert found is not None
    assert found.due_at == 600
    assert delay_ms("1m", 0.000001) == 1


@pytest.mark.parametrize(
    ("minutes", "rung"), [(0, "1m"), (3, "1m"), (20, "5m"), (60, "15m"), (239, "15m"), (240, "1h"), (3000, "4h")]
)
def test_a_unit_without_room_waits_by_its_age(minutes: int, rung: str) -> None:
    now = minutes * 60_000
    found = without_attempt(0, now, now + 100 * HOUR)
    assert found is not None
    assert found.rung == rung
    assert found.due_at == now + RETRIES[rung] * 1000


def test_an_old_unit_near_its_end_still_gets_a_short_rung() -> None:
    now = 47 * HOUR
    found = without_attempt(0, now, now + 6 * 60_000)
    assert found is not None
    assert found.rung == "5m"
    assert without_attempt(0, now, now + 59_999) is None


@given(st.integers(0, 50 * HOUR), st.integers(0, 50 * HOUR), st.floats(0.001, 1))
def test_no_unit_waits_past_its_end(age: int, left: int, scale: float) -> None:
    found = without_attempt(0, age, age + left, scale)
    assert found is None or age < found.due_at <= age + left


@given(st.integers(1, 200 * HOUR))
def test_a_scheduled_unit_hops_until_its_time_and_is_never_early_at_the_last_hop(wait: int) -> None:
    now, hops = 0, 0
    while now < wait:
        found = until(wait, now)
        assert now < found.due_at <= wait
        now, hops = found.due_at, hops + 1
    assert now == wait
    assert hops <= wait / (4 * HOUR) + 20
