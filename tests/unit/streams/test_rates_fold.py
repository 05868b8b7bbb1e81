"""The pure part of the rates fold: counted once per offset, keys that read back whatever a stranger calls a provider."""

from hypothesis import given
from hypothesis import strategies as st

from depesche.schemas.rates import Grain
from depesche.streams.agents.rates import MOST_IDS, Held, counted, key_of, place_of, sum_of

OFFSETS = st.lists(st.integers(0, 300), min_size=1, unique=True).map(sorted)


@given(OFFSETS, st.integers(0, 300), st.booleans())
def test_whatever_is_read_again_counts_once(offsets: list[int], back: int, traced: bool) -> None:
    """A kill makes the agent begin again at any offset behind; the table, whose changelog ran ahead, stays as it is."""
    held: Held | None = None
    for offset in (*offsets, *[o for o in offsets if o >= back]):
        held = counted(held, offset, str(offset) if traced else "") or held
    wanted = [str(offset) for offset in offsets][-MOST_IDS:] if traced else []
    assert held is not None
    assert (held.total, held.watermark, list(held.event_ids)) == (len(offsets), offsets[-1], wanted)


@given(st.text(max_size=30), st.integers(0, 10**10), st.integers(0, 255), st.booleans())
def test_a_key_reads_back_whatever_the_provider_is_called(
    provider: str, number: int, partition: int, late: bool
) -> None:
    grain = Grain("bounced", "hard", late, "10001", provider, number * 60_000)
    key = key_of(grain, partition)
    assert place_of(key) == (grain.minute, partition)
    told = sum_of(key, Held(3, 7, ("a",)))
    assert (told.provider, told.tenant, told.kind, told.late, told.minute) == (
        provider,
        "10001",
        "hard",
        late,
        grain.minute,
    )
    assert (told.source_partition, told.count, told.watermark, told.event_ids) == (partition, 3, 7, ("a",))


def test_a_key_from_before_sums_knew_their_customer_has_its_place() -> None:
    assert place_of("bounced|gmx|1700000040000|3") == (1_700_000_040_000, 3)
