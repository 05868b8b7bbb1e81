"""The stricter of shaping file, pace and restraint holds for a route; couriers pass in turn."""

import asyncio
from dataclasses import replace

import pytest

from depesche.schemas.pace import UNLIMITED, Pace
from depesche.schemas.reply_classes import ReplyClass
from depesche.streams.mail.reply import Judgement
from depesche.streams.mail.shaping.shape import Shape
from depesche.streams.stages.terms import Guidance, RouteTerms
from depesche.streams.stages.turnstile import Turnstile

SHAPE = Shape("gmail", 20, 600.0, 50, ("1m",))


class World:
    """Shapes, a pace and a clock to be set."""

    def __init__(self) -> None:
        self.shape, self.now, self.decided = SHAPE, 100.0, UNLIMITED

    def pace(self, pool: str, provider: str) -> Pace:
        assert (pool, provider) == ("vip", "gmail")
        return self.decided

    def terms(self) -> RouteTerms:
        return RouteTerms("vip/gmail/0", Guidance(lambda _: self.shape, self), 1.0, lambda: 1_000_000, lambda: self.now)


def test_the_stricter_of_shape_and_pace_holds() -> None:
    world = World()
    terms = world.terms()
    assert (terms.connections, terms.turnstile.interval) == (20, pytest.approx(0.1))
    world.decided = Pace(per_minute=60.0, connections=30)
    terms.refresh()
    assert (terms.connections, terms.turnstile.interval) == (20, pytest.approx(1.0))
    world.decided = Pace(per_minute=6000.0, connections=3)
    terms.refresh()
    assert (terms.connections, terms.turnstile.interval) == (3, pytest.approx(0.1))


def test_shards_share_what_a_provider_allows() -> None:
    world = World()
    world.shape = replace(SHAPE, shards=4)
    terms = world.terms()
    assert (terms.connections, terms.turnstile.interval) == (5, pytest.approx(0.4))


def test_a_suspension_by_the_pace_ends_when_it_says() -> None:
    world = World()
    world.decided = Pace(suspended_until=1_030_000, reason="reputation")
    terms = world.terms()
    assert terms.suspended_for(100.0) == pytest.approx(30)
    assert terms.reason == "reputation"
    assert terms.suspended_for(130.5) == 0


def test_an_answer_for_the_rate_makes_it_stricter_at_once() -> None:
    world = World()
    terms = world.terms()
    for _ in range(30):
        terms.learn(Judgement("delivered", "", "", "2.0.0"), 250)
    assert terms.learn(Judgement("deferred", ReplyClass.RATE_LIMITED, "soft", "4.7.0"), 421)
    assert terms.turnstile.interval == pytest.approx(60 / 24)
    assert not terms.turnstile.passes()
    assert not terms.learn(Judgement("deferred", ReplyClass.NETWORK, "soft", "4.4.1"), 0)


async def test_who_waits_passes_in_the_order_of_coming_and_at_the_rate() -> None:
    loop = asyncio.get_running_loop()
    turnstile = Turnstile(50.0, loop.time)
    while turnstile.passes():
        pass
    came: list[int] = []

    async def courier(number: int) -> None:
        await turnstile.turn()
        came.append(number)

    begun = loop.time()
    tasks = [asyncio.create_task(courier(number)) for number in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    assert not turnstile.passes()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert came == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert loop.time() - begun >= 0.15


async def test_a_higher_rate_wakes_those_who_wait_for_the_lower_one() -> None:
    turnstile = Turnstile(1 / 600, asyncio.get_running_loop().time)
    assert turnstile.passes()
    waiting = asyncio.create_task(turnstile.turn())
    await asyncio.sleep(0)
    turnstile.set_rate(None)
    async with asyncio.timeout(5):
        await waiting
