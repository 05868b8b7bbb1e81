"""The production monitor in a process of its own, so that it can be killed. Usage: monitor_worker.py SETTINGS(JSON) MEMBER."""

import asyncio
import sys

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.directory.directory import Directory
from depesche.infra import log
from depesche.schemas.settings import Settings
from depesche.streams.monitor.service import Monitor


async def main(settings: Settings, member: str) -> None:
    directory = Directory(settings, Keyring.open(settings.home / "keys", None))
    await directory.start()
    await Monitor(settings, directory, member).run(lambda: print("ready", flush=True))


if __name__ == "__main__":
    log.configure("info", "monitor")
    asyncio.run(main(Settings.model_validate_json(sys.argv[1]), sys.argv[2]))
