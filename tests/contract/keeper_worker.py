"""What is behind the door of the return path, as a process that can die: ``SETTINGS-FILE COUNT``; tells what it kept."""

import asyncio
import os
import sys
from pathlib import Path

import structlog

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.writer import ArchiveWriter
from depesche.analytics.log.client import producer
from depesche.api.returned_mail import Delivery, Keeper
from depesche.schemas.settings import Settings


async def main(file: str, count: str) -> None:
    """Keep that many mails at once, and tell of each as a far side would note its 250."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = Settings.model_validate_json(Path(file).read_text())
    keyring = Keyring.open(settings.home / "keys", None)
    archive = ArchiveWriter(settings.archive_directory, keyring, "door", settings.archive)
    out = producer(settings, "door")
    await archive.start()
    await out.start()
    keeper = Keeper(settings, keyring, archive, out)
    await keeper.start()

    async def one(number: int) -> None:
        delivery = Delivery(
            f"Subject: {number}\r\n\r\n".encode(), "", ("fbl@returns.test",), "192.0.2.1", "far.example"
        )
        os.write(1, f"{await keeper.keep(delivery)}\n".encode())

    await asyncio.gather(*(one(number) for number in range(int(count))))
    await keeper.stop()
    await archive.close()
    await out.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
