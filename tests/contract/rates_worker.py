"""The production agents in a process of their own, so that they can be killed. Usage: rates_worker.py HOME BOOTSTRAP PREFIX
[PARTITIONS], or rates_worker.py SETTINGS.json."""

import asyncio
import sys
from pathlib import Path

from depesche.schemas.settings import KafkaSettings, Settings
from depesche.streams.agents.service import Agents


def settings_of(arguments: list[str]) -> Settings:
    """From a file with all settings, or from the few that matter."""
    if arguments[0].endswith(".json"):
        return Settings.model_validate_json(Path(arguments[0]).read_text())
    home, bootstrap, prefix, *partitions = arguments
    kafka = KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix, partitions=int(*partitions or (2,)))
    return Settings(home=Path(home), kafka=kafka)


if __name__ == "__main__":
    asyncio.run(Agents(settings_of(sys.argv[1:])).run(lambda: print("ready", flush=True)))
