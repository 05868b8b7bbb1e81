"""Just before sending: a unit whose recipient was suppressed meanwhile ends as dropped, once, and the block is noted once."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest_asyncio

from depesche.analytics.log.client import full_name
from depesche.analytics.suppressions.book import SuppressionBook
from depesche.analytics.suppressions.requests import Requests
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.server import Sink
from depesche.schemas.codec import decode, encode
from depesche.schemas.records import (
    DroppedDetail,
    DropReason,
    EventType,
    MailEvent,
    MailUnit,
    Suppression,
    SuppressionAction,
    SuppressionRequest,
)
from depesche.schemas.service import now_ms
from depesche.schemas.topics import EVENTS, OUTBOUND, SUPPRESSION_REQUESTS, SUPPRESSIONS, partition_of, route_partition
from depesche.streams.mail.suppression import after_outcome
from depesche.streams.mail.suppression_facts import Policy
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.retry import Retry
from depesche.streams.stages.suppression_check import SUPPRESSED, SuppressionTools
from tests.contract.far_side import dns_server, sink, zone
from tests.contract.outbox import Outbox, copies, opened, running, settings_for

__all__ = ["dns_server", "sink", "zone"]

PREFIXES = (f"barred{number}." for number in itertools.count())


@pytest_asyncio.fixture
async def outbox(kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, tmp_path: Path) -> AsyncIterator[Outbox]:
    async with opened(settings_for(kafka_broker, dns_server, sink.port, next(PREFIXES), tmp_path)) as outbox:
        yield outbox


@contextlib.asynccontextmanager
async def couriers(outbox: Outbox) -> AsyncIterator[SuppressionBook]:
    """Couriers and the ladder's keeper, with a list."""
    book = SuppressionBook(outbox.settings, outbox.keyring, outbox.settings.home / "book")
    await book.start()
    tools = SuppressionTools(book, Requests(outbox.settings, outbox.out), outbox.keyring)
    deliver = Deliver(outbox.settings, outbox.keyring, outbox.archive, "a", suppression=tools)
    try:
        async with running(deliver), running(Retry(outbox.settings, "a")):
            yield book
    finally:
        await book.stop()


def entry_after(outbox: Outbox, bounced: MailEvent) -> Suppression:
    entry = after_outcome(None, bounced, Policy.of(outbox.settings.suppression), 0, 0)
    assert entry is not None
    return entry


async def suppress(outbox: Outbox, entry: Suppression) -> None:
    """Put an entry on the list, as the fold does."""
    place = partition_of(entry.recipient_key, outbox.settings.kafka.partitions)
    name = full_name(outbox.settings.kafka, SUPPRESSIONS.name)
    await outbox.out.send_and_wait(name, encode(entry), key=entry.recipient_key.encode(), partition=place)


async def bounced(outbox: Outbox, recipient: str) -> MailEvent:
    """What the log says of a mail to somebody who is not there."""
    [unit] = await outbox.units(recipient)
    await outbox.all_final(units=[unit])
    [event] = await outbox.told(unit)
    assert event.type is EventType.BOUNCED
    return event


async def drops(outbox: Outbox, unit: MailUnit) -> list[MailEvent]:
    events = [decode(MailEvent, record.value) for record in await outbox.records(EVENTS)]
    return [event for event in events if event.unit_id == unit.unit_id]


async def blocks(outbox: Outbox) -> list[SuppressionRequest]:
    records = await outbox.records(SUPPRESSION_REQUESTS)
    return [decode(SuppressionRequest, record.value) for record in records]


