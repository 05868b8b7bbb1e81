"""Real servers for the contract tests, started once per session on free ports in directories of their own."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from depesche.infra.local import kafka_jars
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
        await broker.ready()
        yield broker
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)
