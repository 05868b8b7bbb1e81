"""A Faust worker for the contract test, run as a process of its own so that it can be killed.

Usage: faust_worker.py BOOTSTRAP PREFIX MODE REPORT, MODE one of plain, watermarked, raising, unordered, late (a
watermarked one, begun beside a log that is already there). It reads the topic
PREFIX.in and writes what it has, as JSON, to REPORT twice a second.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from depesche.schemas.settings import KafkaSettings, Settings
from depesche.streams.agents.app import build_app
from depesche.streams.agents.rates import Held, counted


def main(bootstrap: str, prefix: str, mode: str, report: Path) -> None:
    settings = Settings(
        home=Path(tempfile.mkdtemp()), kafka=KafkaSettings(bootstrap=bootstrap, partitions=1, topic_prefix=f"{prefix}.")
    )
    app = build_app(settings, "w")
    source = app.topic(f"{prefix}.in", value_serializer="raw", key_serializer="raw")
    table = app.Table("sums", partitions=1, key_type=str)
    seen: list[int] = []

    async def sum_up(stream: Any) -> None:
        async for event in stream.events():
            number = int(event.value)
            if mode == "raising" and number % 500 == 250 and number not in seen:
                raise ValueError("the agent does not like this one")
            seen.append(number)
            if mode in ("watermarked", "late"):
                held = table.get("sum")
                after = counted(Held(*held) if held else None, event.message.offset)
                if after:
                    table["sum"] = tuple(after)
            else:
                table["sum"] = [table.get("sum", [0])[0] + 1]

    async def hold_one(stream: Any) -> None:
        async for event in stream.noack().events():
            number = int(event.value)
            seen.append(number)
            # Number 5 is still being worked on when the later ones are done.
            if number != 5:
                event.ack()

    app.agent(source, name="contract")(hold_one if mode == "unordered" else sum_up)

    async def tell() -> None:
        fresh = report.with_suffix(".new")
        fresh.write_text(json.dumps({"sum": table.get("sum", [0])[0], "seen": seen, "pid": os.getpid()}))
        fresh.replace(report)

    app.timer(0.5, name="contract.tell")(tell)
    app.finalize()

    async def run() -> None:
        await app.start()
        await app.wait_until_stopped()

    asyncio.run(run())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
