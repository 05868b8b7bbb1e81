"""The whole stack as ``depesche up`` starts it, once per session, on a home and ports of its own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from depesche.infra.load import load
from depesche.infra.local import sandbox
from depesche.infra.local.fault import LocalFault
from depesche.infra.local.reservations import require_all_free, reservations
from depesche.infra.local.seed import Demo, demo_file
from depesche.infra.local.sink.mailbox import list_mails, read_mail
from depesche.schemas.settings import Settings

CHECKOUT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).with_name("depesche"))
START_SECONDS = 240


@dataclass
class Stack:
    """A running ``depesche up``."""

    home: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    settings: Settings
    demo: Demo

    def depesche(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """A command of ours against this stack."""
        return subprocess.run(
            [COMMAND, *arguments], env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
        )

    def programs(self) -> dict[str, dict[str, Any]]:
        """State and process id of each program, as the supervisor has them."""
        return dict(json.loads((self.home / "run" / "up.json").read_text())["programs"])

    def pids(self) -> dict[str, int]:
        """Process id of each program that runs now."""
        return {name: program["pid"] for name, program in self.programs().items() if program["pid"]}

    @property
    def printed(self) -> str:
        """What `depesche up` has told the person at the terminal."""
        return (self.home.parent / "up.log").read_text()

    def rest(self, body: Mapping[str, object], **headers: str) -> httpx.Response:
        """POST /v1/emails."""
        authorised = {"Authorization": f"Bearer {self.demo.api_key}", **headers}
        return httpx.post(f"{self.settings.rest_url}/v1/emails", json=body, headers=authorised, timeout=30)

    def arrived(self, recipient: str, seconds: float = 60) -> bytes:
        """The newest mail for ``recipient`` as it arrived at Postfix or at the scripted mailbox.

        Raises:
            AssertionError: none came in time.
        """
        folders = [sandbox.sink_settings(self.settings).mailbox, sandbox.postfix(self.settings).settings.maildir]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for folder in folders:
                for mail in list_mails(folder) if folder.exists() else ():
                    if recipient in mail.recipients:
                        return read_mail(folder, mail.id)[1]
            time.sleep(0.1)
        raise AssertionError(f"no mail for {recipient} arrived")

    def tails(self) -> str:
        """The ends of all logs, for the person who reads a failure."""
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in sorted((self.home / "log").iterdir())
        )


def _free_offset(home: Path) -> int:
    """A port offset at which every port of the stack is free now, below those that outgoing connections take."""
    while True:
        offset = random.randrange(6_000, 13_000, 10)
        settings = load({"DEPESCHE_HOME": str(home), "DEPESCHE_PORT_OFFSET": str(offset)}).settings
        with contextlib.suppress(LocalFault):
            require_all_free(reservations(settings, with_postfix=True, with_clamd=True))
            return offset


def _environment(home: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DEPESCHE_")}
    return {
        **clean,
        "DEPESCHE_HOME": str(home),
        "DEPESCHE_PORT_OFFSET": str(_free_offset(home)),
        "DEPESCHE_DELIVER__TIME_SCALE": "0.02",
        "DEPESCHE_SANDBOX__ENABLED": "true",
    }


def _share_jars(home: Path) -> None:
    """The checkout's jars, so that they are fetched once; each start checks them again."""
    jars = Path(os.environ.get("DEPESCHE_HOME", CHECKOUT / ".depesche")) / "kafka" / "lib"
    if jars.is_dir():
        target = home / "kafka" / "lib"
        target.mkdir(parents=True)
        for jar in jars.iterdir():
            (target / jar.name).symlink_to(jar)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows how the logs of the stack end."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(stack, Stack):
        report.sections.append(("the stack's logs", stack.tails()))
    return report


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, ready to use."""
    home = tmp_path_factory.mktemp("live") / "home"
    home.mkdir()
    _share_jars(home)
    environment = _environment(home)
    output = home.parent / "up.log"
    with output.open("wb") as out:
        process = subprocess.Popen([COMMAND, "up"], env=environment, stdout=out, stderr=out)
    try:
        _until_ready(home, process, output)
        own = {name: value for name, value in environment.items() if name.startswith("DEPESCHE_")}
        settings = load(own).settings
        demo = Demo(**json.loads(demo_file(home).read_text()))
        yield Stack(home, environment, process, settings, demo)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_ready(home: Path, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    state = home / "run" / "up.json"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if state.exists() and (text := state.read_text()) and json.loads(text).get("ready_at"):
            return
        time.sleep(0.2)
    pytest.fail(f"depesche up did not get ready:\n{output.read_text(errors='replace')[-3000:]}")
