"""A job that is prepared twice sends each of its units out once, also when it would take another way the second time."""

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.registrar import Registrar, new_account
from depesche.analytics.log import topics
from depesche.analytics.log.client import full_name, producer, reader
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.codec import decode
from depesche.schemas.records import MailUnit
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import JOBS as ACCEPTED
from depesche.schemas.topics import OUTBOUND
from depesche.streams.stages.prepare import Preparation
from tests.contract.acceptance_worker import ACCOUNT, DOMAIN, TENANT, Door, a_submission

WORKER = Path(__file__).with_name("prepare_worker.py")
JOBS = 40


async def _units(settings: Settings) -> list[MailUnit]:
    """Everything in mail.outbound."""
    consumer = reader(settings, "test")
    await consumer.start()
    try:
        name = full_name(settings.kafka, OUTBOUND.name)
        partitions = [TopicPartition(name, number) for number in range(settings.kafka.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[MailUnit] = []
        while any([await consumer.position(p) < ends[p] for p in partitions]):
            for records in (await consumer.getmany(timeout_ms=300)).values():
                found += [decode(MailUnit, record.value) for record in records]
        return found
    finally:
        await consumer.stop()


async def _committed(settings: Settings) -> int:
    """How many jobs prepare is done with."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(full_name(settings.kafka, Preparation.name))
    finally:
        await admin.close()
    return sum(found.offset for place, found in offsets.items() if place.topic.endswith(ACCEPTED.name))


async def _customer(settings: Settings) -> None:
    keyring = Keyring.open(settings.home / "keys")
    directory, sender = Directory(settings, keyring), producer(settings, "set-up")
    await sender.start()
    await directory.start()
    registrar = Registrar(settings, directory, sender, keyring)
    await registrar.add_customer(TENANT, "Shop", "test")
    await registrar.add_account(TENANT, new_account("main"), "test", ACCOUNT)
    await registrar.add_domain(TENANT, DOMAIN, "test")
    await directory.stop()
    await sender.stop()


@pytest.mark.parametrize("point", ["P2:20", "P3:5"])
async def test_each_unit_goes_out_once_although_its_route_changed(
    point: str, kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    prefix = f"prepare-{point.partition(':')[0].lower()}."
    kafka = KafkaSettings(bootstrap=kafka_broker.bootstrap_servers, topic_prefix=prefix)
    settings = Settings(home=tmp_path, kafka=kafka)
    await topics.create_missing(settings)
    await _customer(settings)
    async with Door(tmp_path, kafka_broker.bootstrap_servers, prefix) as door:
        receipts = await asyncio.gather(*(door.hallway.submit(a_submission(number)) for number in range(JOBS)))
    expected = {f"{receipt.job_id}.0" for receipt in receipts}
    command = [sys.executable, str(WORKER), str(tmp_path), kafka_broker.bootstrap_servers, prefix]
    first = await asyncio.create_subprocess_exec(
        *command, "mx.before.test", env={**os.environ, "DEPESCHE_CRASHPOINT": point}
    )
    assert await first.wait() == -signal.SIGKILL, "the crash point was not passed"
    sent = {unit.unit_id for unit in await _units(settings)}
    if point.startswith("P3"):
        assert sent, "nothing was sent before the kill, so nothing is proved"
    second = await asyncio.create_subprocess_exec(*command, "mx.after.test")
    try:
        async with asyncio.timeout(60):
            while await _committed(settings) < JOBS:
                await asyncio.sleep(0.2)
        units = await _units(settings)
    finally:
        second.kill()
        await second.wait()
    assert Counter(unit.unit_id for unit in units) == Counter(expected)
    assert {unit.provider for unit in units if unit.unit_id not in sent} <= {"after.test"}