async def test_a_suppressed_recipient_gets_nothing_and_the_event_says_why(outbox: Outbox, sink: Sink) -> None:
    async with couriers(outbox) as book:
        cause = await bounced(outbox, "hardbounce@sandbox.test")
        await suppress(outbox, entry_after(outbox, cause))
        await book.catch_up()
        [unit] = await outbox.units("hardbounce@sandbox.test")
        [other] = await outbox.units("ok@sandbox.test")
        await outbox.all_final(units=[other])
        await outbox.post(unit)  # The same record again, as after a kill of prepare.
        while not (events := await drops(outbox, unit)):
            pass
    [event] = events
    assert (event.type, event.cause_id, event.attempt) == (EventType.DROPPED, cause.event_id, 1)
    assert event.detail == DroppedDetail(reason=DropReason.PREVIOUSLY_BOUNCED)
    personal = outbox.personal(event)
    assert personal.recipient == "hardbounce@sandbox.test"
    assert personal.finding is not None
    assert personal.finding.startswith('ts="20')
    assert 'reason="[5.1.1] bounced (host mx.sandbox.test said: 550 5.1.1 No such user here' in personal.finding
    assert personal.finding.endswith(')"')
    assert not await outbox.story(unit)
    assert copies(sink)["hardbounce@sandbox.test"] == 0
    assert {(r.action, r.ground, r.unit_id) for r in await blocks(outbox)} == {
        (SuppressionAction.BLOCKED, "outcomes/bounced/45", unit.unit_id)
    }
    assert len({r.request_id for r in await blocks(outbox)}) == 1


async def test_a_unit_on_the_ladder_is_looked_up_when_it_comes_back(outbox: Outbox, sink: Sink) -> None:
    async with couriers(outbox) as book:
        cause = await bounced(outbox, "hardbounce@sandbox.test")
        [unit] = await outbox.units("defer-3x@sandbox.test")
        await outbox.until(lambda events: any(e.type is EventType.DEFERRED for e in events))
        await suppress(outbox, replace(entry_after(outbox, cause), recipient_key=unit.recipient_key))
        await book.catch_up()
        while not (events := await drops(outbox, unit)):
            pass
    assert [event.type for event in events] == [EventType.DROPPED]
    assert set(await outbox.story(unit)) == {"deferred"}
    assert copies(sink)["defer-3x@sandbox.test"] == 0


async def test_what_was_not_prepared_is_dropped_although_the_list_has_changed(outbox: Outbox, sink: Sink) -> None:
    async with couriers(outbox):
        cause = await bounced(outbox, "hardbounce@sandbox.test")
        entry = entry_after(outbox, cause)
        unit = replace(await outbox.unit("ok-unsigned@sandbox.test"), signature=b"", recipient_key=entry.recipient_key)
        await outbox.out.send_and_wait(
            full_name(outbox.settings.kafka, OUTBOUND.name),
            encode(unit),
            key=unit.route.encode(),
            partition=route_partition(unit.route, outbox.settings.kafka.partitions),
            headers=[(SUPPRESSED, encode(entry))],
        )
        while not (events := await drops(outbox, unit)):
            pass
    assert [event.type for event in events] == [EventType.DROPPED]
    assert copies(sink)["ok-unsigned@sandbox.test"] == 0


async def test_what_happened_to_another_customers_mail_blocks_but_is_not_told(outbox: Outbox) -> None:
    outbox.settings = outbox.settings.model_copy(
        update={"suppression": outbox.settings.suppression.model_copy(update={"scope": "global"})}
    )
    async with couriers(outbox) as book:
        cause = await bounced(outbox, "hardbounce@sandbox.test")
        person = book.person("ada@sandbox.test")
        foreign = replace(entry_after(outbox, cause), tenant="20002", recipient_key="cd" * 16, person_key=person)
        await suppress(outbox, foreign)
        await book.catch_up()
        [unit] = await outbox.units("ada@sandbox.test", person_key=person)
        while not (events := await drops(outbox, unit)):
            pass
    [event] = events
    assert event.cause_id is None
    assert event.person_key == person
    finding = outbox.personal(event).finding or ""
    assert "bounced (recipient_unknown)" in finding
    assert "said" not in finding
    [noted] = await blocks(outbox)
    assert (noted.tenant, noted.recipient_key) == ("20002", "cd" * 16)
    assert noted.at <= now_ms()
