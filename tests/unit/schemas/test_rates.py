"""What counts as what: shares never pass 1, a unit is sent once, and adding up loses nothing."""

from hypothesis import given
from hypothesis import strategies as st

from depesche.schemas.rates import KINDS, WINDOWS, Grain, Volume, rated

TYPES = ("delivered", "bounced", "deferred", "expired", "complained", "opened", "failed")
GRAINS = st.builds(
    Grain,
    type=st.sampled_from(TYPES),
    kind=st.sampled_from(("", *KINDS)),
    late=st.booleans(),
    tenant=st.sampled_from(("10001", "10002")),
    provider=st.sampled_from(("gmx", "gmail", "")),
    minute=st.integers(0, 10_000).map(lambda n: n * 60_000),
)
COUNTS = st.dictionaries(GRAINS, st.integers(1, 10_000), max_size=40)


@given(COUNTS)
def test_a_share_is_between_nothing_and_all(counts: dict[Grain, int]) -> None:
    for one in rated(counts, WINDOWS["1h"], "both"):
        for rate in (one.volume.hard_bounce_rate, one.volume.complaint_rate):
            assert rate is None or 0 <= rate <= 1


@given(COUNTS, st.sampled_from(sorted(WINDOWS)))
def test_customers_providers_and_windows_add_up_to_the_same(counts: dict[Grain, int], window: str) -> None:
    whole = Volume()
    for grain, count in counts.items():
        whole.add(grain.type, grain.kind, grain.late, count)
    for by in ("provider", "tenant", "both"):
        parts = rated(counts, WINDOWS[window], by)  # type: ignore[arg-type]
        for name in ("sent", "answered", "deferred", "complained", "returned"):
            assert sum(getattr(part.volume, name) for part in parts) == getattr(whole, name)
        assert [part.start for part in parts] == sorted(part.start for part in parts)


def test_a_mail_that_came_back_is_sent_once_and_bounced() -> None:
    volume = Volume()
    volume.add("delivered", "", False, 1)
    volume.add("bounced", "hard", True, 1)
    assert (volume.sent, volume.delivered, volume.hard_bounced, volume.returned) == (1, 1, 1, 1)
    assert volume.hard_bounce_rate == 0.5


def test_complaints_about_mail_of_yesterday_are_no_share_above_one() -> None:
    volume = Volume()
    volume.add("complained", "", False, 3)
    assert volume.complaint_rate == 1.0
    volume.add("delivered", "", False, 2)
    assert volume.complaint_rate == 1.0
    assert Volume().complaint_rate is None
