"""Couriers and keepers in processes that a test may kill, and the books that must balance afterwards."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from depesche.infra.local.sink.server import Sink
from depesche.schemas.records import EventType
from tests.contract.outbox import Outbox, copies

CHECKOUT = Path(__file__).parents[2]


@dataclass
class Worker:
    """A process of ``deliver_worker``."""

    outbox: Outbox
    role: str = "deliver"
    member: str = "a"
    process: asyncio.subprocess.Process | None = None
    lines: list[str] = field(default_factory=list)

    async def start(self, crashpoint: str = "") -> None:
        file = self.outbox.settings.home / "settings.json"
        file.write_text(self.outbox.settings.model_dump_json())
        env = {**os.environ, "DEPESCHE_CRASHPOINT": crashpoint}
        command = ("-m", "tests.contract.deliver_worker", str(file), self.role, self.member)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=CHECKOUT, env=env, stdout=asyncio.subprocess.PIPE
        )
        assert self.process.stdout is not None
        while (line := await self.process.stdout.readline()) != b"ready\n":
            assert line, "it ended before it was ready"

    async def ended(self) -> int:
        assert self.process is not None
        await asyncio.wait_for(self.process.communicate(), 40)
        return self.process.returncode or 0

    def signal(self, number: int) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.ended()


async def balanced(outbox: Outbox, sink: Sink) -> dict[str, int]:
    """Hold the books: one end each, no copy unexplained; the number of surplus copies by recipient."""
    finals, ambiguous, kept = await outbox.finals(), await outbox.ambiguous(), copies(sink)
    told = {event.unit_id: event.type for event in await outbox.told() if finals[event.unit_id]}
    surplus = {}
    for unit in outbox.sent:
        assert finals[unit.unit_id] == 1, (unit.unit_id, await outbox.story(unit))
        recipient = outbox.recipient(unit)
        if told[unit.unit_id] is EventType.DELIVERED:
            assert kept[recipient] >= 1, recipient
        else:
            assert kept[recipient] == 0, recipient
        assert kept[recipient] - 1 <= ambiguous[unit.unit_id], recipient
        if kept[recipient] > 1:
            surplus[recipient] = kept[recipient] - 1
    return surplus
