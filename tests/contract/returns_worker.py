"""The stage ``returns`` as a process that a test may kill: ``SETTINGS-FILE MEMBER``."""

import sys
from pathlib import Path

import structlog
import uvloop

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.store.client import StoreClient
from depesche.analytics.units.lookup import UnitLookup
from depesche.schemas.settings import Settings
from depesche.streams.stages.returns import Returns


async def main(file: str, member: str) -> None:
    """Run it; a line on stdout says when it is ready."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = Settings.model_validate_json(Path(file).read_text())
    keyring = Keyring.open(settings.home / "keys", None)
    archive = ArchiveReader(settings.archive_directory, keyring)
    units = UnitLookup(StoreClient(settings, "returns-tests"))
    await Returns(settings, keyring, archive, units, member).run(lambda: print("ready", flush=True))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
