"""One measured run: load in, everything out at the sink, CPU booked by part. The same for the product and for the peer."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from depesche.infra.bench import cpu
from depesche.infra.bench.load import EVERYBODY, Target
from depesche.infra.local.ports import require_free

HOST = "127.0.0.1"
DRAIN_SECONDS = 180
STALL_SECONDS = 30
SETTLE_SECONDS = 900
STILL = 0.3
"""Processors in use by a product that only waits, and tries its backlog now and then."""


class Subject(Protocol):
    """What is measured."""

    @property
    def port(self) -> int:
        """Where it takes mail."""
        ...

    @property
    def parts(self) -> dict[str, int]:
        """Process ids by part."""
        ...


@dataclass
class Sink:
    """The sink's process and its figures."""

    host: str
    port: int
    report_port: int
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it answers; raises LocalFault when a port is taken, perhaps by an interrupted run's sink."""
        for port in (self.port, self.report_port):
            require_free(self.host, port, "the benchmark's sink")
        command = [sys.executable, "-m", "depesche.infra.bench.sink", self.host, str(self.port), str(self.report_port)]
        self.process = subprocess.Popen(command)
        async with asyncio.timeout(20):
            while True:
                try:
                    await self.figures()
                    return
                except OSError:
                    await asyncio.sleep(0.1)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    async def figures(self, asked: str = "") -> dict[str, Any]:
        """count, bytes, last, signed, copies. ``asked``: ``reset`` begins anew, ``arrived`` gives the moment by number too."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.report_port)
        writer.write(asked.encode() + b"\n")
        figures: dict[str, Any] = json.loads(await reader.read())
        writer.close()
        return figures


@dataclass
class Run:
    """What one run gave. Times in seconds, CPU in milliseconds per message."""

    subject: str
    size: str
    messages: int
    arrived: int
    signed: int
    copies: int
    rate: float
    cpu_ms: dict[str, float]
    accept_ms: list[float] = field(default_factory=list)
    arrival_ms: list[float] = field(default_factory=list)

    @property
    def cpu_sum(self) -> float:
        """CPU of all parts per message, in milliseconds."""
        return round(sum(self.cpu_ms.values()), 3)


async def measure(
    name: str,
    subject: Subject,
    sink: Sink,
    size: tuple[str, int],
    count: int,
    first: int,
    *,
    rate: float = 0,
    connections: int = 20,
    target: Target = EVERYBODY,
) -> Run:
    """Send ``count`` mails, wait until all have arrived, and book the CPU in between.

    The rate is from the first command of the loader to the last arrival, so a queue that grows does not count as speed.
    """
    await sink.figures("reset")
    before = cpu.snapshot(subject.parts)
    loaded = await hand_in(subject, size[1], count, first, rate=rate, connections=connections, target=target)
    figures = await _drained(sink, loaded["accepted"])
    await asyncio.sleep(1.0)  # What is said to the log and the store after the last arrival belongs to these mails.
    spent = cpu.used(before, cpu.snapshot(subject.parts))
    arrived = figures["arrived"]
    return Run(
        subject=name,
        size=size[0],
        messages=loaded["accepted"],
        arrived=len(arrived),
        signed=figures["signed"],
        copies=figures["copies"],
        rate=round(figures["count"] / (figures["last"] - loaded["began"]), 1),
        cpu_ms={part: round(seconds / max(1, loaded["accepted"]) * 1000, 3) for part, seconds in spent.items()},
        accept_ms=loaded["accept_ms"],
        arrival_ms=[(arrived[n] - at) * 1000 for n, at in loaded["replied_at"].items() if n in arrived],
    )


async def hand_in(
    subject: Subject,
    size: int,
    count: int,
    first: int,
    *,
    rate: float = 0,
    connections: int = 20,
    target: Target = EVERYBODY,
) -> dict[str, Any]:
    """Hand in ``count`` mails without waiting for their arrival; what the loader printed.

    Raises:
        RuntimeError: a mail was refused.
    """
    numbers = {
        "port": subject.port,
        "size": size,
        "count": count,
        "first": first,
        "rate": rate,
        "connections": connections,
    }
    options = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    whom = ["--user", target.user, "--domains", *target.domains]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "depesche.infra.bench.load", *options, *whom), stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    loaded: dict[str, Any] = json.loads(out)
    if loaded["refused"]:
        raise RuntimeError(f"the server refused: {loaded['refused']}")
    return loaded


async def settled(subject: Subject) -> None:
    """Wait until the subject has done what can be done now: half a minute with hardly any work, or a quarter of an hour."""
    still, deadline = 0, time.monotonic() + SETTLE_SECONDS
    while still < 6 and time.monotonic() < deadline:
        before = cpu.snapshot(subject.parts)
        await asyncio.sleep(5)
        busy = sum(cpu.used(before, cpu.snapshot(subject.parts)).values()) / 5
        still = still + 1 if busy < STILL else 0


async def _drained(sink: Sink, wanted: int) -> dict[str, Any]:
    """Wait until everything arrived; gives up when nothing has come for a while, and the report shows the gap."""
    began, last_count, last_move = time.monotonic(), -1, time.monotonic()
    while True:
        figures = await sink.figures()
        if figures["count"] != last_count:
            last_count, last_move = figures["count"], time.monotonic()
        done = figures["count"] - figures["copies"] >= wanted
        if done or time.monotonic() - last_move > STALL_SECONDS or time.monotonic() - began > DRAIN_SECONDS:
            return await sink.figures("arrived")
        await asyncio.sleep(0.3)


def quantile(values: list[float], share: float) -> float:
    """The value that ``share`` of all do not exceed; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def median(values: list[float]) -> float:
    """The median; 0 for none."""
    return round(statistics.median(values), 2) if values else 0.0
