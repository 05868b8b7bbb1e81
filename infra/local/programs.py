"""The programs of the local stack as the supervisor wants them: how each is started, and how one sees that it serves."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

from depesche.infra.host import RunFile
from depesche.infra.layout import Process
from depesche.infra.local.clamd import Clamd, ClamdSettings
from depesche.infra.local.engine import PASSWORD_VARIABLE
from depesche.infra.local.kafka_broker import CLEAN_EXIT_CODES, KafkaBroker
from depesche.infra.local.part import Part, until
from depesche.infra.local.supervisor import Program
from depesche.schemas.settings import Settings

_READY_SECONDS = 90.0


def kafka(settings: Settings) -> KafkaBroker:
    """The embedded broker of this home."""
    directory = settings.home / "kafka"
    own = settings.kafka
    return KafkaBroker(
        directory, directory / "broker", port=own.port, controller_port=own.controller_port, heap=own.heap
    )


def broker_program(settings: Settings) -> Program:
    """Apache Kafka."""
    broker = kafka(settings)
    return Program(
        "broker",
        broker.command,
        lambda pid: broker.ready(_READY_SECONDS),
        prepare=broker.prepare,
        environment=broker.env,
        complaint=broker.complaint,
        clean_exits=CLEAN_EXIT_CODES,
        stop_seconds=30,
    )


def engine_program(settings: Settings) -> Program:
    """ClickHouse: the embedded engine behind its HTTP interface; the settings have its password."""
    clickhouse = settings.clickhouse
    directory, port = settings.home / "clickhouse", clickhouse.port

    def environment() -> Mapping[str, str]:
        return {**os.environ, PASSWORD_VARIABLE: clickhouse.password.get_secret_value()}

    async def ready(_pid: int) -> None:
        await until("ClickHouse", _READY_SECONDS, lambda: _pongs(port))

    module = "depesche.infra.local.engine"
    command = [sys.executable, "-P", "-m", module, str(directory), str(port), clickhouse.user]
    return Program("engine", lambda: command, ready, environment=environment, stop_seconds=40)


async def _pongs(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b" 200 " in await reader.readline()
    finally:
        writer.close()


def clamd(settings: Settings) -> Clamd:
    """The embedded scanner daemon."""
    return Clamd(ClamdSettings(settings.home / "clamd", port=settings.scan.clamd_port))


def part_program(part: Part, stop_seconds: float = 20) -> Program:
    """A system program of the far side: Postfix, clamd."""
    return Program(
        part.name,
        part.command,
        lambda pid: part.ready(_READY_SECONDS),
        prepare=part.prepare,
        stop_seconds=stop_seconds,
    )


def own_program(process: Process, settings: Settings, overrides: Mapping[str, str], after: tuple[str, ...]) -> Program:
    """A process of ours with its services.

    Args:
        process: name and services.
        settings: where its run file is.
        overrides: environment variables on top of this process's own.
        after: programs it needs.
    """
    run_file = RunFile.of(settings.home, process.name)

    def environment() -> Mapping[str, str]:
        return {**os.environ, "DEPESCHE_HOME": str(settings.home), **overrides}

    async def ready(pid: int) -> None:
        async def published() -> bool:
            return run_file.pid() == pid

        await until(process.name, _READY_SECONDS, published)

    command = [sys.executable, "-P", "-m", "depesche.infra.serve", str(os.getpid()), process.name, *process.services]
    return Program(
        process.name,
        lambda: command,
        ready,
        after=after,
        prepare=lambda: run_file.path.unlink(missing_ok=True),
        environment=environment,
        stop_seconds=30,
    )
