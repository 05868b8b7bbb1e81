"""Warm-up: the counts are exact after kills of the agents, and couriers send no more from a cold address than it may."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from depesche.analytics.warmup.book import WarmupBook
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.server import Sink
from depesche.schemas import cloudevents
from depesche.schemas.codec import encode
from depesche.schemas.identity import event_id
from depesche.schemas.records import AttemptDetail, EventType, MailEvent, Pool, PoolAddress
from depesche.schemas.service import now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTCOMES, RETRY, partition_of
from depesche.streams.mail.route import route_of
from depesche.streams.mail.warmup import DAY_MS, day_of
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.retry import Retry
from depesche.streams.stages.shaping_watch import ShapingWatch
from depesche.streams.stages.terms import Guidance
from depesche.streams.stages.trail import header
from depesche.streams.stages.warming import Warming
from tests.contract.far_side import dns_server, sink, zone
from tests.contract.outbox import PARTITIONS, Outbox, detail, opened, running, settings_for
from tests.contract.test_directory import Office

__all__ = ["dns_server", "sink", "zone"]

WORKER = Path(__file__).with_name("rates_worker.py")
COLD, WARM, HELPER = "127.0.0.31", "127.0.0.32", "127.0.0.33"
PROVIDERS = ("gmail", "gmx", "a|b.example")
COUNT = 3_000


@pytest_asyncio.fixture
async def outbox(kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, tmp_path: Path) -> AsyncIterator[Outbox]:
    prefix = f"warmup{random.randrange(10**6)}."
    # Few connections, so that mails follow each other on them: a kept one must end with the allowance, too.
    settings = settings_for(kafka_broker, dns_server, sink.port, prefix, tmp_path, connections_per_route=2)
    async with opened(settings) as outbox:
        yield outbox


class Agents:
    """The production agents in a process that may be killed."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.home / "agents.json"
        self._file.write_text(settings.model_dump_json())
        self._log = (settings.home / "agents.log").open("ab")

    def start(self) -> None:
        command = [sys.executable, str(WORKER), str(self._file)]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.kill()
            self._log.close()


def _cold(days: int = 0) -> PoolAddress:
    return PoolAddress(ip=COLD, warm_up_from=day_of(now_ms()) - days * DAY_MS)


def _events() -> list[MailEvent]:
    """Outcomes from a cold and a warm address, at midnight's both sides, at every step, some of them not about attempts."""
    chance, today = random.Random(7), day_of(now_ms())
    words = dict.fromkeys(("host", "remote_ip", "tls", "enhanced_code", "reply_class", "kind", "queue_id"), "")
    return [
        MailEvent(
            event_id=event_id(f"j.{number}", "x", 1),
            type=chance.choice((EventType.DELIVERED, EventType.DEFERRED, EventType.BOUNCED)),
            unit_id=f"j.{number}",
            job_id="j",
            tenant="10001",
            account="a",
            recipient_key=f"{chance.getrandbits(128):032x}",
            occurred_at=today + chance.choice((-1, 0)),
            sequence=101,
            attempt=1,
            worker="w",
            provider=chance.choice(PROVIDERS),
            detail=AttemptDetail(
                source_ip=chance.choice((COLD, WARM, "")),
                step=chance.choice(("dns", "connect", "banner", "starttls", "mail", "rcpt", "data", "dot", "")),
                code=0,
                millis=1,
                **words,
            ),
        )
        for number in range(COUNT)
    ]


async def _say(outbox: Outbox, events: list[MailEvent]) -> None:
    for number, event in enumerate(events):
        # Every tenth is said again, as after the restart of a courier.
        for one in (event, *([events[number - 5]] if number % 10 == 9 else [])):
            topic = outbox.settings.kafka.topic_prefix + OUTCOMES.name
            place = partition_of(one.recipient_key, PARTITIONS)
            await outbox.out.send(topic, encode(one), partition=place, headers=cloudevents.of_event(one))
        if number % 200 == 199:
            await asyncio.sleep(0.3)


async def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.1)


async def test_the_counts_are_exact_after_kills_and_repeated_outcomes(outbox: Outbox) -> None:
    events, today, book = _events(), day_of(now_ms()), WarmupBook(outbox.settings)
    wanted = Counter(
        (event.provider, day_of(event.occurred_at))
        for event in events
        if detail(event).source_ip == COLD and detail(event).step in ("mail", "rcpt", "data", "dot")
    )

    def found() -> Counter[tuple[str, int]]:
        days = (today - DAY_MS, today)
        counts = {(name, day): n for day in days for name, n in book.by_provider(COLD, day).items()}
        return Counter(counts)

    async with Office(outbox.settings, outbox.keyring).open() as office:
        await office.registrar.add_pool("vip", Pool(addresses=(_cold(5), PoolAddress(ip=WARM))), "test")
    await book.start()
    agents = Agents(outbox.settings)
    with agents.working():
        saying = asyncio.create_task(_say(outbox, events))
        for kill in range(3):
            # Killed while it is busy: some outcomes are counted, more are coming.
            least = wanted.total() * (kill + 1) // 6
            await _until(lambda least=least: found().total() > least)  # type: ignore[misc]
            agents.kill()
            agents.start()
        await saying
        await _until(lambda: found().total() >= wanted.total())
        await asyncio.sleep(2.5)  # Whatever would be counted too often is said within a second.
        assert found() == wanted
        assert not any(book.by_provider(WARM, day) for day in (today - DAY_MS, today))
    await book.stop()


