"""What the suppression tests share: outcomes by the thousand, agents in a process that can be killed, and the list."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.log import topics
from depesche.analytics.log.client import full_name, producer
from depesche.analytics.suppressions.book import SuppressionBook
from depesche.analytics.suppressions.requests import Requests
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas import cloudevents
from depesche.schemas.codec import encode
from depesche.schemas.identity import event_id, new_job_id, recipient_key
from depesche.schemas.records import AttemptDetail, EventType, MailEvent, Personal, ReturnedDetail
from depesche.schemas.service import now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTCOMES, partition_of

WORKER = Path(__file__).with_name("suppression_worker.py")
SECONDS = 60
HARD = {"reply_class": "recipient_unknown", "kind": "hard", "code": 550, "enhanced_code": "5.1.1"}
FULL = {"reply_class": "mailbox_full", "kind": "soft", "code": 452, "enhanced_code": "4.2.2"}
BLOCK = {"reply_class": "reputation", "kind": "block", "code": 554, "enhanced_code": "5.7.1"}


def secret_of(tenant: str) -> bytes:
    return f"secret of {tenant}".encode()


@dataclass
class Lab:
    """A log, a keyring, and somebody who says outcomes."""

    settings: Settings
    keyring: Keyring
    out: AIOKafkaProducer
    requests: Requests
    worker: subprocess.Popen[bytes] | None = None
    said: list[MailEvent] = field(default_factory=list)

    def outcome(
        self,
        address: str,
        type_: EventType = EventType.BOUNCED,
        tenant: str = "10001",
        at: int | None = None,
        person: str | None = None,
        **answer: Any,
    ) -> MailEvent:
        """What happened to a new unit of its own for ``address``."""
        values = HARD | answer
        if type_ in (EventType.COMPLAINED, EventType.UNSUBSCRIBED):
            detail: Any = ReturnedDetail(
                source="arf", place="mail.returns/0/0", reply_class="complaint", kind="complaint"
            )
        else:
            blank = {"remote_ip": "", "source_ip": "", "tls": "", "step": "rcpt", "queue_id": "", "millis": 1}
            detail = AttemptDetail(host="mx.gone.test", **blank, **values)
        job = new_job_id()
        id_, key = event_id(f"{job}.0", type_.value, 1), self.keyring.today(tenant)
        personal = Personal(recipient=address, reply_text=f"{values['enhanced_code']} no such user")
        return MailEvent(
            event_id=id_,
            type=type_,
            unit_id=f"{job}.0",
            job_id=job,
            tenant=tenant,
            account="a",
            recipient_key=recipient_key(secret_of(tenant), address),
            occurred_at=now_ms() if at is None else at,
            sequence=101,
            attempt=1,
            worker="w",
            recipient_domain=address.rpartition("@")[2],
            person_key=person,
            key_id=key.id,
            sealed_personal=key.seal(encode(personal), b"event|" + id_.encode()),
            detail=detail,
        )

    async def say(self, *events: MailEvent) -> None:
        """Write outcomes, as couriers do, and wait until the log has them."""
        name, count = full_name(self.settings.kafka, OUTCOMES.name), self.settings.kafka.partitions
        sent = [
            await self.out.send(
                name,
                encode(event),
                key=event.recipient_key.encode(),
                partition=partition_of(event.recipient_key, count),
                headers=cloudevents.of_event(event),
            )
            for event in events
        ]
        await asyncio.gather(*sent)
        self.said += events

    # The worker.

    def start(self) -> None:
        kafka = self.settings.kafka
        command = [sys.executable, str(WORKER), str(self.settings.home), kafka.bootstrap, kafka.topic_prefix]
        with (self.settings.home / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()

    @contextlib.asynccontextmanager
    async def book(
        self, name: str = "book", settings: Settings | None = None, **more: Any
    ) -> AsyncIterator[SuppressionBook]:
        """The list as a process knows it."""
        chosen = settings or self.settings
        book = SuppressionBook(chosen, self.keyring, chosen.home / name, **more)
        await book.start()
        try:
            yield book
        finally:
            await book.stop()

    async def until(self, right: Callable[[], Any]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + SECONDS
        while not right():
            assert time.monotonic() < deadline, (self.settings.home / "worker.log").read_text()[-3000:]
            assert self.worker is None or self.worker.poll() is None, (self.settings.home / "worker.log").read_text()[
                -3000:
            ]
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def opened(broker: KafkaBroker, home: Path, prefix: str, **suppression: Any) -> AsyncIterator[Lab]:
    """A lab with topics of its own."""
    given = {
        "home": home,
        "kafka": {"bootstrap": broker.bootstrap_servers, "topic_prefix": prefix, "partitions": 2},
        "suppression": suppression,
    }
    settings = Settings.model_validate(given)
    await topics.create_missing(settings)
    out = producer(settings, "lab")
    await out.start()
    lab = Lab(settings, Keyring.open(home / "keys"), out, Requests(settings, out))
    try:
        yield lab
    finally:
        lab.kill()
        await out.stop()


def load(lab: Lab, count: int, seed: int) -> tuple[list[MailEvent], set[str]]:
    """Outcomes among which ``count`` recipients bounce hard; gives them and the keys that must be suppressed."""
    chance = random.Random(seed)
    events: list[MailEvent] = []
    dead: set[str] = set()
    for number in range(count):
        bounced = lab.outcome(f"dead{number}@gone.test")
        dead.add(bounced.recipient_key)
        events.append(bounced)
        events.append(lab.outcome(f"fine{number}@here.test", EventType.DELIVERED))
        events.append(lab.outcome(f"blocked{number}@here.test", **BLOCK))
        if number % 10 == 0:
            events.append(lab.outcome(f"dead{chance.randrange(number + 1)}@gone.test"))
    chance.shuffle(events)
    return events, dead
