"""The monitor over a real log: each alert begins once and ends once, wherever it is killed and however many stand by."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import prometheus_client as prometheus
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from depesche.analytics.log import topics
from depesche.analytics.log.alerts import Ledger, read_ledger
from depesche.analytics.log.client import producer, reader
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.part import find_program, missing_package
from depesche.infra.local.published import ZoneFolder
from depesche.infra.local.zone import Record
from depesche.schemas.codec import encode
from depesche.schemas.records import AlertKind, EventType, PaceAction, PaceState, RateSum, Severity
from depesche.schemas.settings import DeliverSettings, DNSBLSettings, DNSSettings, KafkaSettings, Settings
from depesche.schemas.topics import ALERTS, RATES
from depesche.streams.agents.pace import alert_of
from depesche.streams.mail.dnsbl import Health, Verdict, question
from depesche.streams.monitor.blocklists import examine
from depesche.streams.monitor.suspensions import Suspensions
from depesche.streams.wire.dnsbl import BlocklistResolver

WORKER = Path(__file__).with_name("monitor_worker.py")


class World:
    """A log of its own, and the workers that are started on it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.workers: list[subprocess.Popen[bytes]] = []
        self.minute = int(time.time() * 1000) // 60_000 * 60_000

    def start(self, member: str = "m1", **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(WORKER), self.settings.model_dump_json(), member]
        with (self.settings.home / "worker.log").open("ab") as log:
            worker = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        self.workers.append(worker)
        return worker

    async def rate(self, sender: AIOKafkaProducer, type_: EventType, count: int, **more: object) -> None:
        """Say a sum as the rates agent does; minute and partition stay, so a larger count is a correction."""
        values = {"tenant": "10001", "provider": "gmx", "kind": "", "source_partition": 0, **more}
        entry = RateSum(type=type_, count=count, watermark=count, minute=self.minute, **values)  # type: ignore[arg-type]
        key = f"{type_.value}|{values}"
        await sender.send_and_wait(
            self.settings.kafka.topic_prefix + RATES.name, encode(entry), key=key.encode(), partition=0
        )

    async def said(self, *wanted: str, seconds: float = 60) -> Ledger:
        """The ledger, as soon as it tells these states in this order."""
        deadline = time.monotonic() + seconds
        while True:
            ledger = await read_ledger(self.settings)
            states = [alert.state.value for alert in ledger.alerts]
            if states == list(wanted):
                return ledger
            assert time.monotonic() < deadline, (states, (self.settings.home / "worker.log").read_text()[-3000:])
            await asyncio.sleep(0.3)


async def a_world(broker: KafkaBroker, home: Path, prefix: str, **more: object) -> World:
    kafka = KafkaSettings(bootstrap=broker.bootstrap_servers, topic_prefix=prefix)
    settings = Settings(home=home, kafka=kafka, **{"dnsbl": DNSBLSettings(zones=()), **more})  # type: ignore[arg-type]
    await topics.create_missing(settings)
    return World(settings)


@pytest.fixture
def worlds() -> Iterator[list[World]]:
    made: list[World] = []
    yield made
    for world in made:
        for worker in world.workers:
            worker.kill()
            worker.wait()


@pytest.fixture
async def sender(kafka_broker: KafkaBroker) -> AsyncIterator[AIOKafkaProducer]:
    made = producer(Settings(kafka=KafkaSettings(bootstrap=kafka_broker.bootstrap_servers)), "test")
    await made.start()
    yield made
    await made.stop()


@pytest.mark.long
async def test_an_alert_begins_once_and_ends_once_killed_before_and_after_it_is_said(
    kafka_broker: KafkaBroker, tmp_path: Path, worlds: list[World], sender: AIOKafkaProducer
) -> None:
    world = await a_world(kafka_broker, tmp_path, "monitor.")
    worlds.append(world)
    await world.rate(sender, EventType.DELIVERED, 950)
    await world.rate(sender, EventType.BOUNCED, 50, kind="hard", event_ids=("e1", "e2"))
    for point in ("W1", "W2"):
        died = world.start(DEPESCHE_CRASHPOINT=point)
        assert await asyncio.to_thread(died.wait, 60) == -signal.SIGKILL
        await world.said(*(() if point == "W1" else ("raised",)))
    alive = world.start()
    standby = world.start("m2")
    await world.rate(sender, EventType.DELIVERED, 20_000)
    ledger = await world.said("raised", "cleared")
    raised, cleared = ledger.alerts
    assert (raised.kind, raised.subject, raised.tenant) == (AlertKind.HARD_BOUNCE_RATE, "10001/gmx", "10001")
    assert (raised.value, raised.limit, raised.causes) == (0.05, 0.01, ("e1", "e2"))
    assert "50 hard bounces for 1,000" in raised.explanation
    assert cleared.value == pytest.approx(50 / 20_050)
    # Whoever is left takes over and begins the next one, from the same log.
    alive.kill()
    alive.wait()
    await world.rate(sender, EventType.BOUNCED, 900, kind="hard", event_ids=("e3",))
    ledger = await world.said("raised", "cleared", "raised")
    assert standby.poll() is None
    assert len({alert.alert_id for alert in ledger.alerts}) == 3
    assert await _records(world) == 3


