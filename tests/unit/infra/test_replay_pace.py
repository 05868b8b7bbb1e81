"""What `depesche replay pace --verify` takes for a difference, and what it leaves alone."""

from dataclasses import replace

from depesche.analytics.pace.log import Told
from depesche.infra.cli.replay import differences, judged_from
from depesche.streams.mail.pace import Law, replayed
from tests.unit.streams.pace_world import CONNECTIONS, SETTINGS, RateLimit, World

LAW = Law(SETTINGS, CONNECTIONS)


def _told() -> Told:
    world = World(RateLimit(20))
    world.run(30)
    newest = {(one.pool, one.provider): one for one in world.decisions}
    return Told(world.signals, True, world.decisions, newest)


def test_what_was_decided_is_what_the_signals_say() -> None:
    told = _told()
    assert len(told.history) > 5
    assert differences(replayed(LAW, told.signals), told) == []


def test_every_kind_of_difference_is_found() -> None:
    told = _told()
    again = replayed(LAW, told.signals)
    changed = [replace(told.history[0], per_minute=99.0), *told.history[1:]]
    found = differences(again, replace(told, history=changed))
    assert [row["difference"] for row in found] == ["not the same in the replay"]
    found = differences(again, replace(told, history=told.history[:2] + told.history[3:]))
    assert [row["difference"] for row in found] == ["not in the history"]
    invented = replace(told.history[2], decision_id="invented")
    found = differences(again, replace(told, history=[*told.history[:2], invented, *told.history[2:]]))
    assert [row["difference"] for row in found] == ["not in the replay"]
    found = differences(again, replace(told, newest={}))
    assert [row["difference"] for row in found] == ["not the newest in mail.pace"]
    # A signal less, and what follows from it is different.
    assert differences(replayed(LAW, told.signals[4:]), told)


def test_what_cannot_be_judged_is_left_out() -> None:
    told = _told()
    horizon = round((SETTINGS.memory_seconds + SETTINGS.limit_seconds) * 1000)
    assert judged_from(SETTINGS, told, LAW.name) == 0
    assert judged_from(SETTINGS, replace(told, whole=False), LAW.name) == told.signals[0].at + horizon
    other = Law(SETTINGS.model_copy(update={"cut": 0.5}), CONNECTIONS)
    since = judged_from(SETTINGS, told, other.name)
    assert since == told.history[-1].at + horizon
    assert differences(replayed(other, told.signals), told)
    assert differences(replayed(other, told.signals), told, since) == []
