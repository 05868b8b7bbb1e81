"""Large mails share the memory, and no route takes all of it."""

import asyncio

from depesche.streams.stages.content_budget import SMALL, ContentBudget

BIG = SMALL * 10


async def test_small_mails_are_never_held_up() -> None:
    budget = ContentBudget(total=BIG)
    await budget.take("a", BIG)
    async with asyncio.timeout(1):
        await budget.take("b", SMALL)
    budget.give_back("b", SMALL)


async def test_a_route_waits_for_itself_and_not_for_others() -> None:
    budget = ContentBudget(total=BIG * 4)
    await budget.take("a", BIG)
    second = asyncio.create_task(budget.take("a", BIG))
    await asyncio.sleep(0)
    assert not second.done()
    async with asyncio.timeout(1):
        await budget.take("b", BIG)
    budget.give_back("a", BIG)
    await second


async def test_a_mail_larger_than_everything_goes_alone() -> None:
    budget = ContentBudget(total=BIG)
    async with asyncio.timeout(1):
        await budget.take("a", BIG * 100)
    other = asyncio.create_task(budget.take("b", BIG))
    await asyncio.sleep(0)
    assert not other.done()
    budget.give_back("a", BIG * 100)
    await other


async def test_who_is_cancelled_while_waiting_leaves_nothing_behind() -> None:
    budget = ContentBudget(total=BIG)
    await budget.take("a", BIG)
    waiting = asyncio.create_task(budget.take("b", BIG))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    budget.give_back("a", BIG)
    async with asyncio.timeout(1):
        await budget.take("c", BIG)
