"""The memory of what went back before its time, and what each order wants from the ladder."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.analytics.controls.swept import Offsets, Swept
from depesche.schemas.records import Control, ControlAction, ControlScope, ControlState, SweepMark, SweepPhase
from depesche.streams.mail.sweeps import sweep_of

NOW = 1_000_000


@given(st.sets(st.integers(0, 5_000)), st.integers(0, 5_000))
def test_offsets_are_a_set_of_which_the_past_may_be_forgotten(offsets: set[int], below: int) -> None:
    made = Offsets(offsets)
    assert len(made) == len(offsets)
    assert {offset for offset in range(5_001) if offset in made} == offsets
    made.forget_below(below)
    assert {offset for offset in range(below, 5_001) if offset in made} == {o for o in offsets if o >= below}


def mark(phase: SweepPhase, *offsets: int, sweep: str = "x/given", at: int = 5) -> SweepMark:
    return SweepMark(sweep=sweep, rung="1m", phase=phase, offsets=offsets, worker="retry-a", at=at)


def test_a_sweep_that_was_begun_and_not_ended_says_since_when_to_look() -> None:
    swept = Swept()
    swept.learn(mark(SweepPhase.BEGUN, at=5))
    swept.learn(mark(SweepPhase.BEGUN, at=9))
    swept.learn(mark(SweepPhase.TAKEN, 3, 7))
    assert swept.begun == {"x/given": 5}
    assert 3 in swept.taken
    swept.learn(mark(SweepPhase.DONE))
    assert not swept.begun
    assert swept.done == {"x/given"}
    assert 7 in swept.taken


def order(action: ControlAction, **more: object) -> Control:
    made = Control(
        control_id="x", action=action, scope=ControlScope(), by="t", at=1, state=ControlState.ACTIVE, changed_at=2
    )
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("control", "wanted"),
    [
        (order(ControlAction.RETRY), ("x/given", 1, True)),
        (order(ControlAction.DROP), ("x/given", 1, False)),
        (order(ControlAction.DROP, state=ControlState.LIFTED), None),
        (order(ControlAction.DROP, until=NOW), None),
        (order(ControlAction.SUSPEND), None),
        (order(ControlAction.SUSPEND, until=NOW + 1), None),
        (order(ControlAction.SUSPEND, until=NOW), ("x/ended", NOW, True)),
        (order(ControlAction.SUSPEND, state=ControlState.LIFTED), ("x/ended", 2, True)),
        (order(ControlAction.REROUTE), None),
        (order(ControlAction.UNKNOWN), None),
    ],
)
def test_what_an_order_wants_from_the_ladder(control: Control, wanted: tuple[str, int, bool] | None) -> None:
    sweep = sweep_of(control, 7, NOW)
    assert (sweep and (sweep.name, sweep.at, sweep.at_once)) == wanted
