"""Real servers for the contract tests, started once per session on free ports in directories of their own."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from depesche.infra.local import kafka_jars
from depesche.infra.local.engine import PASSWORD_VARIABLE
from depesche.infra.local.kafka_broker import KafkaBroker

CHECKOUT = Path(__file__).parents[2]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A function that names a port of the loopback on which nobody listens now."""
    return _free_port


@pytest.fixture(scope="session")
def kafka_home() -> Path:
    """The broker's pinned jars: fetched once per checkout, kept with the rest of its state."""
    home = Path(os.environ.get("DEPESCHE_HOME", CHECKOUT / ".depesche")) / "kafka"
    kafka_jars.fetch(home)
    return home


@pytest_asyncio.fixture(scope="session")
async def kafka_broker(kafka_home: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaBroker]:
    """A running Apache Kafka without topics; `bootstrap_servers` is its address."""
    directory = tmp_path_factory.mktemp("kafka")
    broker = KafkaBroker(kafka_home, directory, port=_free_port(), controller_port=_free_port())
    await asyncio.to_thread(broker.prepare)
    with (directory / "console.log").open("wb") as console:
        process = subprocess.Popen(broker.command(), env=broker.env(), stdout=console, stderr=console)
    try:
        await broker.ready(120)
        yield broker
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


@dataclass
class EngineProcess:
    """The embedded ClickHouse engine in a process of its own; a test may kill it and start it again."""

    directory: Path
    port: int
    user: str = "default"
    password: str = "a password of the tests"
    host: str = "127.0.0.1"
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {**os.environ, PASSWORD_VARIABLE: self.password}
        command = [sys.executable, "-m", "depesche.infra.local.engine", str(self.directory), str(self.port), self.user]
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "console.log").open("ab") as console:
            self.process = subprocess.Popen(command, env=environment, stdout=console, stderr=console)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/ping", trust_env=False).text == "Ok.\n":
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        self.kill()
        raise AssertionError((self.directory / "console.log").read_text())

    def stop(self) -> int:
        """End it in order and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """The embedded ClickHouse engine, running; tables made by a test are the test's to drop."""
    running = EngineProcess(tmp_path_factory.mktemp("engine"), _free_port())
    running.start()
    yield running
    running.stop()


@pytest.fixture
def own_engine(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine for one test only, not started yet."""
    engine = EngineProcess(tmp_path / "engine", _free_port())
    yield engine
    if engine.process is not None and engine.process.poll() is None:
        engine.kill()
