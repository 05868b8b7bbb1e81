"""``depesche up``: everything on this machine, started in the order of need, watched, and stopped without losing anything."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable

import structlog

from depesche.infra.load import Loaded
from depesche.infra.local.board import Board
from depesche.infra.local.engine_password import with_engine_password
from depesche.infra.local.home_lock import HomeLock
from depesche.infra.local.plan import Plan
from depesche.infra.local.seed import Demo
from depesche.infra.local.steps import perform
from depesche.infra.local.supervisor import Notice, Supervisor

log = structlog.get_logger(__name__)


class Up:
    """One run of the local stack."""

    def __init__(self, loaded: Loaded, board: Board, on_ready: Callable[[Demo | None], None]) -> None:
        """``on_ready`` is called once when everything serves, with the demo's credentials where there is a demo."""
        self._home = loaded.settings.home
        self._settings = loaded.settings
        self._board = board
        self._on_ready = on_ready
        self._lock = HomeLock(self._home)
        self._programs: dict[str, dict[str, object]] = {}
        self._ready_at: int | None = None
        self._supervisor: Supervisor | None = None

    async def run(self) -> None:
        """Start, watch until SIGINT, SIGTERM or SIGHUP, stop.

        Raises:
            LocalFault, SetupError: it cannot start; whatever had been started is stopped again.
        """
        work = asyncio.create_task(self._run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop, work)
        with contextlib.suppress(asyncio.CancelledError):
            await work

    def _stop(self, work: asyncio.Task[None]) -> None:
        # A second signal must not break the ordered stop that the first began.
        if not work.cancelling():
            self._board.say("\nStopping; what was accepted is kept ...")
            work.cancel()

    async def _run(self) -> None:
        await asyncio.to_thread(self._lock.take)
        try:
            self._supervisor = Supervisor(self._home / "log", self._told, self._lock.descriptor)
            try:
                settings = with_engine_password(self._settings)
                plan = Plan(settings, self._supervisor, self._board)
                began = time.monotonic()
                with self._board:
                    await perform(plan.steps(), self._board)
                self._ready_at = int(time.time() * 1000)
                self._publish()
                log.info("up", seconds=round(time.monotonic() - began, 2))
                self._on_ready(plan.demo)
                await asyncio.get_running_loop().create_future()
            finally:
                await self._supervisor.stop()
        finally:
            self._lock.release()

    def _told(self, notice: Notice) -> None:
        log.info("program", program=notice.program, state=notice.state, detail=notice.detail)
        pid = self._supervisor.pids().get(notice.program) if self._supervisor else None
        self._programs[notice.program] = {"state": notice.state, "pid": pid}
        self._publish()
        if notice.state in ("died", "waiting", "killed") or (notice.state == "ready" and self._ready_at):
            said = f"{notice.program} {notice.state}" + (f": {notice.detail}" if notice.detail else "")
            mark = "[green]✓[/]" if notice.state == "ready" else "[yellow]![/]"
            self._board.say(f"{mark} {said}")

    def _publish(self) -> None:
        """Tell `depesche status` what runs."""
        try:
            offset = self._settings.port_offset
            self._lock.write({"ready_at": self._ready_at, "port_offset": offset, "programs": self._programs})
        except OSError as fault:
            # A disk that fills up must not take the supervisor with it: its children have to be started again later.
            log.warning("status not written", reason=fault.strerror)
