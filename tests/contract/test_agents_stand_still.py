"""Agents whose Faust takes nothing any more are ended, and the next ones take what waits."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from depesche.analytics.log import topics
from depesche.analytics.log.client import producer
from depesche.analytics.log.sums import read_sums, totals
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas import cloudevents
from depesche.schemas.codec import encode
from depesche.schemas.identity import event_id
from depesche.schemas.records import EventType, MailEvent
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import OUTCOMES
from depesche.streams.runner.watchdog import EXIT_STALLED

from .rates_worker import agents

STUCK = Path(__file__).with_name("stuck_agents_worker.py")


def _outcome(number: int) -> MailEvent:
    return MailEvent(
        event_id=event_id(f"j.{number}", "x", 1),
        type=EventType.DELIVERED,
        unit_id=f"j.{number}",
        job_id="j",
        tenant="10001",
        account="a",
        recipient_key="0" * 32,
        occurred_at=int(time.time() * 1000),
        sequence=101,
        attempt=1,
        worker="w",
        provider="gmail",
        detail=None,
    )


@pytest.mark.timeout(200)
async def test_agents_that_take_nothing_are_ended_and_the_next_ones_take_it(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    kafka = KafkaSettings(bootstrap=kafka_broker.bootstrap_servers, topic_prefix="stuck.")
    settings = Settings(home=tmp_path, kafka=kafka)
    await topics.create_missing(settings)
    file = tmp_path / "agents.json"
    file.write_text(settings.model_dump_json())
    out = producer(settings, "test")
    await out.start()
    try:
        with subprocess.Popen([sys.executable, str(STUCK), str(file)], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            try:
                assert await asyncio.to_thread(worker.stdout.readline) == b"ready\n"
                event = _outcome(1)
                await out.send_and_wait(
                    f"stuck.{OUTCOMES.name}", encode(event), partition=0, headers=cloudevents.of_event(event)
                )
                async with asyncio.timeout(100):
                    told = await asyncio.to_thread(worker.stdout.read)
            finally:
                worker.kill()
    finally:
        await out.stop()
    assert worker.returncode == EXIT_STALLED
    assert b"1 records wait" in told
    with agents(settings):
        async with asyncio.timeout(60):
            while sum(totals(await read_sums(settings)).values()) < 1:
                await asyncio.sleep(0.3)