def _suspended(severity: Severity = Severity.WARN) -> float | None:
    """What Prometheus is told by this process."""
    labels = {"kind": AlertKind.SUSPENDED.value, "severity": severity.value}
    return prometheus.REGISTRY.get_sample_value("mail_alerts_open", labels)


async def test_suspensions_that_the_pace_fold_tells_are_counted_while_they_last(
    kafka_broker: KafkaBroker, tmp_path: Path, sender: AIOKafkaProducer
) -> None:
    world = await a_world(kafka_broker, tmp_path, "suspensions.")

    async def tell(action: PaceAction, provider: str) -> None:
        decision = PaceState(
            decision_id=f"{provider}/{action.value}",
            pool="shared",
            provider=provider,
            at=world.minute,
            action=action,
        )
        alert = alert_of(decision)
        assert alert is not None
        await sender.send_and_wait(world.settings.kafka.topic_prefix + ALERTS.name, encode(alert), partition=0)

    async def shown(count: int) -> None:
        async with asyncio.timeout(30):
            while _suspended() != count:
                await asyncio.sleep(0.02)

    await tell(PaceAction.SUSPENDED, "gmx")
    counting = asyncio.create_task(Suspensions(world.settings, look_seconds=0.05).run())
    try:
        await shown(1)
        await tell(PaceAction.SUSPENDED, "gmail")
        await shown(2)
        await tell(PaceAction.RESUMED, "gmx")
        await shown(1)
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
    # Whoever decides next shows them.
    assert _suspended() == 0


async def _records(world: World) -> int:
    """How many records mail.alerts has, repetitions included."""
    consumer = reader(world.settings, "test")
    await consumer.start()
    place = TopicPartition(world.settings.kafka.topic_prefix + ALERTS.name, 0)
    end = (await consumer.end_offsets([place]))[place]
    await consumer.stop()
    return int(end)


