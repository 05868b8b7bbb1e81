"""The sink on a real broker and the real engine: everything arrives, once, whatever dies or stands still."""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.log.client import full_name, producer
from depesche.analytics.log.topics import create_missing
from depesche.analytics.store.client import StoreClient
from depesche.analytics.store.migrate import bootstrap
from depesche.analytics.store.offsets import stored_offsets
from depesche.analytics.store.sink import GROUP, Sink
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas import topics
from depesche.schemas.codec import encode
from depesche.schemas.errors import SetupError
from depesche.schemas.settings import Settings

from .conftest import EngineProcess
from .story import Log, Mail

WORKER = Path(__file__).with_name("sink_worker.py")
_names = itertools.count()
TOTALS = """SELECT (SELECT uniqExact(event_id) FROM events), (SELECT count() FROM units FINAL),
    (SELECT count() FROM states FINAL WHERE final)"""


def settings_for(bootstrap_servers: str, engine: EngineProcess, name: str, home: Path) -> Settings:
    """A log and a database of their own."""
    return Settings.model_validate(
        {
            "home": home,
            "kafka": {"bootstrap": bootstrap_servers, "topic_prefix": f"{name}."},
            "clickhouse": {
                "url": engine.url,
                "user": engine.user,
                "password": engine.password,
                "database": name,
            },
        }
    )


