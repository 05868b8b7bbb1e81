"""A service of several endless parts ends with the first of them."""

import asyncio

import pytest

from depesche.streams.runner.parts import cancelled, until_one_ends


async def test_what_one_part_raises_is_raised_when_the_others_have_cleaned_up() -> None:
    cleaned: list[str] = []

    async def endless(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(name)

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await until_one_ends(endless("a"), failing(), endless("b"))
    assert sorted(cleaned) == ["a", "b"]


async def test_a_part_that_lost_its_cancellation_is_told_again() -> None:
    told = 0

    async def deaf_once() -> None:
        nonlocal told
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told += 1
                if told > 1:
                    raise

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    await cancelled([task], tell_again_seconds=0.01)
    assert (told, task.cancelled()) == (2, True)


async def test_a_part_that_returns_ends_all() -> None:
    async def done() -> None:
        return

    await until_one_ends(asyncio.Event().wait(), done())
