"""Accepted means kept (design section 5.1): wherever the door dies, every yes that was given stands in the log."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.registrar import Registrar, new_account
from depesche.analytics.log import topics
from depesche.analytics.log.client import full_name, producer, reader
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.codec import decode
from depesche.schemas.errors import (
    ForbiddenSenderError,
    IdempotencyMismatchError,
    LogUnavailableError,
    Outage,
)
from depesche.schemas.records import Job, JobEnvelope
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import JOBS, KEYED_JOBS
from tests.contract.acceptance_worker import ACCOUNT, DOMAIN, TENANT, Door, a_submission

WORKER = Path(__file__).with_name("acceptance_worker.py")
PREFIX = "acceptance."


@pytest.fixture(scope="module")
async def home(kafka_broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one customer who may send."""
    home = tmp_path_factory.mktemp("door")
    settings = Settings(home=home, kafka=KafkaSettings(bootstrap=kafka_broker.bootstrap_servers, topic_prefix=PREFIX))
    await topics.create_missing(settings)
    keyring = Keyring.open(home / "keys")
    directory, sender = Directory(settings, keyring), producer(settings, "set-up")
    await sender.start()
    await directory.start()
    registrar = Registrar(settings, directory, sender, keyring)
    await registrar.add_customer(TENANT, "Shop", "test")
    await registrar.add_account(TENANT, new_account("main"), "test", ACCOUNT)
    await registrar.add_domain(TENANT, DOMAIN, "test")
    await directory.stop()
    await sender.stop()
    return home


@pytest.fixture
async def door(home: Path, kafka_broker: KafkaBroker) -> AsyncIterator[Door]:
    async with Door(home, kafka_broker.bootstrap_servers, PREFIX) as opened:
        yield opened


async def jobs_in_log(settings: Settings) -> dict[str, Job]:
    consumer = reader(settings, "test")
    await consumer.start()
    try:
        partitions = [
            TopicPartition(full_name(settings.kafka, topic.name), number)
            for topic in (JOBS, KEYED_JOBS)
            for number in range(settings.kafka.partitions)
        ]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[str, Job] = {}
        while any([await consumer.position(p) < ends[p] for p in partitions]):
            for records in (await consumer.getmany(timeout_ms=300)).values():
                found |= {job.job_id: job for job in (decode(Job, record.value) for record in records)}
        return found
    finally:
        await consumer.stop()


def content_of(job: Job, home: Path) -> str:
    archive = ArchiveReader(home / "archive", Keyring.open(home / "keys"))
    try:
        return b"".join(archive.get(ref) for ref in job.messages[0].content).decode()
    finally:
        archive.close()


@pytest.mark.parametrize("point", ["A1", "A2", "A3", "A4", "A5", "A6"])
async def test_every_yes_stands_in_the_log_wherever_the_door_dies(
    point: str, home: Path, kafka_broker: KafkaBroker
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(WORKER), str(home), kafka_broker.bootstrap_servers, PREFIX, "100"),
        stdout=subprocess.PIPE,
        env={**os.environ, "DEPESCHE_CRASHPOINT": f"{point}:60"},
    )
    out, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL, "the crash point was not passed"
    acknowledged = dict(line.split() for line in out.decode().splitlines())
    settings = Settings(home=home, kafka=KafkaSettings(bootstrap=kafka_broker.bootstrap_servers, topic_prefix=PREFIX))
    jobs = await jobs_in_log(settings)
    for job_id, number in acknowledged.items():
        assert f"body {number}\r\n" in content_of(jobs[job_id], home)
    if point in ("A5", "A6"):
        assert len(acknowledged) >= 59


async def test_a_job_in_the_log_says_nothing_personal_in_clear(door: Door, home: Path) -> None:
    receipt = await door.hallway.submit(a_submission(1))
    job = (await jobs_in_log(door.settings))[receipt.job_id]
    raw = repr(job)
    assert "r1@x.test" not in raw
    envelope = decode(
        JobEnvelope, door.keyring.key(job.key_id).open(job.sealed_envelope, b"job|" + job.job_id.encode())
    )
    assert [r.address for r in envelope.recipients] == ["r1@x.test"]
    assert receipt.unit_ids == (f"{receipt.job_id}.0",)


