"""What the audit keeps of a unit and of the archive: small, and the same in whatever order it is read."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.analytics.audit import far_side
from depesche.analytics.audit.checks import Books
from depesche.analytics.audit.content import ContentIndex
from depesche.analytics.audit.ledger import Side
from depesche.analytics.audit.report import AuditReport, Findings, Total
from depesche.analytics.audit.units import UnitState
from depesche.schemas.identity import event_id
from depesche.schemas.records import ArchiveRef, AttemptPhase

NOW = 1_795_400_000_000
STARTED, COMMITTING, FINISHED, AMBIGUOUS, PARKED = (
    AttemptPhase.STARTED.value,
    AttemptPhase.COMMITTING.value,
    AttemptPhase.FINISHED.value,
    AttemptPhase.AMBIGUOUS.value,
    AttemptPhase.PARKED.value,
)


def unit(*marks: tuple[int, str], finals: int = 0) -> UnitState:
    state = UnitState("1", NOW)
    for attempt, phase in marks:
        state.mark(attempt, phase)
    state.finals = finals
    return state


def test_an_attempt_with_an_end_is_not_ambiguous() -> None:
    state = unit((1, STARTED), (1, COMMITTING), (1, FINISHED), (2, STARTED), (2, COMMITTING), (2, FINISHED), finals=1)
    assert list(state.ambiguous_attempts()) == []
    assert state.attempted(1)
    assert state.attempted(2)
    assert not state.attempted(3)


def test_an_attempt_that_was_only_started_sent_no_dot() -> None:
    state = unit((1, STARTED), (2, PARKED))
    assert list(state.ambiguous_attempts()) == []
    assert not state.attempted(1)
    assert state.open_attempt() is None


def test_a_dot_without_an_end_is_open_while_the_unit_is_under_way_and_ambiguous_after() -> None:
    assert unit((1, COMMITTING)).open_attempt() == 1
    assert list(unit((1, COMMITTING)).ambiguous_attempts()) == []
    assert list(unit((1, COMMITTING), finals=1).ambiguous_attempts()) == [1]
    assert list(unit((1, COMMITTING), (2, STARTED)).ambiguous_attempts()) == [1]
    assert list(unit((1, COMMITTING), (1, AMBIGUOUS), (2, COMMITTING)).ambiguous_attempts()) == [1]
    assert unit((1, COMMITTING), (1, AMBIGUOUS), (2, COMMITTING)).open_attempt() == 2


marks = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from((STARTED, COMMITTING, FINISHED, AMBIGUOUS, PARKED, "later"))),
    max_size=30,
)


@given(marks, st.randoms(), st.integers(0, 1))
def test_the_order_of_marks_does_not_matter(told: list[tuple[int, str]], chance: object, finals: int) -> None:
    shuffled = list(told) * 2
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = unit(*told, finals=finals), unit(*shuffled, finals=finals)
    assert one.marks == other.marks
    phases: dict[int, set[str]] = {}
    for attempt, phase in told:
        phases.setdefault(attempt, set()).add(phase)
    open_attempt = one.open_attempt()
    wanted = {
        attempt
        for attempt, seen in phases.items()
        if AMBIGUOUS in seen or (COMMITTING in seen and FINISHED not in seen and attempt != open_attempt)
    }
    assert set(one.ambiguous_attempts()) == wanted


@pytest.mark.parametrize("attempt", [-1, 4_096, 10**9])
def test_a_number_that_is_no_attempt_is_refused(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempt"):
        unit((attempt, STARTED))


def test_an_event_is_new_once() -> None:
    state = UnitState("1", NOW)
    ids = [event_id("unit", kind, attempt) for kind in ("accepted", "deferred", "delivered") for attempt in range(5)]
    assert [state.is_new(one) for one in ids] == [True] * 15
    assert [state.is_new(one) for one in reversed(ids)] == [False] * 15


def entry(segment: str, offset: int) -> ArchiveRef:
    return ArchiveRef(segment=segment, offset=offset, length=1, size=1, key_id="1/20261123")


def test_content_is_there_missing_or_too_old_to_be_there() -> None:
    index = ContentIndex([entry("20261120-a", 20), entry("20261120-a", 90), entry("20261121-b", 20)], 45, NOW)
    assert index.refer("20261120-a", 90)
    assert not index.refer("20261120-a", 91)
    assert not index.refer("20261119-gone", 20)
    assert index.refer("20260901-expired", 20)
    assert index.unreferenced() == 2


def test_a_line_that_is_being_written_is_left_out_of_the_ground_truth(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    line = orjson.dumps({"kept": True, "message_id": "<m@x>", "recipients": ["a@b"], "time": 1.0})
    path.write_bytes(line + b"\n" + line[:20])
    assert len(list(far_side.arrivals(path))) == 1
    findings = Findings()
    far_side.compare(path, Books(), Side(), findings, NOW)
    assert [(found.kind, found.count) for found in findings.all()] == [("far_side_unknown", 1)]
    assert "a@b" not in findings.all()[0].examples[0]


def test_a_report_balances_only_when_its_sums_do() -> None:
    total = Total(accepted=3, in_flight=1)
    total.finals["delivered"] = 1
    values: dict[str, object] = dict.fromkeys(AuditReport.__slots__, 0)
    values |= {"totals": {("1", NOW): total}, "differences": (), "records": {}, "ambiguous": ()}
    assert not AuditReport(**values).balanced  # type: ignore[arg-type]
    total.finals["bounced"] = 1
    assert AuditReport(**values).balanced  # type: ignore[arg-type]
    assert AuditReport(**values).total.to_json() == {  # type: ignore[arg-type]
        "accepted": 3,
        "finals": {"bounced": 1, "delivered": 1},
        "in_flight": 1,
        "late_bounces": 0,
    }
