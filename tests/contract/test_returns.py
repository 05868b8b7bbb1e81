"""What comes back, from the keeper behind the door to what search says: each report once, forged ones never."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.structs import TopicPartition

from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.archive.return_keys import return_keys
from depesche.analytics.archive.writer import ArchiveWriter
from depesche.analytics.log.client import full_name, group_consumer, reader
from depesche.analytics.queries.scope import AllTenants, Tenant
from depesche.analytics.queries.timeline import Timeline
from depesche.analytics.units.lookup import UnitLookup
from depesche.api.returned_mail import Delivery, Keeper
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.codec import decode
from depesche.schemas.errors import ContentLostError
from depesche.schemas.identity import new_job_id
from depesche.schemas.records import DeadLetter, EventType, MailEvent, Personal, ReturnedDetail
from depesche.schemas.return_key import KEPT_AS, Purpose
from depesche.schemas.service import now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import DEAD, OUTCOMES, RETURNS, Topic
from depesche.streams.mail.front import ReturnPath
from depesche.streams.stages.returns import Returns, erase_old
from tests import shapes

from .conftest import EngineProcess
from .outbox import running
from .story import Mail
from .test_sink import World, world_of

DOMAIN = "returns.test"
KEEPER = Path(__file__).with_name("keeper_worker.py")
WORKER = Path(__file__).with_name("returns_worker.py")
_numbers = itertools.count()


@dataclass
class Desk:
    """A world whose mail comes back."""

    world: World
    settings: Settings
    keeper: Keeper
    archive: ArchiveReader
    mails: list[Mail] = field(default_factory=list)

    @property
    def path(self) -> ReturnPath:
        return ReturnPath(return_keys(self.world.keyring), DOMAIN)

    async def sent(self, count: int = 1, *, told: bool = True, **more: Any) -> list[Mail]:
        """Mails that were delivered."""
        made = [
            Mail(self.world.keyring, recipient=f"user{next(_numbers)}@example.org", **more)
            .prepared()
            .answered("delivered", text="250 queued")
            for _ in range(count)
        ]
        self.mails += made
        if told:
            await self.tell(made)
        return made

    async def tell(self, mails: list[Mail]) -> None:
        await self.world.log.events(event for mail in mails for event in mail.told)

    def copy(self, mail: Mail) -> bytes:
        """The mail as it left, and as the far side has it."""
        return (
            f"Return-Path: <{self.path.mail_from(mail.job_id, mail.number)}>\r\n".encode()
            + self.path.header_line(mail.job_id, mail.number)
            + f"From: <{mail.sender}>\r\nTo: <{mail.recipient}>\r\nSubject: {mail.subject}\r\n\r\nHello\r\n".encode()
        )

    def address(self, mail: Mail, purpose: Purpose = Purpose.BOUNCE) -> str:
        return f"{return_keys(self.world.keyring).token(purpose, mail.job_id, mail.number)}@{DOMAIN}"

    async def comes_back(self, content: bytes, *recipients: str) -> str:
        return await self.keeper.keep(
            Delivery(content, "", recipients or (f"fbl@{DOMAIN}",), "192.0.2.9", "mx.far.example")
        )

    async def bounces(self, mail: Mail, status: str = "5.1.1", action: str = "failed") -> str:
        report = shapes.delivery_report(self.copy(mail), mail.recipient, action, status)
        return await self.comes_back(report, self.address(mail))

    def service(self, units: UnitLookup | None = None, settings: Settings | None = None) -> Returns:
        lookup = units or UnitLookup(self.world.client)
        return Returns(settings or self.settings, self.world.keyring, self.archive, lookup, "a")

    async def records(self, topic: Topic) -> list[Any]:
        """All records of a topic up to now."""
        consumer = reader(self.settings, "desk")
        await consumer.start()
        try:
            count = self.settings.kafka.partitions if topic.spread else 1
            places = [TopicPartition(full_name(self.settings.kafka, topic.name), n) for n in range(count)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            end = await consumer.end_offsets(places)
            found: list[Any] = []
            while any([await consumer.position(place) < end[place] for place in places]):
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    found += batch
            return found
        finally:
            await consumer.stop()

    async def facts(self) -> list[MailEvent]:
        """What the stage has said, repetitions of one event included."""
        events = [decode(MailEvent, record.value) for record in await self.records(OUTCOMES)]
        return [event for event in events if isinstance(event.detail, ReturnedDetail)]

    async def kinds(self) -> Counter[tuple[str, str]]:
        """Unit and type of each different event."""
        return Counter({(event.unit_id, event.type.value): 1 for event in await self.facts()})

    async def letters(self) -> list[DeadLetter]:
        return [decode(DeadLetter, record.value) for record in await self.records(DEAD)]

    async def settled(self) -> bool:
        """Whether the stage is done with all that came back."""
        consumer = group_consumer(self.settings, "returns", "probe")
        await consumer.start()
        try:
            name = full_name(self.settings.kafka, RETURNS.name)
            places = [TopicPartition(name, number) for number in range(self.settings.kafka.partitions)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            return all([(await consumer.committed(place) or 0) == ends[place] for place in places])
        finally:
            await consumer.stop()

    async def until_settled(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not await self.settled():
            assert time.monotonic() < deadline, "the stage is not done with what came back"
            await asyncio.sleep(0.1)

    def personal(self, event: MailEvent) -> Personal:
        key = self.world.keyring.key(event.key_id)
        return decode(Personal, key.open(event.sealed_personal, b"event|" + event.event_id.encode()))


@asynccontextmanager
async def desk_of(broker: KafkaBroker, engine: EngineProcess, home: Path, **returns: Any) -> AsyncIterator[Desk]:
    async with world_of(broker, engine, home) as world:
        given = {**world.settings.model_dump(), "returns": {"domain": DOMAIN, "unit_wait_seconds": 30, **returns}}
        settings = Settings.model_validate(given)
        writer = ArchiveWriter(settings.archive_directory, world.keyring, "tests", settings.archive)
        await writer.start()
        keeper = Keeper(settings, world.keyring, writer, world.log.producer)
        await keeper.start()
        archive = ArchiveReader(settings.archive_directory, world.keyring)
        try:
            yield Desk(world, settings, keeper, archive)
        finally:
            await keeper.stop()
            await writer.close()
            archive.close()


@pytest_asyncio.fixture
async def desk(kafka_broker: KafkaBroker, engine: EngineProcess, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_of(kafka_broker, engine, tmp_path) as made:
        yield made


async def test_a_mail_that_bounces_after_it_was_delivered_is_found_as_bounced(desk: Desk) -> None:
    [mail, other] = await desk.sent(2)
    async with desk.world.sink(), running(desk.service()):
        await desk.bounces(mail)
        await desk.until_settled()
        [event] = await desk.facts()
        stories = Timeline(desk.world.client)

        async def stands() -> object:
            return [(await stories.of(Tenant(mail.tenant), one.unit_id))[0].unit.status for one in (mail, other)]

        await desk.world.becomes(["bounced", "delivered"], stands)
        [story] = await stories.of(AllTenants("tests"), mail.unit_id)
    assert (event.unit_id, event.type, event.tenant) == (mail.unit_id, EventType.BOUNCED, mail.tenant)
    assert (event.provider, event.recipient_domain, event.account) == ("example.org", "example.org", "main")
    assert event.recipient_key == mail.told[0].recipient_key
    assert event.cause_id == mail.told[-1].event_id
    assert isinstance(event.detail, ReturnedDetail)
    assert (event.detail.suppress, event.detail.reply_class) == (True, "recipient_unknown")
    assert event.detail.place.startswith("mail.returns/")
    assert desk.personal(event).recipient == mail.recipient
    assert (story.unit.final, story.unit.code, story.unit.enhanced_code) == (True, 550, "5.1.1")
    assert "User unknown" in story.unit.reply_text
    assert [(step.type, step.final) for step in story.events[-2:]] == [("delivered", True), ("bounced", False)]
    assert story.events[-1].detail["source"] == "dsn"


async def test_the_same_report_counts_once_however_often_and_in_whatever_words_it_comes(desk: Desk) -> None:
    [mail] = await desk.sent()
    other_words = shapes.delivery_report(desk.copy(mail), mail.recipient).replace(b"Undelivered", b"Returned")
    async with desk.world.sink():
        async with running(desk.service()):
            for _ in range(3):
                await desk.bounces(mail)
            await desk.comes_back(other_words, desk.address(mail).upper())
            await desk.until_settled()
        assert len(await desk.facts()) == 1
        await desk.world.becomes((5, 1, 1), desk.world.totals)
        # Another worker remembers nothing, and asks the store.
        async with running(desk.service()):
            await desk.bounces(mail)
            # Another class is another fact, and does not hide the first.
            await desk.bounces(mail, "5.2.2")
            await desk.until_settled()
    classes = [event.detail.reply_class for event in await desk.facts() if isinstance(event.detail, ReturnedDetail)]
    assert sorted(classes) == ["mailbox_full", "recipient_unknown"]


async def test_with_every_address_masked_each_shape_of_complaint_finds_its_unit(desk: Desk) -> None:
    mails = await desk.sent(len(shapes.COMPLAINTS) + 2)
    async with desk.world.sink(), running(desk.service()):
        for mail, shape in zip(mails, shapes.COMPLAINTS.values(), strict=False):
            await desk.comes_back(shape(shapes.masked(desk.copy(mail))))
        await desk.comes_back(shapes.unsubscribe(), desk.address(mails[-1], Purpose.UNSUBSCRIBE))
        await desk.until_settled()
    wanted = {(mail.unit_id, "complained") for mail in mails[:-2]} | {(mails[-1].unit_id, "unsubscribed")}
    assert set(await desk.kinds()) == wanted
    assert all(event.detail.suppress for event in await desk.facts() if isinstance(event.detail, ReturnedDetail))


async def test_what_is_forged_automatic_or_no_complaint_changes_nothing(desk: Desk) -> None:
    [mail] = await desk.sent()
    copy, address = shapes.masked(desk.copy(mail)), desk.address(mail)
    header = desk.path.header_line(mail.job_id, 0).split()[-1].decode()
    forged = [
        header.replace("h1-", "b1-"),
        address.partition("@")[0].replace("b1-", "h1-"),
        header[:-4] + ("aaaa" if header[-4:] != "aaaa" else "bbba"),
        "h1-" + "a" * 55,
    ]
    async with desk.world.sink(), running(desk.service()):
        for key in forged:
            spoilt = copy.replace(header.encode(), key.encode())
            for shape in shapes.COMPLAINTS.values():
                await desk.comes_back(shape(spoilt))
            report = shapes.delivery_report(spoilt, mail.recipient)
            await desk.comes_back(report, f"{key}@{DOMAIN}", f"postmaster@{DOMAIN}")
        await desk.comes_back(shapes.report(copy, "not-spam"))
        await desk.comes_back(shapes.report(copy, "auth-failure"))
        await desk.comes_back(shapes.out_of_office(mail.recipient), address)
        await desk.comes_back(shapes.unsubscribe(), address)
        await desk.bounces(mail, "4.4.1", "delayed")
        await desk.bounces(mail, "2.1.5", "delivered")
        await desk.comes_back(b"")
        await desk.until_settled()
    assert await desk.facts() == []
    assert await desk.letters() == []


async def test_a_report_that_is_faster_than_the_store_waits_for_its_mail(desk: Desk) -> None:
    [early] = await desk.sent(told=False)
    [late] = await desk.sent()
    async with desk.world.sink(), running(desk.service()):
        await desk.bounces(early)
        await desk.bounces(late)
        deadline = time.monotonic() + 30
        while (late.unit_id, "bounced") not in await desk.kinds():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert not await desk.settled()
        await desk.tell([early])
        await desk.until_settled()
    assert set(await desk.kinds()) == {(early.unit_id, "bounced"), (late.unit_id, "bounced")}


async def test_while_the_store_is_down_reports_wait_and_nothing_is_lost(
    kafka_broker: KafkaBroker, own_engine: EngineProcess, tmp_path: Path
) -> None:
    own_engine.start()
    async with desk_of(kafka_broker, own_engine, tmp_path, unit_wait_seconds=0) as desk:
        [mail] = await desk.sent()
        async with desk.world.sink():
            await desk.world.becomes((3 + 1, 1, 1), desk.world.totals)
        own_engine.kill()
        async with running(desk.service()):
            await desk.bounces(mail)
            await asyncio.to_thread(own_engine.start)
            await desk.until_settled()
        assert set(await desk.kinds()) == {(mail.unit_id, "bounced")}
        assert await desk.letters() == []


async def test_a_report_about_a_mail_that_nobody_knows_is_buried_and_holds_up_nobody(
    kafka_broker: KafkaBroker, engine: EngineProcess, tmp_path: Path
) -> None:
    async with desk_of(kafka_broker, engine, tmp_path, unit_wait_seconds=0.5) as desk:
        [unknown] = await desk.sent(told=False)
        [known] = await desk.sent()
        [forgotten] = await desk.sent(told=False, job_id=new_job_id(now_ms() - 50 * 86_400_000))
        async with desk.world.sink(), running(desk.service()):
            await desk.world.becomes((4, 1, 1), desk.world.totals)
            for mail in (unknown, forgotten, known):
                await desk.bounces(mail)
            await desk.until_settled()
        assert set(await desk.kinds()) == {(known.unit_id, "bounced")}
        [letter] = await desk.letters()
        assert (letter.stage, letter.cause, letter.unit_id) == ("returns", "not_found", unknown.unit_id)


def settings_file(desk: Desk, folder: Path) -> Path:
    plain = json.loads(desk.settings.model_dump_json())
    plain["clickhouse"]["password"] = desk.settings.clickhouse.password.get_secret_value()
    plain["kafka"]["sasl_password"] = ""
    file = folder / "settings.json"
    file.write_text(json.dumps(plain))
    return file


@pytest.mark.parametrize("crashpoint", ["R1:5", "R2", "R2:12", None])
async def test_a_yes_of_the_door_is_kept_wherever_it_dies(desk: Desk, tmp_path: Path, crashpoint: str | None) -> None:
    environment = {**os.environ, **({"DEPESCHE_CRASHPOINT": crashpoint} if crashpoint else {})}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(KEEPER), str(settings_file(desk, tmp_path)), "20"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == (-signal.SIGKILL if crashpoint else 0)
    kept = {decode_returned(record.value).returned_id: record for record in await desk.records(RETURNS)}
    assert set(said.decode().split()) <= set(kept)
    assert len(kept) == 20 or crashpoint
    for record in kept.values():
        [ref] = decode_returned(record.value).content
        assert desk.archive.get(ref).startswith(b"Subject: ")


@contextlib.asynccontextmanager
async def worker(file: Path, crashpoint: str | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """The stage in a process of its own."""
    environment = {**os.environ, **({"DEPESCHE_CRASHPOINT": crashpoint} if crashpoint else {})}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), str(file), "a", env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.parametrize("crashpoint", ["R3", "R4", "R3:7", "R4:5"])
async def test_killed_at_any_point_each_report_counts_once(desk: Desk, tmp_path: Path, crashpoint: str) -> None:
    file = settings_file(desk, tmp_path)
    mails = await desk.sent(10)
    async with desk.world.sink():
        for mail in mails:
            await desk.bounces(mail)
        async with worker(file, crashpoint) as process:
            assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
        async with worker(file):
            await desk.until_settled()
        wanted = {(mail.unit_id, "bounced") for mail in mails}
        assert set(await desk.kinds()) == wanted
        assert len({event.event_id for event in await desk.facts()}) == len(wanted)
        counted = "SELECT count() FROM events FINAL WHERE type = 'bounced'"

        async def count() -> object:
            return (await desk.world.client.query(counted)).rows[0][0]

        await desk.world.becomes(len(wanted), count)


async def test_what_came_back_is_unreadable_after_its_days_and_customers_mail_is_not(desk: Desk) -> None:
    [mail] = await desk.sent()
    await desk.bounces(mail)
    [record] = await desk.records(RETURNS)
    value = decode_returned(record.value)
    assert desk.archive.get(value.content[0])
    assert erase_old(desk.world.keyring, 7, now_ms()) == []
    later: Callable[[], int] = lambda: now_ms() + 8 * 86_400_000  # noqa: E731
    desk.world.keyring._clock = later
    assert erase_old(desk.world.keyring, 7, later()) == [value.key_id]
    with pytest.raises(ContentLostError):
        desk.archive.get(value.content[0])
    assert value.key_id.startswith(f"{KEPT_AS}/")
    assert mail.key_id in set(desk.world.keyring.key_ids())


def decode_returned(value: bytes) -> Any:
    from depesche.schemas.records import ReturnedMail

    return decode(ReturnedMail, value)
