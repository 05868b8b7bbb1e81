"""A process that stood still does not believe that it still owns what it owned."""

import pytest

from depesche.streams.stages.pulse import LONGEST_STILLNESS, Pulse, StoodStillError


def test_a_missed_beat_is_remembered_for_good() -> None:
    now = [0.0]
    pulse = Pulse(lambda: now[0])
    now[0] += LONGEST_STILLNESS - 0.1
    assert pulse.alive
    pulse.beat()
    now[0] += LONGEST_STILLNESS + 0.1
    assert not pulse.alive
    with pytest.raises(StoodStillError):
        pulse.beat()
    assert not pulse.alive


def test_the_beat_itself_notices_when_nobody_asked_before() -> None:
    now = [0.0]
    pulse = Pulse(lambda: now[0])
    now[0] += 60
    with pytest.raises(StoodStillError):
        pulse.beat()
