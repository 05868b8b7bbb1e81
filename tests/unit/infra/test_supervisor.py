"""The supervisor with real processes: small Python programs that wait, die or refuse to end."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from depesche.infra.local.fault import LocalFault
from depesche.infra.local.supervisor import Notice, Program, Supervisor

WAIT = "import time; time.sleep(60)"
DIES = "import sys; print('the disk is full', file=sys.stderr); sys.exit(3)"


def program(
    name: str, code: str, *, after: tuple[str, ...] = (), marker: Path | None = None, stop: float = 5
) -> Program:
    async def ready(pid: int) -> None:
        while marker is not None and not marker.exists():
            await asyncio.sleep(0.01)

    return Program(name, lambda: [sys.executable, "-I", "-S", "-c", code], ready, after=after, stop_seconds=stop)


def touching(marker: Path, code: str) -> str:
    return f"open({str(marker)!r}, 'w').close(); {code}"


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


async def test_programs_stop_in_the_reverse_order_of_what_they_need(tmp_path: Path) -> None:
    notices: list[Notice] = []
    supervisor = Supervisor(tmp_path, notices.append)
    await supervisor.start(program("broker", WAIT))
    await supervisor.start(program("door", WAIT, after=("broker",)))
    pids = supervisor.pids()
    await supervisor.stop()
    assert [notice.program for notice in notices if notice.state == "stopped"] == ["door", "broker"]
    assert not any(alive(pid) for pid in pids.values())


async def test_a_dead_program_is_started_again_and_its_last_words_are_told(tmp_path: Path) -> None:
    notices: list[Notice] = []
    marker = tmp_path / "up"
    supervisor = Supervisor(tmp_path, notices.append)
    try:
        code = f"import sys; print('no room left', file=sys.stderr, flush=True); {WAIT}"
        await supervisor.start(program("sink", touching(marker, code), marker=marker))
        first = supervisor.pids()["sink"]
        await until(lambda: "no room left" in supervisor.log_file("sink").read_text())
        os.kill(first, signal.SIGKILL)
        await until(lambda: [notice.state for notice in notices].count("ready") == 2)
        assert supervisor.pids()["sink"] != first
        died = next(notice for notice in notices if notice.state == "died")
        assert died.detail == "killed by SIGKILL: no room left"
    finally:
        await supervisor.stop()


async def test_a_program_that_ends_at_once_fails_the_start_with_its_reason(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, lambda notice: None)
    try:
        with pytest.raises(LocalFault, match="exit code 3: the disk is full"):
            await supervisor.start(program("sink", DIES, marker=tmp_path / "never"))
    finally:
        await supervisor.stop()


async def test_a_program_that_ignores_sigterm_is_killed_after_its_time(tmp_path: Path) -> None:
    notices: list[Notice] = []
    marker = tmp_path / "up"
    supervisor = Supervisor(tmp_path, notices.append)
    stubborn = f"import signal; signal.signal(15, signal.SIG_IGN); {touching(marker, WAIT)}"
    await supervisor.start(program("stubborn", stubborn, marker=marker, stop=0.2))
    pid = supervisor.pids()["stubborn"]
    await supervisor.stop()
    assert not alive(pid)
    assert notices[-1].state == "killed"


def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    pid_file = tmp_path / "child.pid"
    child = f"import os; open({str(pid_file)!r}, 'w').write(str(os.getpid())); {WAIT}"
    script = f"""
import asyncio, sys
from pathlib import Path
from depesche.infra.local.supervisor import Program, Supervisor
async def main():
    supervisor = Supervisor(Path({str(tmp_path)!r}), lambda notice: None)
    async def ready(pid):
        while not Path({str(pid_file)!r}).exists() or not Path({str(pid_file)!r}).read_text():
            await asyncio.sleep(0.01)
    await supervisor.start(Program("child", lambda: [sys.executable, "-I", "-S", "-c", {child!r}], ready))
    print("up", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "up\n"
    child_pid = int(pid_file.read_text())
    assert alive(child_pid)
    process.kill()
    process.wait(10)
    deadline = time.monotonic() + 20
    while alive(child_pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child_pid)
