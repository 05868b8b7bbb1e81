"""Behind the door of the return path: keep what came back, then and only then say yes.

The same order as for a job (design section 5.1): the mail is durable in the archive before its record exists, and the record
is acknowledged before the far side hears a yes. What it means is found out later, by the stage ``returns``; nothing is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.log.client import acknowledged, full_name
from depesche.api.hallway import Archive
from depesche.api.log_watch import watch_log
from depesche.schemas import cloudevents
from depesche.schemas.codec import encode
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import LogUnavailableError
from depesche.schemas.identity import new_job_id
from depesche.schemas.records import ArchiveRef, ReturnedEnvelope, ReturnedMail
from depesche.schemas.return_key import KEPT_AS
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import RETURNS, partition_of


@dataclass(frozen=True, slots=True)
class Delivery:
    """A mail as the door took it in.

    Attributes:
        content: dot-stuffing undone, otherwise to the byte what was sent.
        mail_from: envelope sender as claimed, empty for the null sender.
        recipients: envelope recipients; all of them ours.
        client, helo: where it came from, and what that called itself.
    """

    content: bytes
    mail_from: str
    recipients: tuple[str, ...]
    client: str
    helo: str


class Keeper:
    """Keeps what comes back. ``ready`` tells the door whether to greet at all."""

    def __init__(
        self,
        settings: Settings,
        keyring: Keyring,
        archive: Archive,
        producer: AIOKafkaProducer,
        clock: Clock = now_ms,
    ) -> None:
        self.ready = False
        self._kafka = settings.kafka
        self._keyring = keyring
        self._archive = archive
        self._producer = producer
        self._clock = clock
        self._partitions = 0
        self._watch: asyncio.Task[None] | None = None
        self._keeping: set[asyncio.Task[str]] = set()

    async def start(self) -> None:
        """Learn the log's shape and begin to watch whether it can be written."""
        self._partitions = len(await self._producer.partitions_for(full_name(self._kafka, RETURNS.name)))
        self.ready = True
        self._watch = asyncio.create_task(watch_log(self._producer, self), name="log-watch")

    async def stop(self) -> None:
        """Let what is being kept end, then stop."""
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=self._kafka.deadline_seconds)
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    async def keep(self, delivery: Delivery) -> str:
        """Keep a mail for good; gives its id. The work goes on when the caller is cancelled (its client hung up).

        Raises:
            Outage: nothing was promised; 451. After ``LogUnavailableError`` the record may still appear, which a repetition
                by the far side makes harmless: a report that is there twice counts once.
        """
        if not self.ready:
            raise LogUnavailableError("the log cannot be written just now")
        task = asyncio.ensure_future(self._keep(delivery))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
        return await asyncio.shield(task)

    async def _keep(self, delivery: Delivery) -> str:
        received_at = self._clock()
        refs = await self._archive.put(KEPT_AS, [delivery.content])
        crashpoint("R1")
        record = self._record(delivery, tuple(refs), received_at)
        await self._publish(record)
        crashpoint("R2")
        return record.returned_id

    def _record(self, delivery: Delivery, refs: tuple[ArchiveRef, ...], received_at: int) -> ReturnedMail:
        id_, key = new_job_id(received_at), self._keyring.today(KEPT_AS)
        envelope = ReturnedEnvelope(
            mail_from=delivery.mail_from, recipients=delivery.recipients, client=delivery.client, helo=delivery.helo
        )
        return ReturnedMail(
            returned_id=id_,
            received_at=received_at,
            size=len(delivery.content),
            sha256=hashlib.sha256(delivery.content).digest(),
            content=refs,
            key_id=key.id,
            sealed_envelope=key.seal(encode(envelope), b"returned|" + id_.encode()),
        )

    async def _publish(self, record: ReturnedMail) -> None:
        digest = record.sha256.hex()
        try:
            sent = await self._producer.send(
                full_name(self._kafka, RETURNS.name),
                encode(record),
                key=digest.encode(),
                partition=partition_of(digest, self._partitions),
                headers=cloudevents.headers(
                    record.returned_id, "email.returned", record.returned_id, record.received_at
                ),
            )
            await acknowledged(sent, self._kafka.deadline_seconds)
        except LogUnavailableError:
            self.ready = False
            raise
        except KafkaError as fault:
            self.ready = False
            raise LogUnavailableError(f"the log refused a returned mail: {type(fault).__name__}") from fault
