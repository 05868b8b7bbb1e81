"""A start as a set of steps, each begun as soon as all it needs are done: as fast as the machine allows, in an order that
holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from depesche.infra.local.board import Board


@dataclass(frozen=True, slots=True)
class Step:
    """One step: ``action`` does it and gives a short remark for the board."""

    name: str
    title: str
    action: Callable[[], Awaitable[str]]
    after: tuple[str, ...] = ()


async def perform(steps: Sequence[Step], board: Board) -> None:
    """Do all steps; the first that fails cancels the others and its exception is raised."""
    done = {step.name: asyncio.Event() for step in steps}

    async def run(step: Step) -> None:
        for need in step.after:
            await done[need].wait()
        board.begin(step.name, step.title)
        try:
            remark = await step.action()
        except asyncio.CancelledError:
            raise
        except BaseException:
            board.failed(step.name)
            raise
        board.done(step.name, remark)
        done[step.name].set()

    tasks = [asyncio.create_task(run(step), name=step.name) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
