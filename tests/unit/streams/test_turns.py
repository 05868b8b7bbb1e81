"""Long work leaves the others their turns of the loop."""

import asyncio

from depesche.streams.runner.turns import Turns


async def test_another_task_gets_a_turn_after_as_many_slices_as_may_be() -> None:
    turns, story = Turns(2), list[str]()

    async def long_work(name: str) -> None:
        async with turns:
            story.append(name)

    async def other() -> None:
        while True:
            story.append("-")
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await asyncio.gather(*(long_work(name) for name in "abcdef"))
    beside.cancel()
    assert [step for step in story if step != "-"] == list("abcdef")
    assert "".join(story).replace("-", " ").split() == ["ab", "cd", "ef"]
