"""The production agents in a process of their own, to be killed. Usage: suppression_worker.py HOME BOOTSTRAP PREFIX."""

import asyncio
import sys
from pathlib import Path

from depesche.schemas.settings import KafkaSettings, Settings
from depesche.streams.agents.service import Agents

if __name__ == "__main__":
    made = Settings(home=Path(sys.argv[1]), kafka=KafkaSettings(bootstrap=sys.argv[2], topic_prefix=sys.argv[3]))
    asyncio.run(Agents(made).run(lambda: print("ready", flush=True)))
