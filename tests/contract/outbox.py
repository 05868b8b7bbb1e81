"""What the courier tests share: signed units as the prepare stage leaves them, and what the log and the sink say afterwards."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.archive.writer import ArchiveWriter
from depesche.analytics.log import topics
from depesche.analytics.log.client import full_name, producer, reader
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.ground_truth import Arrival, read_ground_truth
from depesche.infra.local.sink.server import Sink
from depesche.schemas.codec import decode, encode
from depesche.schemas.identity import new_job_id, recipient_key
from depesche.schemas.records import (
    AttemptDetail,
    AttemptMark,
    AttemptMarks,
    AttemptPhase,
    MailEvent,
    MailUnit,
    Personal,
    UnitEnvelope,
)
from depesche.schemas.service import Service, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ATTEMPTS, OUTBOUND, OUTCOMES, RETRY, Topic, route_partition
from depesche.schemas.vocabulary import FINAL_TYPES
from depesche.streams.mail.route import provider_of_domain, route_of
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.recorder import place
from depesche.streams.stages.retry import Retry
from depesche.streams.stages.sweeper import SOURCE
from depesche.streams.stages.trail import header
from tests.contract.standstill import first_of

MESSAGE = b"From: a@shop.test\r\nTo: x\r\nSubject: Hello\r\nMessage-ID: <%s@shop.test>\r\n\r\nHello\r\n.\r\nBye\r\n"
SIGNATURE = b"DKIM-Signature: v=1; a=rsa-sha256; d=shop.test; s=d1;\r\n\tb=none\r\n"
TENANT = "10001"
PARTITIONS = 2


def settings_for(
    broker: KafkaBroker, dns: DNSServer, sink_port: int, prefix: str, home: Path, **deliver: object
) -> Settings:
    """Settings under which couriers send to the sandbox, with a ladder that takes milliseconds."""
    quick: dict[str, object] = {
        "port": sink_port,
        "allow_private": True,
        "time_scale": 0.005,
        "connect_seconds": 2,
        "banner_seconds": 2,
        "command_seconds": 2,
        "data_seconds": 2,
        "block_seconds": 2,
        "dot_seconds": 2,
        "idle_seconds": 2,
    }
    return Settings.model_validate(
        {
            "home": home,
            "kafka": {
                "bootstrap": broker.bootstrap_servers,
                "topic_prefix": prefix,
                "partitions": PARTITIONS,
            },
            "dns": {"servers": (f"127.0.0.1:{dns.port}",), "timeout_seconds": 1},
            "deliver": quick | deliver,
        }
    )


@dataclass
class Outbox:
    """One log with an archive, ready for couriers."""

    settings: Settings
    keyring: Keyring
    writer: ArchiveWriter
    archive: ArchiveReader
    out: AIOKafkaProducer
    sent: list[MailUnit] = field(default_factory=list)
    _events: dict[bytes, MailEvent] = field(default_factory=dict)

    async def unit(self, recipient: str, message: bytes = MESSAGE, **changes: Any) -> MailUnit:
        """A unit for ``recipient``, its message in the archive."""
        job = new_job_id()
        body = message % job.encode() if message is MESSAGE else message
        [ref] = await self.writer.put(TENANT, [body])
        key = self.keyring.today(TENANT)
        sealed = key.seal(
            encode(UnitEnvelope(mail_from="return@shop.test", recipient=recipient)), f"unit|{job}.0".encode()
        )
        domain = recipient.rpartition("@")[2]
        provider = provider_of_domain(domain)
        now = now_ms()
        unit = MailUnit(
            unit_id=f"{job}.0",
            job_id=job,
            tenant=TENANT,
            account="main",
            recipient_key=recipient_key(b"secret", recipient),
            route=route_of(provider),
            provider=provider,
            sender_domain="shop.test",
            recipient_domain=domain,
            accepted_at=now,
            expires_at=now + 3_600_000,
            due_at=now,
            attempt=1,
            sequence=101,
            content=(ref,),
            header_size=body.index(b"\r\n\r\n") + 4,
            size=len(body),
            signature=SIGNATURE,
            leading_dots=b"\r\n." in body,
            eight_bit=not body.isascii(),
            smtputf8=not recipient.isascii(),
            key_id=key.id,
            sealed_envelope=sealed,
        )
        return replace(unit, **changes)

    async def post(self, *units: MailUnit) -> None:
        """Put units into mail.outbound, as the prepare stage does."""
        self.sent += units
        sent = [
            await self.out.send(
                full_name(self.settings.kafka, OUTBOUND.name),
                encode(unit),
                key=unit.route.encode(),
                partition=route_partition(unit.route, PARTITIONS),
            )
            for unit in units
        ]
        await asyncio.gather(*sent)

    async def units(self, *recipients: str, **changes: Any) -> list[MailUnit]:
        """Make and post a unit for each recipient."""
        made = [await self.unit(recipient, **changes) for recipient in recipients]
        await self.post(*made)
        return made

    # What a courier leaves behind when it is killed.

    async def park(self, unit: MailUnit, offset: int) -> None:
        """Write the mark that ``unit``, standing at ``offset`` of mail.outbound, waits on the ladder."""
        mark = AttemptMark(
            unit_id=unit.unit_id,
            tenant=unit.tenant,
            attempt=unit.attempt,
            phase=AttemptPhase.PARKED,
            outcome=None,
            offset=offset,
            event=None,
        )
        marks = AttemptMarks(worker="killed", occurred_at=now_ms(), marks=(mark,))
        await self._lay(ATTEMPTS, unit, encode(marks))

    async def wait_on_the_ladder(self, unit: MailUnit, offset: int, due_at: int) -> None:
        """Put ``unit``, which stood at ``offset`` of mail.outbound, on the shortest rung."""
        headers = [("due", b"%d" % due_at), ("unit", place(unit, offset).encode())]
        await self._lay(RETRY["1m"], unit, encode(unit), headers)

    async def _lay(self, topic: Topic, unit: MailUnit, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        await self.out.send_and_wait(
            full_name(self.settings.kafka, topic.name),
            value,
            key=unit.route.encode(),
            partition=route_partition(unit.route, PARTITIONS),
            headers=headers,
        )

    # What the log says.

    async def records(self, topic: Topic) -> list[Any]:
        """All records of a topic up to now."""
        consumer = reader(self.settings, "outbox")
        await consumer.start()
        try:
            name = full_name(self.settings.kafka, topic.name)
            count = PARTITIONS if topic.spread else 1
            partitions = [TopicPartition(name, number) for number in range(count)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            end = await consumer.end_offsets(partitions)
            found: list[Any] = []
            while any([await consumer.position(partition) < end[partition] for partition in partitions]):
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    found += batch
            return found
        finally:
            await consumer.stop()

    async def told(self, unit: MailUnit | None = None) -> list[MailEvent]:
        """The events in mail.outcomes, repetitions taken out, in order of sequence."""
        events = self._events
        for record in await self.records(OUTCOMES):
            if record.value not in events:
                events[record.value] = decode(MailEvent, record.value)
        by_id = {event.event_id: event for event in events.values()}
        assert len(by_id) == len(events), "one event id with two contents"
        chosen = [event for event in by_id.values() if unit is None or event.unit_id == unit.unit_id]
        return sorted(chosen, key=lambda event: (event.unit_id, event.sequence))

    async def story(self, unit: MailUnit) -> list[str]:
        """The types of the events of a unit."""
        return [event.type.value for event in await self.told(unit)]

    async def finals(self) -> Counter[str]:
        """How many final events each unit has."""
        return Counter(event.unit_id for event in await self.told() if event.type in FINAL_TYPES)

    async def marks(self) -> list[AttemptMark]:
        """All marks."""
        records = await self.records(ATTEMPTS)
        return [mark for record in records for mark in decode(AttemptMarks, record.value).marks]

    async def ambiguous(self) -> Counter[str]:
        """How many ambiguous attempts each unit has, by the marks."""
        ended = {(mark.unit_id, mark.attempt) for mark in await self.marks() if mark.phase is AttemptPhase.AMBIGUOUS}
        return Counter(unit for unit, _ in ended)

    async def returned(self) -> list[tuple[str, MailUnit]]:
        """What the ladder's keeper has brought back to mail.outbound: where each unit stood, and the unit."""
        found = [record for record in await self.records(OUTBOUND) if header(record, SOURCE)]
        return [(header(record, SOURCE), decode(MailUnit, record.value)) for record in found]

    def personal(self, event: MailEvent) -> Personal:
        """The personal fields of an event."""
        key = self.keyring.key(event.key_id)
        return decode(Personal, key.open(event.sealed_personal, b"event|" + event.event_id.encode()))

    def recipient(self, unit: MailUnit) -> str:
        """The recipient in a unit's envelope."""
        key = self.keyring.key(unit.key_id)
        return decode(UnitEnvelope, key.open(unit.sealed_envelope, b"unit|" + unit.unit_id.encode())).recipient

    async def all_final(self, seconds: float = 30, units: Iterable[MailUnit] | None = None) -> None:
        """Wait until every unit posted has its final event."""
        wanted = {unit.unit_id for unit in (self.sent if units is None else units)}
        deadline = time.monotonic() + seconds
        while True:
            missing = wanted - set(await self.finals())
            if not missing:
                return
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{len(missing)} of {len(wanted)} units have no final event; {await self._stand_of(missing)}"
                )
            await asyncio.sleep(0.1)

    async def _stand_of(self, units: set[str]) -> str:
        """How far units have come, in few words: for whoever reads a failed test."""
        last = {event.unit_id: event for event in await self.told()}
        events = Counter(_in_short(event) for event in last.values() if event.unit_id in units)
        marks = {mark.unit_id: (mark.phase.value, mark.attempt) for mark in await self.marks()}
        return f"last events {dict(events)}, last marks {dict(Counter(marks.get(unit) for unit in units))}"

    async def until(self, holds: Callable[[list[MailEvent]], bool], seconds: float = 20) -> list[MailEvent]:
        """Wait until the events are as wanted."""
        deadline = time.monotonic() + seconds
        while True:
            events = await self.told()
            if holds(events):
                return events
            assert time.monotonic() < deadline, Counter(event.type.value for event in events)
            await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def couriers(self, settings: Settings | None = None) -> AsyncIterator[tuple[Deliver, Retry]]:
        """A courier stage and a keeper of the ladder in this process."""
        chosen = settings or self.settings
        deliver, retry = Deliver(chosen, self.keyring, self.archive, "a"), Retry(chosen, "a")
        async with running(deliver), running(retry):
            yield deliver, retry


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """Run a service; what ends it ends the test."""
    ready = asyncio.Event()
    task = asyncio.create_task(service.run(ready.set))
    waiting = asyncio.create_task(ready.wait())
    await first_of(f"the start of {service.name}", {task, waiting})
    waiting.cancel()
    if task.done():
        task.result()
    try:
        yield
    finally:
        early = task.done()
        task.cancel()
        await first_of(f"the stop of {service.name}", {task})
        with contextlib.suppress(asyncio.CancelledError):
            task.result()
        assert not early


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Outbox]:
    """An outbox with its topics made."""
    await topics.create_missing(settings)
    keyring = Keyring.open(settings.home / "keys", None)
    writer = ArchiveWriter(settings.archive_directory, keyring, "test", settings.archive)
    out = producer(settings, "outbox")
    await writer.start()
    await out.start()
    archive = ArchiveReader(settings.archive_directory, keyring)
    try:
        yield Outbox(settings, keyring, writer, archive, out)
    finally:
        await out.stop()
        await writer.close()
        archive.close()


def arrivals(sink: Sink, recipient: str) -> list[Arrival]:
    """What the sink's ground truth knows of a recipient."""
    return [arrival for arrival in read_ground_truth(sink.settings.ground_truth) if recipient in arrival.recipients]


def copies(sink: Sink) -> Counter[str]:
    """How often each recipient's mail is in the sink's hands."""
    return Counter(
        recipient
        for arrival in read_ground_truth(sink.settings.ground_truth)
        if arrival.kept
        for recipient in arrival.recipients
    )


def _in_short(event: MailEvent) -> str:
    said = detail(event)
    return f"{event.type.value} {event.attempt} {said.step} {said.reply_class}, next at {said.next_attempt_at}"


def detail(event: MailEvent) -> AttemptDetail:
    """The detail of an attempt's event."""
    assert isinstance(event.detail, AttemptDetail)
    return event.detail
