"""The production agents in a process of their own, so that they can be killed. Usage: rates_worker.py HOME BOOTSTRAP PREFIX
[PARTITIONS], or rates_worker.py SETTINGS.json."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
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


@contextlib.contextmanager
def agents(settings: Settings) -> Iterator[None]:
    """The agents in a process of their own."""
    file = settings.home / "agents.json"
    file.write_text(settings.model_dump_json())
    with (settings.home / "agents.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, __file__, str(file)], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asyncio.run(Agents(settings_of(sys.argv[1:])).run(lambda: print("ready", flush=True)))
