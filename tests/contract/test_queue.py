"""What waits, counted from a real log: each unit once, wherever it stands, and a hundred thousand of them in seconds."""

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from depesche.analytics.backlog.backlog import WITH_COURIERS, Backlog
from depesche.analytics.backlog.inspection import inspect
from depesche.analytics.controls.book import ControlBook
from depesche.analytics.controls.pen import ControlPen
from depesche.analytics.log.client import full_name
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.server import Sink
from depesche.schemas.codec import encode
from depesche.schemas.records import ControlAction, ControlScope, MailUnit
from depesche.schemas.service import now_ms
from depesche.schemas.topics import RETRY
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.retry import Retry
from tests.contract.far_side import dns_server, sink, zone
from tests.contract.outbox import PARTITIONS, Outbox, opened, running, settings_for

__all__ = ["dns_server", "sink", "zone"]

PREFIXES = (f"queue{number}." for number in itertools.count())
EVERYTHING = ControlScope()


@pytest_asyncio.fixture
async def outbox(kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, tmp_path: Path) -> AsyncIterator[Outbox]:
    long: dict[str, Any] = {"time_scale": 1.0, "ladder": ("15m",)}
    async with opened(settings_for(kafka_broker, dns_server, sink.port, next(PREFIXES), tmp_path, **long)) as outbox:
        yield outbox


async def waiting(outbox: Outbox, count: int, scope: ControlScope = EVERYTHING) -> Backlog:
    """Wait until so many units of the scope wait."""
    async with asyncio.timeout(20):
        while len(backlog := await inspect(outbox.settings, scope)) != count:
            await asyncio.sleep(0.2)
    return backlog


async def test_a_unit_is_counted_where_it_stands_and_no_more_when_it_has_ended(outbox: Outbox) -> None:
    book = ControlBook(outbox.settings)
    await book.start()
    pen = ControlPen(outbox.settings, book, outbox.out)
    order = await pen.give(ControlAction.SUSPEND, ControlScope(account="held"), "me")
    deliver = Deliver(outbox.settings, outbox.keyring, outbox.archive, "a", controls=book)
    try:
        await outbox.units("ok+queue@sandbox.test", "defer-1x+queue@sandbox.test")
        await outbox.units("ok+held@sandbox.test", account="held", campaign_id="summer")
        before = await waiting(outbox, 3)
        assert {one.rung for one in before.units()} == {WITH_COURIERS}
        async with running(deliver), running(Retry(outbox.settings, "a", controls=book)):
            during = await waiting(outbox, 2)
            assert {name: group.units for name, group in during.groups("why")} == {
                "reply 451 4.3.0": 1,
                f"suspended {order.control.control_id}": 1,
            }
            assert {name for name, _ in during.groups("rung")} == {"15m", "1m"}
            [(_, group)] = during.groups("provider")
            assert group.next_at is not None
            assert 0 < group.next_at - now_ms() <= 60_000
            assert len(await waiting(outbox, 1, ControlScope(account="held", campaign_id="summer"))) == 1
            await pen.give(ControlAction.RETRY, EVERYTHING, "me", everything=True)
            await pen.lift(order.control.control_id, "me")
            await outbox.all_final()
            # What went back early still stands on its rung, and waits no more.
            await waiting(outbox, 0)
    finally:
        await book.stop()


async def test_a_unit_whose_delivery_is_not_committed_yet_waits_no_more(outbox: Outbox) -> None:
    async with running(Deliver(outbox.settings, outbox.keyring, outbox.archive, "a")):
        # The first one holds up the committed offset.
        await outbox.units("stall+queue@sandbox.test")
        quick = await outbox.units(*(f"ok+behind{number}@sandbox.test" for number in range(20)))
        await outbox.all_final(units=quick)
        backlog = await waiting(outbox, 1)
    assert [one.rung for one in backlog.units()] in ([WITH_COURIERS], ["15m"])


async def _depesche(outbox: Outbox, *words: str) -> tuple[int, str]:
    """A command, and what it answers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEPESCHE_")} | {
        "DEPESCHE_HOME": str(outbox.settings.home),
        "DEPESCHE_KAFKA__BOOTSTRAP": outbox.settings.bootstrap,
        "DEPESCHE_KAFKA__TOPIC_PREFIX": outbox.settings.kafka.topic_prefix,
    }
    command = Path(sys.executable).with_name("depesche")
    process = await asyncio.create_subprocess_exec(
        command, *words, "--json", env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out or err).decode()


async def test_an_order_and_the_queue_name_mail_alike_and_an_unknown_pool_is_refused(outbox: Outbox) -> None:
    meant = ("--account", "held", "--campaign", "summer")
    code, said = await _depesche(outbox, "control", "reroute", "--to", "releif", *meant)
    assert code != 0
    assert "There is no egress pool releif; there are shared" in " ".join(said.split())
    code, said = await _depesche(outbox, "control", "reroute", "--to", "shared", *meant)
    assert code == 0, said
    about = json.loads(said)["about"]
    assert "held" in about
    assert "summer" in about
    await outbox.units("ok@sandbox.test", account="held", campaign_id="summer")
    await outbox.units("ok@sandbox.test", account="held")
    code, said = await _depesche(outbox, "queue", "--by", "campaign", *meant)
    assert [json.loads(line)["waiting"] for line in said.splitlines()] == [1]
    code, said = await _depesche(outbox, "queue", "list", *meant[:2])
    assert len(said.splitlines()) == 2


@pytest.mark.long
async def test_a_hundred_thousand_units_are_counted_in_a_few_seconds(outbox: Outbox) -> None:
    first = await outbox.unit("ok@sandbox.test")
    name, due = full_name(outbox.settings.kafka, RETRY["1h"].name), now_ms() + 3_600_000
    sent = []
    for number in range(100_000):
        unit: MailUnit = replace(first, unit_id=f"{first.job_id}.{number}", attempt=2, account=f"a{number % 7}")
        headers = [("due", b"%d" % due), ("unit", f"{unit.unit_id}/2".encode())]
        sent.append(
            await outbox.out.send(
                name, encode(unit), partition=number % PARTITIONS, key=unit.route.encode(), headers=headers
            )
        )
    await asyncio.gather(*sent)
    told: list[tuple[int, int]] = []
    begun, used = time.monotonic(), time.process_time()
    backlog = await inspect(outbox.settings, EVERYTHING, lambda done, whole: told.append((done, whole)))
    print(f"100,000 units in {time.monotonic() - begun:.1f} s, {time.process_time() - used:.1f} s of the processor")
    assert len(backlog) == 100_000
    assert sum(group.units for _, group in backlog.groups("account")) == 100_000
    assert len(backlog.groups("account")) == 7
    assert told[-1] == (100_000, 100_000)