@contextlib.asynccontextmanager
async def _couriers(outbox: Outbox, office: Office, book: WarmupBook, member: str = "a") -> AsyncIterator[None]:
    directory = office.directory
    guidance = Guidance(
        ShapingWatch(outbox.settings).of, own=directory.pool_addresses, warming=Warming(directory.pool, book)
    )
    deliver = Deliver(outbox.settings, outbox.keyring, outbox.archive, member, guidance=guidance)
    async with running(deliver), running(Retry(outbox.settings, member)):
        yield


async def _shown(settings: Settings, *more: str) -> list[dict[str, Any]]:
    """What ``depesche pool warmup`` says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEPESCHE_")} | {
        "DEPESCHE_HOME": str(settings.home),
        "DEPESCHE_KAFKA__BOOTSTRAP": settings.bootstrap,
        "DEPESCHE_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
    }
    command = (Path(sys.executable).with_name("depesche"), "pool", "warmup", "vip", "--json", *more)
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return [json.loads(line) for line in said.splitlines()]


async def _sent_from(outbox: Outbox) -> Counter[str]:
    return Counter(detail(event).source_ip for event in await outbox.told() if event.type is EventType.DELIVERED)


async def test_a_cold_address_sends_what_it_may_and_a_warm_one_the_rest_also_after_a_restart(
    outbox: Outbox, sink: Sink
) -> None:
    pool = Pool(addresses=(_cold(), PoolAddress(ip=WARM)), warm_up_plan=(5, 8))
    book, route = WarmupBook(outbox.settings), route_of("sandbox.test", "vip")
    async with Office(outbox.settings, outbox.keyring).open() as office:
        await office.registrar.add_pool("vip", pool, "test")
        with Agents(outbox.settings).working():
            await book.start()
            async with _couriers(outbox, office, book):
                await outbox.units(*(f"w{n}@sandbox.test" for n in range(20)), route=route)
                await outbox.all_final()
            assert await _sent_from(outbox) == {COLD: 5, WARM: 15}
            # Couriers that know nothing but what the fold has told.
            await _until(lambda: book.used(COLD, "sandbox.test", day_of(now_ms())) == 5)
            async with _couriers(outbox, office, book):
                await outbox.units(*(f"x{n}@sandbox.test" for n in range(10)), route=route)
                await outbox.units(*(f"y{n}@second.test" for n in range(7)), route=route_of("second.test", "vip"))
                await outbox.all_final()
            await book.stop()
        cold, warm = await _shown(outbox.settings)
    assert (cold["address"], cold["state"], cold["day"], cold["allowance"]) == (COLD, "warming up", 1, 5)
    assert cold["used"]["sandbox.test"] == 5
    assert (warm["address"], warm["state"], warm["allowance"], warm["used"]) == (WARM, "warm", None, {})
    sent = Counter((detail(event).source_ip, event.provider) for event in await outbox.told())
    assert sent == {
        (COLD, "sandbox.test"): 5,
        (WARM, "sandbox.test"): 25,
        (COLD, "second.test"): 5,
        (WARM, "second.test"): 2,
    }


async def _waiting(outbox: Outbox) -> Counter[str]:
    return Counter(header(record, "why") for record in await outbox.records(RETRY["1m"]))


async def test_what_no_address_may_send_today_waits_and_goes_when_another_pool_helps(
    outbox: Outbox, sink: Sink
) -> None:
    pool, book = Pool(addresses=(_cold(),), warm_up_plan=(3,)), WarmupBook(outbox.settings)
    async with Office(outbox.settings, outbox.keyring).open() as office:
        registrar = office.registrar
        await registrar.add_pool("vip", pool, "test")
        await registrar.add_pool("helper", Pool(addresses=(PoolAddress(ip=HELPER),)), "test")
        await book.start()
        async with _couriers(outbox, office, book):
            await outbox.units(*(f"z{n}@sandbox.test" for n in range(8)), route=route_of("sandbox.test", "vip"))
            await outbox.until(lambda events: len(events) == 3)
            # They come and go on the ladder, hop by hop, and nobody is told that anything had happened to them.
            async with asyncio.timeout(20):
                while (await _waiting(outbox))["no room"] < 5:
                    await asyncio.sleep(0.1)
            assert await _sent_from(outbox) == {COLD: 3}
            assert len(await outbox.told()) == 3
            await _shown(outbox.settings, "--overflow", "helper")
            await outbox.all_final()
        await book.stop()
    assert await _sent_from(outbox) == {COLD: 3, HELPER: 5}
    assert {event.type for event in await outbox.told()} == {EventType.DELIVERED}