class Rbldnsd:
    """The real thing: a server that does nothing but serve blocklists."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, *listed: str) -> None:
        """Serve these IPv4 addresses on good.test from now on."""
        self._file("good4", ":127.0.0.4:see https://good.test/?$", "127.0.0.2", *listed)
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        self.write()
        self._file("good6", ":4:six", "::ffff:7f00:2", "2001:db8::1")
        self._file("world", ":2:", "127.0.0.0/8", "192.0.2.0/24")
        self._file("dead", ":2:", "198.51.100.1")
        self._file("closed", ":127.255.255.254:not for public resolvers", "127.0.0.0/8", "192.0.2.0/24")
        zones = ["good.test:ip4set:good4", "good.test:ip6trie:good6"]
        zones += [f"{name}.test:ip4set:{name}" for name in ("world", "dead", "closed")]
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        command = ["rbldnsd", "-n", *user, "-b", f"127.0.0.1/{self.port}", "-w", str(self.folder), *zones]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        # Before it says so, the signal that makes it read its files again would end it.
        while b" started " not in (self.folder / "log").read_bytes():
            assert time.monotonic() < deadline and self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)

    def _file(self, name: str, *lines: str) -> None:
        draft = self.folder / f"{name}.new"
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(self.folder / name)


@pytest.fixture
def rbldnsd(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Rbldnsd]:
    if find_program("rbldnsd") is None:
        pytest.skip(missing_package("rbldnsd", "a real server of blocklists"))
    made = Rbldnsd(tmp_path / "lists", free_port())
    made.folder.mkdir()
    made.start()
    yield made
    assert made.process is not None
    made.process.terminate()
    made.process.wait()


class OwnLists:
    """Stands in for it where the package is missing: two of its zones from our own name server."""

    def __init__(self, folder: Path) -> None:
        self.zone = ZoneFolder(folder)
        self.server = DNSServer(self.zone)

    @property
    def port(self) -> int:
        return self.server.port

    def write(self, *listed: str) -> None:
        records = [Record("*.world.test", "A", "127.0.0.2")]
        for address in ("127.0.0.2", *listed):
            name = question(address, "good.test")
            records += [Record(name, "A", "127.0.0.4"), Record(name, "TXT", f"see https://good.test/?{address}")]
        self.zone.write_base(tuple(records))


@pytest.fixture
async def lists(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rbldnsd | OwnLists]:
    if find_program("rbldnsd") is not None:
        yield request.getfixturevalue("rbldnsd")
        return
    made = OwnLists(tmp_path / "zone")
    made.write()
    await made.server.start()
    yield made
    await made.server.stop()


def asking(port: int, seconds: float = 5.0) -> BlocklistResolver:
    return BlocklistResolver(DNSSettings(servers=(f"127.0.0.1:{port}",), timeout_seconds=seconds))


async def test_lists_of_a_real_server_are_believed_only_when_they_are_sane(rbldnsd: Rbldnsd) -> None:
    rbldnsd.write("192.0.2.7")
    ours, zones = (
        ("192.0.2.7", "192.0.2.8", "2001:db8::1"),
        ("good.test", "world.test", "dead.test", "closed.test", "gone.test"),
    )
    deadline = time.monotonic() + 20
    while True:
        found = {(one.address, one.zone): one for one in await examine(asking(rbldnsd.port), ours, zones)}
        seven = found["192.0.2.7", "good.test"]
        if (seven.verdict and seven.verdict.state == "listed") or time.monotonic() > deadline:
            break
    assert (seven.verdict.codes, seven.reason) == (("127.0.0.4",), "see https://good.test/?192.0.2.7")  # type: ignore[union-attr]
    assert found["192.0.2.8", "good.test"].verdict == Verdict("clear")
    assert found["2001:db8::1", "good.test"].verdict == Verdict("listed", ("127.0.0.4",))
    reasons = {zone: found["192.0.2.8", zone].health for zone in zones[1:]}
    assert reasons["world.test"] == Health(False, "it lists every address")
    assert reasons["dead.test"] == Health(False, "it does not list its test entry")
    assert reasons["closed.test"].usable is False and "public resolvers" in reasons["closed.test"].reason
    assert reasons["gone.test"].usable is None
    assert not any(found["192.0.2.8", zone].verdict for zone in zones[1:])


async def test_a_server_that_fails_or_is_silent_tells_nothing(tmp_path: Path) -> None:
    folder = ZoneFolder(tmp_path)
    folder.write_base(
        (Record("2.0.0.127.slow.test", "A", "127.0.0.2"), Record("2.0.0.127.sick.test", "A", "127.0.0.2"))
    )
    folder.set_fault("slow.test", "timeout")
    folder.set_fault("sick.test", "servfail")
    server = DNSServer(folder)
    await server.start()
    try:
        resolver, zones = asking(server.port, 0.4), ("slow.test", "sick.test")
        found = {one.zone: one for one in await examine(resolver, ("192.0.2.7",), zones)}
        assert {zone: one.health.usable for zone, one in found.items()} == {"slow.test": None, "sick.test": None}
        assert "in time" in found["slow.test"].health.reason
        for zone in zones:
            folder.set_fault(zone, None)
        assert [one.verdict for one in await examine(resolver, ("192.0.2.7",), zones)] == [Verdict("clear")] * 2
    finally:
        await server.stop()


async def test_a_listing_that_comes_and_goes_is_one_alert_also_when_the_monitor_is_killed_between(
    kafka_broker: KafkaBroker, tmp_path: Path, worlds: list[World], lists: Rbldnsd | OwnLists
) -> None:
    world = await a_world(
        kafka_broker,
        tmp_path,
        "lists.",
        deliver=DeliverSettings(source_ips=("192.0.2.7", "192.0.2.8")),
        dnsbl=DNSBLSettings(
            zones=("good.test", "world.test"), servers=(f"127.0.0.1:{lists.port}",), interval_seconds=0.2
        ),
    )
    worlds.append(world)
    lists.write("192.0.2.7")
    first = world.start()
    ledger = await world.said("raised", "raised")
    told = {(alert.kind, alert.subject): alert.explanation for alert in ledger.alerts}
    assert set(told) == {(AlertKind.LISTED, "192.0.2.7/good.test"), (AlertKind.LIST_UNUSABLE, "world.test")}
    assert "see https://good.test/?192.0.2.7" in told[AlertKind.LISTED, "192.0.2.7/good.test"]
    first.kill()
    first.wait()
    lists.write()
    world.start()
    ledger = await world.said("raised", "raised", "cleared")
    assert (ledger.alerts[2].kind, ledger.alerts[2].subject) == (AlertKind.LISTED, "192.0.2.7/good.test")
    assert await _records(world) == 3