async def test_a_client_that_hangs_up_does_not_leave_half_a_job(door: Door) -> None:
    submitting = asyncio.create_task(door.hallway.submit(a_submission(2)))
    await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    await door.hallway.stop()
    contents = [
        job for job in (await jobs_in_log(door.settings)).values() if job.messages[0].message_id == f"2@{DOMAIN}"
    ]
    assert contents
    await door.hallway.start()


async def test_a_domain_of_somebody_else_is_refused(door: Door) -> None:
    with pytest.raises(ForbiddenSenderError):
        await door.hallway.submit(a_submission(3, sender_domain="other.test"))
    with pytest.raises(ForbiddenSenderError):
        await door.hallway.submit(a_submission(3, tenant="20002"))


async def test_the_same_key_gives_the_same_job_also_after_a_restart(
    door: Door, home: Path, kafka_broker: KafkaBroker
) -> None:
    first = await door.hallway.submit(a_submission(4, idempotency_key="k", fingerprint="f"))
    again = await door.hallway.submit(a_submission(4, idempotency_key="k", fingerprint="f"))
    assert (again.job_id, again.replayed, again.units) == (first.job_id, True, 1)
    with pytest.raises(IdempotencyMismatchError):
        await door.hallway.submit(a_submission(4, idempotency_key="k", fingerprint="other"))
    async with Door(home, kafka_broker.bootstrap_servers, PREFIX) as restarted:
        later = await restarted.hallway.submit(a_submission(4, idempotency_key="k", fingerprint="f"))
        assert (later.job_id, later.replayed) == (first.job_id, True)
    other_account = door.index.scoped("10001_local_y", "k")
    assert other_account != door.index.scoped(ACCOUNT, "k")


async def test_two_requests_with_one_key_at_once_make_one_job(door: Door) -> None:
    results = await asyncio.gather(
        *(door.hallway.submit(a_submission(5, idempotency_key="at-once", fingerprint="f")) for _ in range(5)),
        return_exceptions=True,
    )
    assert len([r for r in results if not isinstance(r, BaseException)]) == 1
    assert all(isinstance(r, Outage) for r in results if isinstance(r, BaseException))


async def test_a_stopped_log_is_answered_at_once_and_its_return_noticed(
    kafka_home: Path, tmp_path: Path, free_port: object
) -> None:
    broker = KafkaBroker(kafka_home, tmp_path / "kafka", port=free_port(), controller_port=free_port())  # type: ignore[operator]
    await asyncio.to_thread(broker.prepare)
    settings = Settings(home=tmp_path, kafka=KafkaSettings(bootstrap=broker.bootstrap_servers))

    def run() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            broker.command(), env=broker.env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    process = run()
    try:
        await broker.ready()
        await topics.create_missing(settings)
        async with Door(tmp_path, broker.bootstrap_servers, "") as door:
            registrar = Registrar(door.settings, door.directory, door.producer, door.keyring)
            await registrar.add_customer(TENANT, "Shop", "test")
            await registrar.add_account(TENANT, new_account("main"), "test", ACCOUNT)
            await registrar.add_domain(TENANT, DOMAIN, "test")
            await door.hallway.submit(a_submission(6))
            os.kill(process.pid, signal.SIGSTOP)
            with pytest.raises(LogUnavailableError):
                await door.hallway.submit(a_submission(7))
            with pytest.raises(LogUnavailableError):
                await door.hallway.submit(a_submission(8))
            assert not door.hallway.ready
            os.kill(process.pid, signal.SIGCONT)
            async with asyncio.timeout(30):
                while not door.hallway.ready:
                    await asyncio.sleep(0.1)
            await door.hallway.submit(a_submission(9))
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        await asyncio.to_thread(process.wait, 30)
