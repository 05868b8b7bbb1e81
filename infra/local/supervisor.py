"""Starts programs, waits until each is truly ready, starts a dead one again, and stops all in the reverse order.

Every child leads a process group of its own: Ctrl-C in the terminal reaches only the supervisor, which then stops the
children in an order that loses nothing, and a child's own children can be ended with it. What happens is told through one
callback, so that the terminal, a log and a test see the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from depesche.infra.local import guardian, last_words
from depesche.infra.local.fault import LocalFault
from depesche.schemas.errors import SetupError

State = Literal["starting", "ready", "died", "waiting", "stopping", "stopped", "killed"]

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
_HEALTHY_SECONDS = 60.0
"""A program that ran for so long begins with the first pause again."""
_LARGEST_LOG = 16 << 20
_FULL_BYTES = 1 << 20


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Program:
    """One child process.

    Attributes:
        name: unique; also the name of its log.
        command: gives the command line; asked before every start.
        ready: returns once the process with the given id serves; raises LocalFault when it will not.
        after: programs that must be ready first and are stopped later.
        prepare: writes what the program needs; runs in a thread before every start.
        environment: the whole environment, or None for this process's own.
        complaint: what the program's own log says about its end, where that is not the log we keep.
        clean_exits: exit codes that mean an ordered end.
        stop_seconds: how long it has between SIGTERM and SIGKILL.
    """

    name: str
    command: Callable[[], Sequence[str]]
    ready: Callable[[int], Awaitable[None]]
    after: tuple[str, ...] = ()
    prepare: Callable[[], None] = _nothing
    environment: Callable[[], Mapping[str, str]] | None = None
    complaint: Callable[[], str | None] = _nothing
    clean_exits: tuple[int, ...] = (0, -signal.SIGTERM)
    stop_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to a program; ``detail`` is a clause for people."""

    program: str
    state: State
    detail: str = ""


@dataclass(slots=True)
class _Kept:
    program: Program
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = 0
    log_start: int = 0


