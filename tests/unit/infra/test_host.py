"""A process lives exactly as long as all its services do, says when it is ready, and lets them finish."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from depesche.infra.host import EXIT_FAILED, RunFile

SCRIPT = """
import asyncio, sys
from pathlib import Path
from depesche.infra import log
from depesche.infra.host import RunFile, host

class Steady:
    name = "steady"
    async def run(self, ready):
        ready()
        print("ready", flush=True)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.05)
            print("tidy", flush=True)

class Faulty:
    name = "faulty"
    async def run(self, ready):
        ready()
        await asyncio.sleep(0.05)
        if sys.argv[2] == "raises":
            raise ValueError("no room for ada@example.org")

async def build(stack):
    stack.callback(lambda: print("closed", flush=True))
    return [Steady(), Faulty()] if sys.argv[2] != "steady" else [Steady()]

log.configure("info", "door")
sys.exit(host(build, RunFile.of(Path(sys.argv[1]), "door")))
"""


def start(home: Path, manner: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(home), manner]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_services_finish_and_tools_close(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path, "steady") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        run_file = RunFile.of(tmp_path, "door")
        assert run_file.pid() == process.pid
        assert json.loads(run_file.path.read_bytes())["services"] == ["steady"]
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
        assert out == "tidy\nclosed\n"
        assert process.returncode == 0
        assert run_file.pid() is None


@pytest.mark.parametrize("manner", ["raises", "returns"])
def test_a_service_that_ends_takes_the_process_along(tmp_path: Path, manner: str) -> None:
    with start(tmp_path, manner) as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == EXIT_FAILED
    assert out.splitlines()[-2:] == ["tidy", "closed"]
    [told] = [line for line in map(json.loads, err.splitlines()) if line["level"] == "error"]
    assert told["service"] == "faulty"
    if manner == "raises":
        assert told["reason"] == "no room for a***@example.org"
    assert RunFile.of(tmp_path, "door").pid() is None
