"""The law of pace against providers with limits of their own: it finds the limit, keeps below it, and lets go of it again."""

import itertools
import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.schemas.pace import UNLIMITED, Pace
from depesche.schemas.records import PaceAction, PaceEffect, PaceSignal, PaceState
from depesche.streams.mail.pace import MOST_CAUSES, Law, replayed
from depesche.streams.mail.pace_standing import Standing
from depesche.streams.mail.restraint import Restraint
from tests.unit.streams.pace_world import (
    BLOCKED,
    CONNECTIONS,
    CROWDED,
    MINUTE,
    OBEY_MS,
    SETTINGS,
    START,
    TAKEN,
    TOO_FAST,
    Answer,
    RateLimit,
    World,
    refusal,
)

LAW = Law(SETTINGS, CONNECTIONS)


@pytest.mark.parametrize("demand", [40, 300, 3000])
@pytest.mark.parametrize("limit", [20, 200])
@pytest.mark.parametrize("partitions", [1, 8])
def test_a_providers_rate_limit_is_found_within_minutes_and_mostly_kept(
    limit: int, demand: int, partitions: int
) -> None:
    world = World(RateLimit(limit), demand=demand, partitions=partitions)
    world.run(180)
    if demand <= limit:
        assert world.decisions == []
        return
    steady = list(world.minutes(4, 180))
    delivered = [minute[0] for minute in steady]
    assert min(delivered) >= 0.6 * limit
    # More is tried now and then, but far from always, and more and more rarely.
    beyond = [sum(minute) > limit for minute in steady]
    assert sum(beyond) <= 0.15 * len(steady)
    assert sum(refused for _, refused in steady) <= 0.02 * sum(delivered)
    assert world.actions().count(PaceAction.LOWERED) <= 8


def test_when_the_limit_goes_away_so_does_ours() -> None:
    isp = RateLimit(20)
    world = World(isp)
    world.run(10)
    assert world.decisions[-1].per_minute is not None
    isp.per_minute = None
    world.run(30)
    last = world.decisions[-1]
    assert (last.action, last.per_minute, last.connections, last.ends_at) == (PaceAction.LIFTED, None, None, None)
    assert sum(next(world.minutes(39, 40))) > 500


def test_a_rate_that_is_not_used_is_not_raised_and_one_that_is_used_again_is() -> None:
    isp = RateLimit(100)
    world = World(isp)
    world.run(5)
    limited = world.decisions[-1].per_minute
    assert limited is not None
    isp.per_minute, world.demand = None, 0.3 * limited
    before = len(world.decisions)
    world.run(120)
    assert {one.per_minute for one in world.decisions[before:]} <= {limited}
    world.demand = 600
    world.run(60)
    assert PaceAction.RAISED in world.actions()[before:]
    assert (world.decisions[-1].action, world.decisions[-1].per_minute) == (PaceAction.LIFTED, None)


def test_couriers_that_hold_back_by_themselves_do_not_talk_the_law_out_of_its_limit() -> None:
    world = World(RateLimit(100))
    world.run(5)
    # Their own reflex keeps them just below what the provider takes: nothing is refused, and the limit is still there.
    world.demand = 95
    world.run(7 * 60)
    assert world.decisions[-1].per_minute is not None
    assert PaceAction.LIFTED not in world.actions()
    # And eight hours after the last refusal it ends, as every limit does.
    world.run(2 * 60)
    assert world.decisions[-1].action is PaceAction.LIFTED
    assert world.decisions[-1].at - world.decisions[0].at < 9 * 60 * MINUTE