@dataclass
class World:
    """What a test works with."""

    settings: Settings
    keyring: Keyring
    log: Log
    client: StoreClient

    async def totals(self) -> tuple[Any, ...]:
        """Events, units, units in a final state."""
        return (await self.client.query(TOTALS)).rows[0]

    async def becomes(self, wanted: object, look: Callable[[], Awaitable[object]], seconds: float = 60) -> None:
        """Wait until ``look`` gives ``wanted``."""
        deadline = time.monotonic() + seconds
        found = await look()
        while found != wanted and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            found = await look()
        assert found == wanted

    @asynccontextmanager
    async def sink(self, member: str = "a", client: StoreClient | None = None) -> AsyncIterator[Sink]:
        """A running sink."""
        sink = Sink(self.settings, self.keyring, client or self.client, member)
        ready = asyncio.Event()
        work = asyncio.create_task(sink.run(ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if work.done():
            work.result()
        try:
            yield sink
        finally:
            work.cancel()
            await asyncio.wait({work})
            if not work.cancelled() and (fault := work.exception()):
                raise fault


@asynccontextmanager
async def world_of(broker: KafkaBroker, engine: EngineProcess, home: Path) -> AsyncIterator[World]:
    """Topics, tables, keys, and somebody who writes to the log."""
    settings = settings_for(broker.bootstrap_servers, engine, f"sink{next(_names)}", home)
    await create_missing(settings)
    client = StoreClient(settings, "tests")
    await bootstrap(client, settings)
    teller = producer(settings, "tests")
    await teller.start()
    try:
        yield World(settings, Keyring.open(home / "keys"), Log(settings, teller), client)
    finally:
        await teller.stop()
        await client.close()


@pytest_asyncio.fixture
async def world(kafka_broker: KafkaBroker, engine: EngineProcess, tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(kafka_broker, engine, tmp_path) as made:
        yield made


def mails(world: World, count: int, kind: str = "delivered") -> list[Mail]:
    return [
        Mail(world.keyring, recipient=f"user{number}@example{number % 3}.org").prepared().answered(kind)
        for number in range(count)
    ]


async def test_a_mail_s_whole_story_is_in_the_tables_and_can_be_read(world: World) -> None:
    mail = Mail(world.keyring, recipient="Ada@Example.org", subject="Grüße", campaign="spring", reference="r-1")
    mail.prepared().answered("deferred", 1, text="try later").answered("delivered", 2, text="250 queued")
    async with world.sink():
        await world.log.events(mail.told)
        await world.becomes((5, 1, 1), world.totals)
    unit = (await world.client.query("SELECT * FROM units")).named()[0]
    assert (unit["recipient"], unit["subject"], unit["campaign_id"]) == ("Ada@Example.org", "Grüße", "spring")
    assert (unit["message_id"], unit["size"], unit["mail_from"]) == (mail.message_id, 10_240, "shop@shop.example")
    state = (await world.client.query("SELECT * FROM states FINAL")).named()[0]
    assert (state["status"], state["attempts"], state["code"], state["final"]) == ("delivered", 2, 250, True)
    assert state["reply_text"] == "250 queued"
    kinds = await world.client.query("SELECT type, reply_text FROM events ORDER BY sequence")
    assert [row[0] for row in kinds.rows] == ["accepted", "scanned", "signed", "deferred", "delivered"]
    assert kinds.rows[3][1] == "try later"


async def test_what_is_told_twice_counts_once_and_the_first_telling_stays(world: World) -> None:
    mail = Mail(world.keyring).prepared().answered("delivered", 1, text="the first")
    again = Mail(world.keyring, job_id=mail.job_id, message_id=mail.message_id).prepared()
    again.answered("delivered", 1, text="the second")
    async with world.sink() as sink:
        await world.log.events(mail.told)
        await world.becomes(4, lambda: _number(sink.tally.records))
        await world.log.events(replace(event, occurred_at=event.occurred_at + 60_000) for event in again.told)
        await world.becomes(8, lambda: _number(sink.tally.records))
    assert await world.totals() == (4, 1, 1)
    assert (await world.client.query("SELECT reply_text FROM states FINAL")).rows == [("the first",)]
    found = await world.client.query("SELECT reply_text, count() FROM events FINAL WHERE final GROUP BY 1")
    assert found.rows == [("the first", 1)]


async def _number(value: int) -> int:
    return value


async def test_an_erased_person_stays_in_the_counts_and_nowhere_else(world: World) -> None:
    yesterday = Keyring.open(world.settings.home / "keys", clock=lambda: int(time.time() * 1000) - 86_400_000)
    mail = Mail(yesterday).prepared().answered("delivered")
    assert world.keyring.erase(mail.key_id)
    async with world.sink():
        await world.log.events(mail.told)
        await world.becomes((4, 1, 1), world.totals)
    unit = (await world.client.query("SELECT * FROM units")).named()[0]
    assert (unit["recipient"], unit["subject"], unit["size"]) == ("", "", 10_240)
    seen = await world.client.query("SELECT count() FROM events WHERE recipient != '' OR reply_text != ''")
    assert seen.rows == [(0,)]


async def test_records_nobody_can_read_are_buried_and_the_others_go_on(world: World) -> None:
    good = mails(world, 3)
    odd = Mail(world.keyring).prepared()
    wrong_unit = replace(odd.told[0], unit_id="another.0")
    too_long = replace(odd.told[1], attempt=70_000)
    async with world.sink() as sink:
        await world.log.send(topics.EVENTS.name, b"no event at all", 0)
        await world.log.send(topics.OUTCOMES.name, None, 1)
        await world.log.send(topics.DEAD.name, b"no dead letter either", 0)
        await world.log.events([*good[0].told, wrong_unit, *good[1].told, too_long, *good[2].told])
        await world.becomes((12, 3, 3), world.totals)
        await world.becomes(5, lambda: _number(sink.tally.buried))
        buried = "SELECT count(), uniqExact(cause) FROM dead_letters FINAL WHERE stage = 'analytics'"

        async def look() -> object:
            return (await world.client.query(buried)).rows[0][0]

        await world.becomes(5, look)
    letters = await world.client.query(
        "SELECT topic, cause, record_value FROM dead_letters FINAL ORDER BY topic, cause"
    )
    assert ("mail.dead", "undecodable", "no dead letter either") in letters.rows
    assert {row[0] for row in letters.rows} == {"mail.dead", "mail.events", "mail.outcomes"}


@pytest.mark.parametrize("point", ["S1", "S2:2", "S1:3"])
async def test_killed_at_a_crash_point_it_goes_on_and_every_event_is_there_once(world: World, point: str) -> None:
    worker = await _worker(world, point)
    killed = asyncio.create_task(worker.wait())
    count = 0
    while not killed.done() and count < 2_000:
        await world.log.events(event for mail in mails(world, 3) for event in mail.told)
        count += 3
        await asyncio.sleep(0.05)
    assert await asyncio.wait_for(killed, 60) == -signal.SIGKILL
    async with world.sink():
        await world.becomes((4 * count, count, count), world.totals)
        await world.becomes(4 * count, lambda: _noted(world))
    assert (await world.client.query("SELECT count() FROM states FINAL WHERE status = 'delivered'")).rows == [(count,)]


async def _noted(world: World) -> int:
    return sum((await stored_offsets(world.client)).values())


async def _worker(world: World, point: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "DEPESCHE_CRASHPOINT": point, "SETTINGS": world.settings.model_dump_json()}
    environment["PASSWORD"] = world.settings.clickhouse.password.get_secret_value()
    return await asyncio.create_subprocess_exec(sys.executable, str(WORKER), env=environment)


async def test_while_the_store_is_away_nothing_is_lost_and_it_catches_up(
    kafka_broker: KafkaBroker, own_engine: EngineProcess, tmp_path: Path
) -> None:
    own_engine.start()
    async with world_of(kafka_broker, own_engine, tmp_path) as world, world.sink() as sink:
        first, second = mails(world, 20), mails(world, 20, "bounced")
        await world.log.events(event for mail in first for event in mail.told)
        await world.becomes((80, 20, 20), world.totals)
        own_engine.kill()
        await world.log.events(event for mail in second for event in mail.told)
        await world.becomes(True, lambda: _truth(sink.tally.waits >= 2))
        own_engine.start()
        await world.becomes((160, 40, 40), world.totals)


async def _truth(value: bool) -> bool:
    return value


async def test_two_sinks_share_the_partitions_and_take_over_from_each_other(world: World) -> None:
    told = mails(world, 60)
    other = StoreClient(world.settings, "other")
    async with world.sink("a"):
        async with world.sink("b", other):
            await world.log.events(event for mail in told[:30] for event in mail.told)
            await world.becomes((120, 30, 30), world.totals)
        await world.log.events(event for mail in told[30:] for event in mail.told)
        await world.becomes((240, 60, 60), world.totals)
    await other.close()


async def test_an_emptied_store_is_filled_again_from_the_beginning(world: World) -> None:
    told = mails(world, 25)
    async with world.sink():
        await world.log.events(event for mail in told for event in mail.told)
        await world.becomes((100, 25, 25), world.totals)
        await world.becomes(100, lambda: _noted(world))
    for table in ("events", "units", "states", "dead_letters", "sink_offsets"):
        await world.client.command(f"TRUNCATE TABLE {table}")
    async with world.sink():
        await world.becomes((100, 25, 25), world.totals)


async def test_a_store_that_is_ahead_of_the_log_is_refused(world: World) -> None:
    await world.client.command("INSERT INTO sink_offsets (topic, partition, next_offset) VALUES ('mail.events', 0, 99)")
    sink = Sink(world.settings, world.keyring, world.client, "a")
    with pytest.raises(SetupError, match="do not belong together"):
        await asyncio.wait_for(sink.run(lambda: None), 30)


async def test_dead_letters_of_the_workshop_can_be_queried(world: World) -> None:
    from depesche.schemas.records import DeadLetter

    letter = DeadLetter(
        stage="deliver",
        topic="mail.outbound",
        partition=1,
        offset=17,
        occurred_at=1_795_400_000_000,
        cause="undecodable",
        explanation="damaged",
        record_key=b"k",
        record_value=b"\x00\xff",
        tenant="4711",
    )
    async with world.sink():
        await world.log.send(topics.DEAD.name, encode(letter), 0)
        await world.log.send(topics.DEAD.name, encode(letter), 0)

        async def look() -> object:
            found = await world.client.query("SELECT stage, offset, tenant, hex(record_value) FROM dead_letters FINAL")
            return found.rows

        await world.becomes([("deliver", 17, "4711", "00FF")], look)


async def test_lag_tools_see_how_far_it_is(world: World) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    from depesche.analytics.log.client import connection

    told = mails(world, 5)
    admin = AIOKafkaAdminClient(**connection(world.settings))
    await admin.start()

    async def look() -> object:
        found = await admin.list_consumer_group_offsets(full_name(world.settings.kafka, GROUP))
        return sum(place.offset for place in found.values())

    async with world.sink():
        await world.log.events(event for mail in told for event in mail.told)
        await world.becomes(20, look)
    await admin.close()
