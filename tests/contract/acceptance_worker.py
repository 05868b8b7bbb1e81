"""A front door without a protocol, run as a process of its own so that it can die at a crash point.

Usage: acceptance_worker.py HOME BOOTSTRAP PREFIX COUNT. Submits COUNT jobs at once and writes the id of each accepted one,
with the number that its content carries, to standard output before it goes on, as a client would note its 250.
"""

import asyncio
import os
import sys
from pathlib import Path

import structlog

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.writer import ArchiveWriter
from depesche.analytics.directory.directory import Directory
from depesche.analytics.log.client import producer
from depesche.api.hallway import Hallway
from depesche.api.idempotency import IdempotencyIndex
from depesche.api.submission import Content, Submission
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.records import Interface, JobRecipient, RecipientKind
from depesche.schemas.settings import KafkaSettings, Settings

TENANT, ACCOUNT, DOMAIN = "10001", "10001_local_x", "shop.test"


def a_submission(number: int, **changes: object) -> Submission:
    header = f"From: a@{DOMAIN}\r\nMessage-ID: <{number}@{DOMAIN}>\r\n\r\n".encode()
    values: dict[str, object] = {
        "tenant": TENANT, "account": ACCOUNT, "interface": Interface.SMTP, "client": "127.0.0.1", "mail_from": f"a@{DOMAIN}",
        "header_from": f"a@{DOMAIN}", "subject": "s", "sender_domain": DOMAIN,
        "messages": (Content((header + f"body {number}\r\n".encode(),), len(header), f"{number}@{DOMAIN}"),),
        "recipients": (JobRecipient(address=f"r{number}@x.test", message=0, block=0, kind=RecipientKind.TO),),
    }  # fmt: skip
    return Submission(**{**values, **changes})  # type: ignore[arg-type]


class Door:
    """Everything behind a door, assembled as the product does it."""

    def __init__(self, home: Path, bootstrap: str, prefix: str) -> None:
        kafka = KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix, deadline_seconds=3)
        self.settings = Settings(home=home, kafka=kafka)
        self.keyring = Keyring.open(home / "keys")
        self.directory = Directory(self.settings, self.keyring)
        self.producer = producer(self.settings, "door")
        self.archive = ArchiveWriter(home / "archive", self.keyring, f"door{os.getpid()}", self.settings.archive)
        self.index = IdempotencyIndex(self.settings, self.keyring)
        self.hallway = Hallway(self.settings, self.directory, self.keyring, self.archive, self.producer, self.index)

    async def __aenter__(self) -> "Door":
        await self.producer.start()
        for part in (self.archive, self.directory, self.index, self.hallway):
            await part.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for part in (self.hallway, self.index, self.directory):
            await part.stop()
        await self.archive.close()
        await self.producer.stop()


async def main(home: Path, bootstrap: str, prefix: str, count: int) -> None:
    async with Door(home, bootstrap, prefix) as door:

        async def one(number: int) -> None:
            receipt = await door.hallway.submit(a_submission(number))
            crashpoint("A5")
            os.write(1, f"{receipt.job_id} {number}\n".encode())
            crashpoint("A6")

        await asyncio.gather(*(one(number) for number in range(count)))


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