@pytest.mark.parametrize("limit", [20, pytest.param(200, marks=pytest.mark.long)])
def test_the_law_and_the_couriers_reflex_together_touch_a_limit_a_few_times_a_day(limit: int) -> None:
    isp = RateLimit(limit)
    world = World(isp, demand=3000, restraint=Restraint())
    world.run(6 * 60)
    steady = list(world.minutes(4, 6 * 60))
    assert sum(refused for _, refused in steady) <= 10
    assert sum(delivered for delivered, _ in steady) >= 0.75 * limit * len(steady)
    assert PaceAction.LIFTED not in world.actions()
    isp.per_minute = None
    world.run(5 * 60)
    assert (world.decisions[-1].action, world.decisions[-1].per_minute) == (PaceAction.LIFTED, None)


def test_a_few_refusals_among_thousands_do_not_keep_a_limit_that_is_gone() -> None:
    isp, chance = RateLimit(900), random.Random(6)
    world = World(lambda at, connections: TOO_FAST if chance.random() < 0.002 else isp(at, connections), demand=3000)
    world.run(10)
    assert world.decisions[-1].per_minute is not None
    isp.per_minute = None
    world.run(60)
    assert world.decisions[-1].action is PaceAction.LIFTED


def test_what_was_under_way_when_a_limit_came_tells_better_what_was_too_much() -> None:
    standing = Standing()
    for after, delivered in ((0, 10), (2_000, 20), (30_000, 40)):
        signal = PaceSignal(
            event_id=f"e{after}",
            pool="shared",
            provider="isp",
            at=START + after,
            effect=PaceEffect.THROTTLED,
            reply_class="rate_limited",
            delivered=delivered,
            throttled=5,
        )
        standing, _ = LAW.decide(standing, signal)
    # The first refusals were told while ten mails had no answer yet; what comes half a minute later is of another time.
    assert (standing.per_minute, standing.ceiling) == (7.0, 20.0)


def test_a_limit_ends_also_where_nothing_at_all_is_sent_for_hours() -> None:
    isp = RateLimit(20)
    world = World(isp)
    world.run(3)
    ends_at, before = world.decisions[-1].ends_at or 0, len(world.decisions)
    world.demand, isp.per_minute = 0, None
    world.run(9 * 60)
    assert world.now > ends_at > 0
    assert len(world.decisions) == before
    world.demand = 600
    world.run(1)
    # Nobody waited for the law to say so: the couriers knew when it would end.
    assert sum(next(world.minutes(9 * 60 + 3, 9 * 60 + 4))) > 500
    [decision] = world.decisions[before:]
    assert (decision.action, decision.per_minute) == (PaceAction.LIFTED, None)


def test_a_limit_that_comes_after_a_long_time_of_full_speed_is_found_from_what_was_delivered() -> None:
    isp = RateLimit(None)
    world = World(isp, demand=1200)
    world.run(20)
    assert world.decisions == []
    assert world.signals == []
    isp.per_minute = 900
    isp.taken.clear()
    world.run(10)
    first = world.decisions[0]
    assert first.action is PaceAction.LOWERED
    assert first.per_minute is not None
    assert 0.6 * 900 <= first.per_minute <= 900
    assert all(delivered >= 0.6 * 900 for delivered, _ in world.minutes(22, 30))


def test_a_limit_on_connections_lowers_connections_and_not_the_rate() -> None:
    def four(at: int, connections: int) -> Answer:
        return TAKEN if connections <= 4 or at % 3 else CROWDED

    world = World(four)
    world.run(120)
    assert all(one.per_minute is None for one in world.decisions)
    # It ends at the limit, and stays there but for some tries that get rarer.
    assert [one.connections for one in world.decisions[:4]] == [5, 2, 3, 4]
    assert sum(refused for _, refused in world.minutes(5, 120)) < 0.01 * sum(d for d, _ in world.minutes(5, 120))


def test_a_few_refusals_among_thousands_change_nothing() -> None:
    chance = random.Random(3)
    world = World(lambda at, connections: TOO_FAST if chance.random() < 0.02 else TAKEN, demand=2000)
    world.run(30)
    assert len(world.signals) > 100
    assert world.decisions == []


def test_refusals_one_by_one_change_nothing_however_many_of_all_they_are() -> None:
    world = World(lambda at, connections: TOO_FAST, demand=0.8)
    world.run(30)
    assert world.decisions == []


