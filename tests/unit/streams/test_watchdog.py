"""The watchdog ends a runner that stands still, and only that."""

import asyncio
import subprocess
import sys

import pytest
from aiokafka.structs import TopicPartition

from depesche.schemas.errors import LogUnavailableError
from depesche.streams.runner.watchdog import EXIT_STALLED, StalledError, Watchdog

JOBS = TopicPartition("mail.jobs", 0)


class Log:
    """A log whose lag is known, and how often somebody asked."""

    def __init__(self, lag: int | None) -> None:
        self.behind = lag
        self.asked = asyncio.Event()

    async def lag(self) -> int:
        self.asked.set()
        if self.behind is None:
            raise LogUnavailableError("gone")
        return self.behind


async def _outcome(watchdog: Watchdog, log: Log) -> BaseException | None:
    """How the watch ends once the witness was asked and had time to be believed."""
    watch = asyncio.create_task(watchdog.watch())
    asked = asyncio.create_task(log.asked.wait())
    await asyncio.wait({watch, asked}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({watch}, timeout=0.2)
    asked.cancel()
    watch.cancel()
    return (await asyncio.gather(watch, return_exceptions=True))[0]


async def test_work_that_waits_while_nothing_moves_ends_the_run() -> None:
    log = Log(3)
    outcome = await _outcome(Watchdog(lambda: {JOBS: 5}, log, lambda: None, 0.05), log)
    assert isinstance(outcome, StalledError)
    assert "3 records" in str(outcome)


async def test_an_idle_runner_is_left_alone() -> None:
    log = Log(0)
    outcome = await _outcome(Watchdog(lambda: {JOBS: 5}, log, lambda: None, 0.05), log)
    assert isinstance(outcome, asyncio.CancelledError)


async def test_a_broker_that_does_not_answer_is_not_the_runners_fault() -> None:
    log = Log(None)
    outcome = await _outcome(Watchdog(lambda: {JOBS: 5}, log, lambda: None, 0.05), log)
    assert isinstance(outcome, asyncio.CancelledError)


@pytest.mark.parametrize("waiting", ["the scanner is down", None])
async def test_who_waits_or_moves_is_never_asked_about(waiting: str | None) -> None:
    log = Log(3)
    turns = 0

    def committed() -> dict[TopicPartition, int]:
        nonlocal turns
        turns += 1
        return {JOBS: turns if waiting is None else 5}

    watch = asyncio.create_task(Watchdog(committed, log, lambda: waiting, 0.05).watch())
    while turns < 20:
        await asyncio.sleep(0.01)
    watch.cancel()
    assert not log.asked.is_set()


def test_a_loop_that_does_not_turn_is_ended_from_outside() -> None:
    program = """
import asyncio, time
from depesche.streams.runner.watchdog import Watchdog
async def main():
    watch = asyncio.create_task(Watchdog(dict, None, lambda: None, 0.2).watch())
    await asyncio.sleep(0.1)
    time.sleep(60)
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False)
    assert ended.returncode == EXIT_STALLED
    assert b"loop_stood_still" in ended.stderr
