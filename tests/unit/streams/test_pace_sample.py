"""What of a thousand answers is told to the law of pace, and that a sampler that was killed goes on as if nothing had been."""

import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.schemas.records import MailEvent, PaceEffect, PaceSignal
from depesche.streams.mail.pace_sample import Sampler
from tests.unit.streams.pace_world import BLOCKED, CROWDED, MINUTE, SETTINGS, START, TAKEN, TOO_FAST, outcome, refusal

ANSWERS = (TAKEN, TAKEN, TAKEN, TOO_FAST, CROWDED, BLOCKED, refusal(451, "system"), refusal(550, "recipient_unknown"))


def _sampler() -> Sampler:
    return Sampler(SETTINGS, 0, 2)


def _told(sampler: Sampler, events: list[MailEvent], first: int = 0) -> list[PaceSignal]:
    signals = [sampler.take(event, first + number) for number, event in enumerate(events)]
    return [signal for signal in signals if signal is not None]


def test_deliveries_alone_are_only_counted() -> None:
    events = [outcome(number, START + number, TAKEN) for number in range(5000)]
    assert _told(_sampler(), events) == []


def test_the_first_refusal_tells_what_was_delivered_before() -> None:
    events = [outcome(number, START + 10 * number, TAKEN) for number in range(500)]
    [signal] = _told(_sampler(), [*events, outcome(500, START + 5000, TOO_FAST)])
    assert (signal.effect, signal.delivered, signal.throttled, signal.count) == (PaceEffect.THROTTLED, 500, 1, 1)
    assert (signal.source_offset, signal.source_partitions) == (500, 2)


def test_a_burst_of_refusals_is_told_a_few_times_and_in_full() -> None:
    signals = _told(_sampler(), [outcome(number, START, TOO_FAST) for number in range(1024)])
    assert [signal.throttled for signal in signals] == [2**power for power in range(11)]
    assert sum(signal.count for signal in signals) == 1024


def test_refusals_come_once_a_second_and_heartbeats_once_in_five() -> None:
    events = [outcome(number, START + 20 * number, TOO_FAST if number % 2 else TAKEN) for number in range(500)]
    signals = _told(_sampler(), events)
    heartbeats = [signal for signal in signals if signal.effect is PaceEffect.DELIVERED]
    assert len(heartbeats) == 2
    refusals = [signal for signal in signals if signal.effect is PaceEffect.THROTTLED]
    # 25 a second are told with the first, the second, the fourth, the eighth and the sixteenth.
    assert len(refusals) == 50
    assert sum(signal.count for signal in signals) >= 350


def test_what_is_older_than_the_window_is_not_counted() -> None:
    before = [outcome(number, START, TAKEN) for number in range(100)]
    [signal] = _told(_sampler(), [*before, outcome(100, START + MINUTE + 5000, TOO_FAST)])
    assert signal.delivered == 0


def _life(seed: int) -> list[MailEvent]:
    chance, at, events = random.Random(seed), START, list[MailEvent]()
    for number in range(400):
        at += chance.choice((0, 1, 30, 400, 3000))
        # Couriers do not say things in the exact order in which they happened.
        events.append(outcome(number, at - chance.randrange(50), chance.choice(ANSWERS), chance.choice("ab")))
    return events


@given(seed=st.integers(0, 1_000_000), killed_at=st.integers(0, 400))
@settings(deadline=None)
def test_a_sampler_that_begins_with_the_last_window_tells_what_the_other_would_have(seed: int, killed_at: int) -> None:
    events = _life(seed)
    whole = _sampler()
    _told(whole, events[:killed_at])
    rest = _told(whole, events[killed_at:], killed_at)
    fresh = _sampler()
    edge = max((event.occurred_at for event in events[:killed_at]), default=START) - 2 * MINUTE
    seen = [(number, event) for number, event in enumerate(events[:killed_at]) if event.occurred_at > edge]
    fresh.watched = dict(whole.watched)
    for number, event in seen:
        fresh.take(event, number)
    assert _told(fresh, events[killed_at:], killed_at) == rest


def test_an_ordinary_delivery_costs_little() -> None:
    sampler, events = (
        _sampler(),
        [outcome(number, START + number, TAKEN, f"p{number % 50}") for number in range(20_000)],
    )
    begun = time.perf_counter()
    for number, event in enumerate(events):
        sampler.take(event, number)
    # No assertion on time: the figure stands in the decision page; run with -s to see it.
    print(f"{(time.perf_counter() - begun) / len(events) * 1e6:.1f} µs per ordinary delivery")