@pytest.mark.parametrize(
    "answer",
    [
        refusal(451, "greylisted"),
        refusal(421, "greylisted"),
        refusal(452, "mailbox_full"),
        refusal(550, "recipient_unknown"),
        refusal(554, "content_spam"),
        refusal(550, "auth_failed"),
        refusal(0, "network", "connect"),
    ],
    ids=lambda answer: f"{answer[1].code} {answer[1].reply_class}",
)
def test_what_is_about_one_mailbox_or_one_mail_slows_nobody(answer: Answer) -> None:
    world = World(lambda at, connections: answer)
    world.run(10)
    assert (world.signals, world.decisions) == ([], [])


def test_refusals_without_a_clear_reason_count_only_when_they_are_many() -> None:
    doubtful, chance = refusal(451, "system"), random.Random(4)
    few = World(lambda at, connections: doubtful if chance.random() < 0.15 else TAKEN)
    few.run(20)
    assert few.decisions == []
    many = World(lambda at, connections: doubtful if chance.random() < 0.6 else TAKEN)
    many.run(5)
    assert many.decisions[0].action is PaceAction.LOWERED


def test_an_outage_of_the_provider_is_not_remembered_for_long() -> None:
    answers = [refusal(451, "system")]
    world = World(lambda at, connections: answers[0])
    world.run(20)
    assert world.decisions[-1].per_minute == SETTINGS.least_per_minute
    answers[0] = TAKEN
    world.run(40)
    assert world.decisions[-1].action is PaceAction.LIFTED


def test_a_block_suspends_for_twice_as_long_each_time_and_then_begins_slowly() -> None:
    answers = [BLOCKED]
    world = World(lambda at, connections: answers[0])
    world.run(120)
    suspended = [one for one in world.decisions if one.action is PaceAction.SUSPENDED]
    lengths = [((one.suspended_until or 0) - one.at) / MINUTE for one in suspended]
    assert lengths[:3] == [15, 30, 60]
    # Only what was under way when the suspension began, and the few that ask whether it is over.
    assert sum(refused for _, refused in world.minutes(1, 120)) < 120
    answers[0] = TAKEN
    world.run(180)
    actions = world.actions()
    resumed = len(actions) - 1 - actions[::-1].index(PaceAction.RESUMED)
    after = world.decisions[resumed]
    assert after.suspended_until is None
    assert after.per_minute is not None
    assert after.per_minute <= 60
    assert actions[-1] is PaceAction.LIFTED


def test_a_block_of_some_mails_suspends_nobody() -> None:
    chance = random.Random(5)
    world = World(lambda at, connections: refusal(550, "policy") if chance.random() < 0.1 else TAKEN)
    world.run(30)
    assert world.decisions == []


def test_a_few_mails_refused_for_what_they_are_suspend_nobody() -> None:
    world = World(lambda at, connections: BLOCKED, demand=3)
    world.run(30)
    assert world.decisions == []


def test_suspensions_have_a_longest() -> None:
    world = World(lambda at, connections: BLOCKED)
    world.run(60 * 24)
    lengths = [((one.suspended_until or 0) - one.at) for one in world.decisions if one.action is PaceAction.SUSPENDED]
    assert max(lengths) == SETTINGS.longest_suspend_seconds * 1000


def test_an_order_ends_a_suspension_and_every_limit() -> None:
    world = World(lambda at, connections: BLOCKED)
    world.run(5)
    order = PaceSignal(
        event_id="order", pool="shared", provider="isp", at=world.now, effect=PaceEffect.ORDER, by="carla"
    )
    standing, decision = LAW.decide(world.standing, order)
    assert decision is not None
    assert (decision.action, decision.suspended_until, decision.per_minute) == (PaceAction.LIFTED, None, None)
    assert "carla" in decision.explanation
    assert not standing.limited


