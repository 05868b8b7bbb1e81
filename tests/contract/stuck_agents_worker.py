"""The production agents in a process whose Kafka client brings nothing any more once they are ready. Usage: ... SETTINGS.json."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from aiokafka.consumer.fetcher import Fetcher

from depesche.schemas.settings import Settings
from depesche.streams.agents.service import Agents


def _ready() -> None:
    async def nothing(_fetcher: Fetcher, _places: Any, timeout: float = 0, **_options: Any) -> dict[Any, Any]:
        await asyncio.sleep(timeout)
        return {}

    Fetcher.fetched_records = nothing
    print("ready", flush=True)


if __name__ == "__main__":
    made = Settings.model_validate_json(Path(sys.argv[1]).read_text())
    asyncio.run(Agents(made, patience_seconds=3).run(_ready))
