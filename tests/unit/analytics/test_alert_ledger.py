"""The fold of mail.alerts: what begins ends once, and two who decide the same say the same id."""

from hypothesis import given
from hypothesis import strategies as st

from depesche.analytics.log.alerts import AlertKey, Ledger
from depesche.schemas.records import AlertKind, Severity

KEYS = [
    AlertKey(kind, severity, subject)
    for kind in (AlertKind.LISTED, AlertKind.COMPLAINT_RATE)
    for severity in (Severity.WARN, Severity.HIGH)
    for subject in ("10001/gmx", "10001/gmail")
]
STEPS = st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=60)


@given(STEPS)
def test_each_alert_begins_and_ends_in_turn_with_an_id_of_its_own(steps: list[tuple[AlertKey, bool]]) -> None:
    ledger = Ledger()
    for number, (key, raised) in enumerate(steps):
        made = ledger.next(key, raised=raised, at=number)
        assert (made is None) == (raised == (key in ledger.open()))
        if made:
            assert ledger.apply(made)
    for key in KEYS:
        states = [alert.state.value for alert in ledger.alerts if (alert.kind, alert.severity, alert.subject) == key]
        assert states == ["raised", "cleared"] * (len(states) // 2) + ["raised"] * (len(states) % 2)
    assert len({alert.alert_id for alert in ledger.alerts}) == len(ledger.alerts)


@given(STEPS, st.data())
def test_one_who_was_stopped_and_comes_back_says_nothing_twice(
    steps: list[tuple[AlertKey, bool]], data: st.DataObject
) -> None:
    """The one who comes back knows less; what it says under the same circumstances has an id that is known already."""
    full, behind = Ledger(7), Ledger(7)
    stopped = data.draw(st.integers(0, len(steps)))
    for number, (key, raised) in enumerate(steps):
        made = full.next(key, raised=raised, at=number)
        if made:
            full.apply(made)
            if number < stopped:
                behind.apply(made)
    before = len(full.alerts)
    for key, raised in steps[stopped:]:
        late = behind.next(key, raised=raised, at=10**6, value=0.5)
        if late:
            behind.apply(late)
            assert not full.apply(late)
    assert len(full.alerts) == before


def test_an_alert_whose_history_has_expired_gets_a_new_id() -> None:
    key = KEYS[0]
    first, later = Ledger(0).next(key, raised=True, at=1), Ledger(40).next(key, raised=True, at=1)
    assert first and later and first.alert_id != later.alert_id
