"""Prepare in a process of its own, so that it can be killed. Usage: prepare_worker.py HOME BOOTSTRAP PREFIX EXCHANGER.

All recipient domains have the one mail exchanger EXCHANGER, so a test decides which provider, and so which route, they have.
"""

import asyncio
import sys
from pathlib import Path

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.directory.directory import Directory
from depesche.schemas.settings import KafkaSettings, ScanSettings, Settings
from depesche.streams.stages.prepare import Prepare
from depesche.streams.stages.routing import Routing


class OneExchanger:
    """Names the same mail exchanger for every domain."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def exchangers(self, domain: str) -> tuple[str, ...]:
        """See ``Exchangers``."""
        return (self._name,)


async def main(home: Path, bootstrap: str, prefix: str, exchanger: str) -> None:
    settings = Settings(
        home=home,
        kafka=KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix),
        scan=ScanSettings(engines=("yara",)),
    )
    keyring = Keyring.open(home / "keys")
    archive, directory = ArchiveReader(home / "archive", keyring), Directory(settings, keyring)
    await directory.start()
    routing = Routing(OneExchanger(exchanger))
    await Prepare(settings, keyring, archive, directory, "1", routing).run(lambda: print("ready", flush=True))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:5]))
