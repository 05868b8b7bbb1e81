"""The production agents in a process of their own, so that they can be killed. Usage: rates_worker.py HOME BOOTSTRAP PREFIX
[PARTITIONS]."""

import asyncio
import sys
from pathlib import Path

from depesche.schemas.settings import KafkaSettings, Settings
from depesche.streams.agents.service import Agents

if __name__ == "__main__":
    partitions = int(sys.argv[4]) if len(sys.argv) > 4 else 2
    kafka = KafkaSettings(bootstrap=sys.argv[2], topic_prefix=sys.argv[3], partitions=partitions)
    made = Settings(home=Path(sys.argv[1]), kafka=kafka)
    asyncio.run(Agents(made).run(lambda: print("ready", flush=True)))
