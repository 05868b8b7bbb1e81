"""Runs one or several services in one process, and ends the process when one of them cannot go on.

A half-dead process is worse than a dead one: it holds partitions it does not work on. So the first service that fails (or
returns by itself) takes the process down with exit code 70, nothing is committed past the fault, and whoever supervises
starts it again. Readiness is a file, because a file needs no port, no client and no guess.
"""

from __future__ import annotations

import asyncio
import cProfile
import ctypes
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import structlog
import uvloop

from depesche.schemas.errors import DepescheError
from depesche.schemas.service import Service

_MALLOC: Final = ((-3, 4 << 20), (-1, 64 << 20), (-2, 4 << 20))
"""mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD."""
EXIT_FAILED = 70
"""A service failed (EX_SOFTWARE of sysexits.h): starting again may help."""
EXIT_SETUP = 78
"""The machine or the configuration is not as needed (EX_CONFIG): starting again does not help."""

Build = Callable[[AsyncExitStack], Awaitable[Sequence[Service]]]
"""Makes the services and puts what must be closed at the end on the stack."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunFile:
    """``<home>/run/<process>.json``: says that a process is ready, and who it is."""

    path: Path

    @classmethod
    def of(cls, home: Path, process: str) -> RunFile:
        """The file of the process named ``process``."""
        return cls(home / "run" / f"{process}.json")

    def publish(self, services: Sequence[str]) -> None:
        """Say that this process is ready."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".new")
        content = {"pid": os.getpid(), "services": list(services), "ready_at": int(time.time() * 1000)}
        draft.write_bytes(orjson.dumps(content))
        draft.replace(self.path)

    def pid(self) -> int | None:
        """The process that published it, or None where nobody did."""
        try:
            return int(orjson.loads(self.path.read_bytes())["pid"])
        except (OSError, ValueError, KeyError):
            return None

    def ready_at(self) -> int | None:
        """When it became ready, in milliseconds since 1970 UTC; None where nobody did."""
        try:
            return int(orjson.loads(self.path.read_bytes())["ready_at"])
        except (OSError, ValueError, KeyError):
            return None

    def withdraw(self) -> None:
        """Take it away if it is this process's own."""
        if self.pid() == os.getpid():
            self.path.unlink(missing_ok=True)


def host(build: Build, run_file: RunFile, profile: Path | None = None) -> int:
    """Run the services that ``build`` makes until SIGTERM or SIGINT; gives the exit code.

    The first signal cancels the services, which then finish what they must; the second ends the process at once.

    Args:
        build: makes the services.
        run_file: where to say that they are ready.
        profile: file for a profile (``pstats``) of the loop's thread, written at the end; None: none is taken.

    Raises:
        DepescheError, OSError: what ``build`` could not do; nothing has run then.
    """
    _keep_memory()
    if profile is None:
        return uvloop.run(_until_signal(build, run_file))
    profiler = cProfile.Profile()
    try:
        return profiler.runcall(uvloop.run, _until_signal(build, run_file))
    finally:
        profile.parent.mkdir(parents=True, exist_ok=True)
        profiler.dump_stats(profile)


def _keep_memory() -> None:
    """Have the C library keep what is freed, where it is glibc.

    Else each buffer of more than 128 KB is asked of the kernel and given back, and a large mail passes through a dozen of them:
    the faults on their first touch cost more than what is done with them (three times, for the parts of a mail of 200 KB).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in _MALLOC:
            mallopt(option, value)


async def _until_signal(build: Build, run_file: RunFile) -> int:
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(_run(build, run_file), name="host")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, work)
    try:
        return await work
    except asyncio.CancelledError:
        return 0
    finally:
        run_file.withdraw()


def _stop(work: asyncio.Task[int]) -> None:
    if work.cancelling():
        log.warning("ended at once by a second signal")
        os._exit(EXIT_FAILED)
    work.cancel()


async def _run(build: Build, run_file: RunFile) -> int:
    async with AsyncExitStack() as stack:
        services = await build(stack)
        waiting = {service.name for service in services}
        tasks = [
            asyncio.create_task(service.run(_marker(service.name, waiting, run_file, services)), name=service.name)
            for service in services
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Reached by a signal as well: the services get one cancellation each and the time they need.
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                _tell(task)
        return EXIT_FAILED if done else 0


def _marker(name: str, waiting: set[str], run_file: RunFile, services: Sequence[Service]) -> Callable[[], None]:
    def ready() -> None:
        if name not in waiting:
            return
        waiting.discard(name)
        log.info("service is ready", service=name)
        if not waiting:
            # What is alive now lives as long as the process: the collector need never look at it again.
            gc.collect()
            gc.freeze()
            # What comes and goes holds no cycles: seldom is enough. So measured under load, it takes a hundredth of the time.
            gc.set_threshold(50_000, 20, 20)
            run_file.publish([service.name for service in services])

    return ready


def _tell(task: asyncio.Task[None]) -> None:
    if task.cancelled():
        return
    fault = task.exception()
    if fault is None:
        log.error("service ended by itself", service=task.get_name())
    elif isinstance(fault, DepescheError):
        log.error("service failed", service=task.get_name(), code=fault.code, reason=str(fault))
    else:
        log.error("service failed", service=task.get_name(), reason=str(fault) or type(fault).__name__, exc_info=fault)
