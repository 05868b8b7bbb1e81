"""Units that a test put straight before the couriers, entered in the log as if doors and workshop had made them, and audited."""

import asyncio
import time

from aiokafka import TopicPartition

from depesche.analytics.audit.audit import PREPARE_GROUP, run_audit
from depesche.analytics.audit.report import AuditReport
from depesche.analytics.log.client import full_name, group_consumer
from depesche.analytics.store.client import StoreClient
from depesche.analytics.store.migrate import bootstrap
from depesche.analytics.store.sink import Sink as StoreSink
from depesche.infra.local.sink.server import Sink
from depesche.schemas.codec import encode
from depesche.schemas.records import MailUnit
from depesche.schemas.settings import Settings
from depesche.schemas.topics import JOBS, job_partition
from tests.contract.conftest import EngineProcess
from tests.contract.outbox import Outbox, running
from tests.contract.story import Log, Mail


def stored_in(settings: Settings, engine: EngineProcess, database: str) -> Settings:
    """The settings with a database of this name."""
    store = {"url": engine.url, "user": engine.user, "password": engine.password, "database": database}
    return Settings.model_validate(settings.model_dump() | {"clickhouse": store})


async def audited(outbox: Outbox, sink: Sink, seconds: float = 60) -> AuditReport:
    """Enter what went before the units, have everything stored in ClickHouse, and hold log, store and far side together."""
    log = Log(outbox.settings, outbox.out)
    await _enter(outbox, log)
    client = StoreClient(outbox.settings, "tests")
    try:
        await bootstrap(client, outbox.settings)
        async with running(StoreSink(outbox.settings, outbox.keyring, client, "a")):
            deadline = time.monotonic() + seconds
            while True:
                report = await run_audit(
                    outbox.settings,
                    outbox.keyring,
                    outbox.archive,
                    client,
                    sink_log=sink.settings.ground_truth,
                )
                if report.balanced or time.monotonic() > deadline:
                    return report
                await asyncio.sleep(0.5)
    finally:
        await client.close()


async def _enter(outbox: Outbox, log: Log) -> None:
    mails = [_mail(outbox, unit).prepared() for unit in outbox.sent]
    partitions = outbox.settings.kafka.partitions
    for mail in mails:
        await log.send(JOBS.name, encode(mail.job()), job_partition(mail.job_id, partitions), [("units", b"1")])
    await log.events(event for mail in mails for event in mail.told)
    places = [TopicPartition(full_name(outbox.settings.kafka, JOBS.name), number) for number in range(partitions)]
    consumer = group_consumer(outbox.settings, PREPARE_GROUP, "tests")
    await consumer.start()
    consumer.assign(places)
    await consumer.commit(await consumer.end_offsets(places))
    await consumer.stop()


def _mail(outbox: Outbox, unit: MailUnit) -> Mail:
    return Mail(
        outbox.keyring,
        recipient=outbox.recipient(unit),
        tenant=unit.tenant,
        account=unit.account,
        message_id=f"{unit.job_id}@shop.test",
        size=unit.size,
        content=unit.content,
        job_id=unit.job_id,
    )
