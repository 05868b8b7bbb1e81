"""Depesche under test: the whole product as ``depesche up`` starts it, with its own home and ports, sending to the bench's sink.

Everything is on: fsync before the yes, both scanners, DKIM, all events, the Faust agent, ClickHouse. Mail comes in on the port
for registered source addresses, without TLS and login, because the peer takes it the same way.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from depesche.infra.bench.load import EVERYBODY
from depesche.infra.local.published import ZoneFolder
from depesche.infra.local.zone import Record
from depesche.schemas.errors import SetupError

COMMAND = str(Path(sys.executable).with_name("depesche"))
#: Started for the demo only; their CPU is the far side's, not the product's.
DEAD = "dead-provider.test"
"""A domain whose mail host is an address at which nobody listens."""
FINE = tuple(f"fine{number}.test" for number in range(5))
"""Domains of five providers that take everything."""
FAR_SIDE = ("sandbox", "postfix")


@dataclass
class Product:
    """One running ``depesche up``.

    Attributes:
        home: its state; made anew.
        offset: added to every port.
        sink: where mail to ``*.bench.test`` goes.
        jars: a directory with the broker's jars, to spare a download; optional.
    """

    home: Path
    offset: int
    port: int
    sink: tuple[str, int]
    jars: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    async def start(self) -> None:
        """Start everything and let the load machine in by its address.

        Raises:
            SetupError: it did not come up; the log says why.
        """
        self.home.mkdir(parents=True)
        if self.jars is not None:
            # The folder itself, or the one that a home has.
            inner = self.jars / "lib"
            shutil.copytree(inner if inner.is_dir() else self.jars, self.home / "kafka" / "lib")
        own = {
            "DEPESCHE_HOME": str(self.home),
            "DEPESCHE_PORT_OFFSET": str(self.offset),
            "DEPESCHE_SMTP__RELAY_PORT": str(self.port),
            "DEPESCHE_SANDBOX__SMTP_PORT": str(self.sink[1]),
        }
        self.environment = {**{k: v for k, v in os.environ.items() if not k.startswith("DEPESCHE_")}, **own}
        with (self.home.parent / f"{self.home.name}.log").open("wb") as out:
            self.process = subprocess.Popen([COMMAND, "up"], env=self.environment, stdout=out, stderr=out)
        await self._until_ready()
        self._publish_domains()
        await self.command("account", "create", "bench", "--source-ip", "127.0.0.1", "--login-by-ip")

    @property
    def parts(self) -> dict[str, int]:
        """Process ids by part, without the far side."""
        programs = self._status()["programs"]
        return {name: program["pid"] for name, program in programs.items() if program["pid"] and name not in FAR_SIDE}

    async def stop(self) -> None:
        """As Ctrl-C."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self.process.wait, 60)

    async def audit(self) -> str:
        """The verdict of ``depesche audit --json`` on everything that was sent.

        Raises:
            SetupError: the audit found a difference.
        """
        return await self.command("audit", "--json")

    async def status(self) -> str:
        """``depesche status --json``."""
        return await self.command("status", "--json")

    def _status(self) -> dict[str, dict[str, dict[str, int]]]:
        return dict(json.loads((self.home / "run" / "up.json").read_text()))

    def _publish_domains(self) -> None:
        zone = ZoneFolder(self.home / "sandbox" / "zone")
        records = [Record("mx.bench.test", "A", self.sink[0])]
        records += [Record(domain, "MX", "10 mx.bench.test") for domain in EVERYBODY.domains]
        records += [Record(domain, "MX", f"10 mx.{domain}") for domain in FINE]
        records += [Record(f"mx.{domain}", "A", self.sink[0]) for domain in FINE]
        records += [Record(DEAD, "MX", f"10 mx.{DEAD}"), Record(f"mx.{DEAD}", "A", "127.0.0.9")]
        zone.publish(*records)

    async def _until_ready(self) -> None:
        async with asyncio.timeout(180):
            while True:
                if self.process is None or self.process.poll() is not None:
                    raise SetupError("depesche up ended", fix=f"Read {self.home.parent / self.home.name}.log.")
                if (self.home / "run" / "up.json").exists() and self._status().get("ready_at"):
                    return
                await asyncio.sleep(0.2)

    async def command(self, *arguments: str) -> str:
        """What a command of ``depesche`` writes.

        Raises:
            SetupError: it failed.
        """
        process = await asyncio.create_subprocess_exec(
            *(COMMAND, *arguments), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
        if process.returncode:
            raise SetupError(
                f"depesche {arguments[0]} ended with {process.returncode}: {err.decode()[-500:]}", fix="Read its log."
            )
        return out.decode()
