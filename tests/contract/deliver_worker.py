"""A courier stage, or the ladder's keeper, as a process that a test may kill: ``SETTINGS-FILE ROLE MEMBER``."""

import sys
from pathlib import Path

import structlog
import uvloop

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.controls.book import ControlBook
from depesche.schemas.service import Service
from depesche.schemas.settings import Settings
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.retry import Retry


def made(settings: Settings, role: str, member: str, controls: ControlBook) -> Service:
    """The service of a role."""
    if role == "retry":
        return Retry(settings, member, controls=controls)
    keyring = Keyring.open(settings.home / "keys", None)
    archive = ArchiveReader(settings.archive_directory, keyring)
    return Deliver(settings, keyring, archive, member, controls=controls)


async def main(file: str, role: str, member: str) -> None:
    """Run it; a line on stdout says when it is ready."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = Settings.model_validate_json(Path(file).read_text())
    controls = ControlBook(settings)
    await controls.start()
    try:
        await made(settings, role, member, controls).run(lambda: print("ready", flush=True))
    finally:
        await controls.stop()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