class Supervisor:
    """All children of one ``depesche up``."""

    def __init__(self, log_directory: Path, tell: Callable[[Notice], None], lock_descriptor: int = -1) -> None:
        """Children write to ``log_directory/<name>.log``; the guardian holds ``lock_descriptor`` as long as they live."""
        self._logs = log_directory
        self._tell = tell
        self._kept: dict[str, _Kept] = {}
        self._stopping = False
        keep = (lock_descriptor,) if lock_descriptor >= 0 else ()
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", guardian.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=keep,
            start_new_session=True,
        )
        log_directory.mkdir(parents=True, exist_ok=True)

    def log_file(self, name: str) -> Path:
        """Where the program called ``name`` writes."""
        return self._logs / f"{name}.log"

    def pids(self) -> dict[str, int]:
        """Process ids of the children that run now."""
        return {
            name: kept.process.pid
            for name, kept in self._kept.items()
            if kept.process is not None and kept.process.returncode is None
        }

    async def start(self, program: Program) -> None:
        """Start a program and wait until it is ready; from then on it is started again whenever it dies.

        Raises:
            LocalFault, SetupError: it does not come up; its last words are in the text. It has been stopped then.
        """
        kept = self._kept[program.name] = _Kept(program)
        try:
            await self._launch(kept)
        except BaseException:
            await self._end(kept)
            raise
        kept.keeper = asyncio.create_task(self._keep(kept), name=f"keep {program.name}")

    async def _launch(self, kept: _Kept) -> None:
        program = kept.program
        self._tell(Notice(program.name, "starting"))
        await asyncio.to_thread(program.prepare)
        with self._open_log(kept) as output:
            kept.process = await asyncio.create_subprocess_exec(
                *program.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(program.environment()) if program.environment else None,
                start_new_session=True,
            )
        self._register("+", kept.process.pid)
        exited = asyncio.ensure_future(kept.process.wait())
        ready = asyncio.ensure_future(program.ready(kept.process.pid))
        try:
            await asyncio.wait({exited, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and not ready.cancelled():
                ready.result()
            else:
                self._bury(kept)
                raise LocalFault(
                    f"{program.name} ended at once: {self._why(kept)}.", f"Look at {self.log_file(program.name)}."
                )
        finally:
            for waiter in (exited, ready):
                waiter.cancel()
            await asyncio.gather(exited, ready, return_exceptions=True)
        self._tell(Notice(program.name, "ready"))

    def _open_log(self, kept: _Kept) -> BinaryIO:
        file = self.log_file(kept.program.name)
        if file.exists() and file.stat().st_size > _LARGEST_LOG:
            file.replace(file.with_suffix(".log.1"))
        output = file.open("ab")
        kept.log_start = output.tell()
        return output

    async def _keep(self, kept: _Kept) -> None:
        """Wait for the program's death, and start it again after a pause that grows."""
        pause = FIRST_PAUSE
        while True:
            since = time.monotonic()
            if kept.process is not None:
                await kept.process.wait()
                self._bury(kept)
                self._tell(Notice(kept.program.name, "died", self._why(kept)))
            if time.monotonic() - since > _HEALTHY_SECONDS:
                pause = FIRST_PAUSE
            self._tell(Notice(kept.program.name, "waiting", f"starting again in {pause:g} s"))
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            kept.restarts += 1
            try:
                await self._launch(kept)
            except (LocalFault, SetupError, OSError) as fault:
                # A fault now may be gone after the next pause: the broker may be starting, a disk be cleaned.
                self._tell(Notice(kept.program.name, "died", str(fault)))
                await self._terminate(kept)
                kept.process = None

    def _why(self, kept: _Kept) -> str:
        code = kept.process.returncode if kept.process is not None else None
        if code is None:
            end = "ended"
        elif code < 0:
            end = f"killed by {signal.Signals(-code).name}"
        else:
            end = f"exit code {code}"
        # A program that was killed had no say in it, whatever it had complained about before.
        said = kept.program.complaint() if code is not None and code > 0 else None
        words = said or last_words.of(self.log_file(kept.program.name), kept.log_start)
        if not words and shutil.disk_usage(self._logs).free < _FULL_BYTES:
            # Nobody can write down that there is no room to write.
            words = f"the disk of {self._logs} is full"
        return f"{end}: {words}" if words else end

    def _bury(self, kept: _Kept) -> None:
        """End what a dead program has left behind in its group."""
        if kept.process is not None and kept.process.returncode is not None:
            guardian.send(kept.process.pid, signal.SIGKILL)
            self._register("-", kept.process.pid)

    def _register(self, sign: str, group: int) -> None:
        pipe = self._guardian.stdin
        if pipe is not None and not pipe.closed:
            with contextlib.suppress(BrokenPipeError):
                pipe.write(f"{sign}{group}\n".encode())
                pipe.flush()

    async def stop(self) -> None:
        """Stop every program after all that need it; those that do not end in time are killed."""
        if not self._stopping:
            self._stopping = True
            await asyncio.gather(*(self._stop_after_dependents(kept) for kept in self._kept.values()))
            if self._guardian.stdin is not None:
                self._guardian.stdin.close()
            await asyncio.to_thread(self._guardian.wait)

    async def _stop_after_dependents(self, kept: _Kept) -> None:
        for other in self._kept.values():
            if kept.program.name in other.program.after:
                await other.stopped.wait()
        await self._end(kept)

    async def _end(self, kept: _Kept) -> None:
        if kept.keeper is not None:
            kept.keeper.cancel()
            await asyncio.gather(kept.keeper, return_exceptions=True)
        await self._terminate(kept)
        kept.stopped.set()

    async def _terminate(self, kept: _Kept) -> None:
        process, program = kept.process, kept.program
        if process is None:
            return
        if process.returncode is None:
            self._tell(Notice(program.name, "stopping"))
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), program.stop_seconds)
            except TimeoutError:
                guardian.send(process.pid, signal.SIGKILL)
                await process.wait()
                self._tell(Notice(program.name, "killed", f"it had not ended within {program.stop_seconds:g} s"))
            else:
                clean = process.returncode in program.clean_exits
                self._tell(Notice(program.name, "stopped", "" if clean else self._why(kept)))
        self._bury(kept)
