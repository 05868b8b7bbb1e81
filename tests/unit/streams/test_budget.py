"""The bytes that prepare holds are bounded, in order of arrival, and nobody is stuck for ever."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.streams.stages.budget import Budget

LIMIT = 100


async def _run(sizes: list[int], cancelled: set[int]) -> list[int]:
    """Let holders of ``sizes`` through, cancel some; gives who got in, in order."""
    budget, order = Budget(LIMIT), list[int]()
    held = 0

    async def hold(number: int, size: int) -> None:
        nonlocal held
        async with budget.of(size):
            order.append(number)
            held += size
            # One that is larger than everything is let in alone.
            assert held <= LIMIT or held == size
            try:
                await asyncio.sleep(0)
            finally:
                held -= size

    tasks = [asyncio.create_task(hold(number, size)) for number, size in enumerate(sizes)]
    await asyncio.sleep(0)
    for number in cancelled:
        tasks[number % len(tasks)].cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    return order


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 150), min_size=1, max_size=30))
def test_all_get_in_as_they_came_and_never_too_much_at_once(sizes: list[int]) -> None:
    order = asyncio.run(_run(sizes, set()))
    assert order == list(range(len(sizes)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=20), st.integers(0, 19))
def test_one_who_gives_up_while_waiting_takes_nothing_with_him(sizes: list[int], number: int) -> None:
    order = asyncio.run(_run(sizes, {number}))
    missing = set(range(len(sizes))) - set(order)
    assert missing <= {number % len(sizes)}
    assert order == sorted(order)


async def test_an_exception_gives_the_bytes_back() -> None:
    budget = Budget(LIMIT)
    try:
        async with budget.of(LIMIT):
            raise KeyError
    except KeyError:
        pass
    async with asyncio.timeout(5), budget.of(LIMIT):
        pass