def test_a_limit_that_nobody_renews_ends_by_itself() -> None:
    world = World(RateLimit(20))
    world.run(3)
    limited = world.decisions[-1]
    assert limited.ends_at is not None
    late = replace(world.signals[-1], event_id="late", at=limited.ends_at, effect=PaceEffect.DELIVERED)
    _, decision = LAW.decide(world.standing, late)
    assert decision is not None
    assert decision.action is PaceAction.LIFTED


def test_each_decision_names_the_answers_that_led_to_it() -> None:
    world = World(RateLimit(20))
    world.run(60)
    refused = {signal.event_id for signal in world.signals if signal.effect is not PaceEffect.DELIVERED}
    for decision in world.decisions:
        assert 0 < len(decision.causes) <= MOST_CAUSES
        assert {cause.event_id for cause in decision.causes} & refused
        if decision.action is PaceAction.LOWERED:
            assert {cause.reply_class for cause in decision.causes} == {"rate_limited"}
            assert decision.reason == "rate_limited"


def test_a_replay_gives_the_same_decisions_also_when_signals_were_said_twice() -> None:
    world = World(RateLimit(20))
    world.run(60)
    assert replayed(LAW, world.signals) == world.decisions
    twice = [one for number, signal in enumerate(world.signals) for one in (signal, world.signals[number // 2])]
    assert replayed(LAW, twice) == world.decisions


_COUNTS = st.integers(0, 500)
_SIGNALS = st.builds(
    PaceSignal,
    event_id=st.uuids().map(str),
    pool=st.just("p"),
    provider=st.just("isp"),
    at=st.integers(0, 40 * 3_600_000).map(lambda after: START + after),
    effect=st.sampled_from(list(PaceEffect)),
    reply_class=st.sampled_from(["rate_limited", "reputation", ""]),
    delivered=_COUNTS,
    throttled=_COUNTS,
    crowded=_COUNTS,
    doubtful=_COUNTS,
    blocked=_COUNTS,
    source_partition=st.integers(0, 3),
    source_partitions=st.just(4),
)


@given(st.lists(_SIGNALS, max_size=40))
@settings(max_examples=100, deadline=None)
def test_whatever_comes_the_pace_stays_within_bounds_and_in_a_table(signals: list[PaceSignal]) -> None:
    standing, decisions = Standing(), list[PaceState]()
    for signal in signals:
        # A table keeps what JSON keeps.
        standing = Standing.from_plain(json.loads(json.dumps(standing.to_plain())))
        standing, decision = LAW.decide(standing, signal)
        decisions += [decision] if decision else []
        assert standing.per_minute is None or standing.per_minute >= SETTINGS.least_per_minute
        assert standing.connections is None or 1 <= standing.connections <= CONNECTIONS
        assert standing.suspended_until <= standing.now + SETTINGS.longest_suspend_seconds * 1000
        assert standing.limited == (standing.ends_at > 0)
    for earlier, later in itertools.pairwise(decisions):
        # One direction never twice within a window; only what is free again may be lowered at once.
        if earlier.action is later.action and later.action in (PaceAction.LOWERED, PaceAction.RAISED):
            assert later.at - earlier.at >= MINUTE
    assert len({one.decision_id for one in decisions}) == len(decisions)


def test_couriers_that_are_late_do_not_bring_the_rate_down_twice() -> None:
    assert OBEY_MS < MINUTE / 4
    world = World(RateLimit(100), demand=3000)
    world.run(2)
    assert world.actions().count(PaceAction.LOWERED) == 1


def test_the_shards_of_a_route_share_its_pace() -> None:
    pace = Pace(per_minute=90.0, connections=5, suspended_until=7, reason="rate_limited")
    part = pace.part(3)
    assert (part.per_minute, part.connections, part.suspended_until, part.reason) == (30.0, 1, 7, "rate_limited")
    assert pace.part(8).connections == 1
    assert pace.part(1) is pace
    assert UNLIMITED.part(4) is UNLIMITED
