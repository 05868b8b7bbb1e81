"""The courier stage on a real broker, with a far side that misbehaves: every unit has one end, and the log says the truth."""

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio

from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.server import Sink
from depesche.schemas.codec import decode
from depesche.schemas.records import AttemptPhase, DeadLetter, EventType, FailedDetail
from depesche.schemas.service import now_ms
from depesche.schemas.topics import DEAD, OUTBOUND
from tests.contract.far_side import dns_server, sink, zone
from tests.contract.outbox import MESSAGE, SIGNATURE, Outbox, arrivals, copies, detail, opened, settings_for

__all__ = ["dns_server", "sink", "zone"]

PREFIXES = (f"deliver{number}." for number in itertools.count())


@pytest_asyncio.fixture
async def outbox(kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, tmp_path: Path) -> AsyncIterator[Outbox]:
    async with opened(settings_for(kafka_broker, dns_server, sink.port, next(PREFIXES), tmp_path)) as outbox:
        yield outbox


async def test_a_unit_arrives_with_its_signature_and_the_log_tells_how(outbox: Outbox, sink: Sink) -> None:
    async with outbox.couriers():
        [unit] = await outbox.units("plain@sandbox.test")
        await outbox.all_final()
    [event] = await outbox.told()
    assert (event.type, event.attempt, event.sequence) == (EventType.DELIVERED, 1, 101)
    found = detail(event)
    assert (found.host, found.remote_ip, found.code, found.step) == ("mx.sandbox.test", "127.0.0.2", 250, "dot")
    assert found.source_ip.startswith("127.")
    assert found.tls.startswith("TLSv1.")
    assert found.queue_id
    personal = outbox.personal(event)
    assert personal.recipient == "plain@sandbox.test"
    assert personal.transcript is not None
    assert "RCPT TO:<plain@sandbox.test>" in personal.transcript
    [arrival] = arrivals(sink, "plain@sandbox.test")
    assert arrival.sender == "return@shop.test"
    assert arrival.size == len(SIGNATURE) + unit.size
    assert [mark.phase for mark in await outbox.marks()] == [
        AttemptPhase.STARTED,
        AttemptPhase.COMMITTING,
        AttemptPhase.FINISHED,
    ]


ENDINGS = {
    "hardbounce@sandbox.test": (EventType.BOUNCED, "rcpt", 550, "recipient_unknown", "hard"),
    "fullhard@sandbox.test": (EventType.BOUNCED, "rcpt", 552, "mailbox_full", "soft"),
    "nodata@sandbox.test": (EventType.BOUNCED, "data", 554, "policy", "block"),
    "spam@sandbox.test": (EventType.BOUNCED, "dot", 554, "content_spam", "block"),
    "bigreply@sandbox.test": (EventType.BOUNCED, "rcpt", 550, "recipient_refused", "soft"),
    "nonascii@sandbox.test": (EventType.BOUNCED, "rcpt", 550, "recipient_unknown", "hard"),
    "a@closed.test": (EventType.BOUNCED, "banner", 554, "reputation", "block"),
    "a@refusemail.test": (EventType.BOUNCED, "mail", 553, "policy", "block"),
    "a@nullmx.test": (EventType.BOUNCED, "dns", 0, "no_mail_host", "soft"),
    "a@no-such-domain.test": (EventType.BOUNCED, "dns", 0, "domain_unknown", "hard"),
    "käthe@bare.test": (EventType.BOUNCED, "mail", 0, "content_refused", "soft"),
}


async def test_what_is_refused_for_good_bounces_with_its_reason(outbox: Outbox, sink: Sink) -> None:
    async with outbox.couriers():
        units = dict(zip(ENDINGS, await outbox.units(*ENDINGS), strict=True))
        await outbox.all_final()
    for recipient, unit in units.items():
        [event] = await outbox.told(unit)
        found = detail(event)
        assert (event.type, found.step, found.code, found.reply_class, found.kind) == ENDINGS[recipient], recipient
        reply = outbox.personal(event).reply_text or ""
        assert len(reply) <= 2000
        assert "\x1b" not in reply
    assert not copies(sink).keys() & ENDINGS.keys()


TEMPORARY = [
    "defer+t@sandbox.test",
    "421+t@sandbox.test",
    "421data+t@sandbox.test",
    "421dot+t@sandbox.test",
    "tempdot+t@sandbox.test",
    "eofmail+t@sandbox.test",
    "rsetmail+t@sandbox.test",
    "badreply+t@sandbox.test",
    "a@busy.test",
    "a@busyehlo.test",
    "a@busymail.test",
    "a@dropmail.test",
    "a@hangup.test",
    "a@reset.test",
    "a@notsmtp.test",
    "a@dead.test",
    "a@badtls.test",
    "a@servfail.test",
    "a@timeout.test",
]


async def test_what_is_refused_for_now_is_tried_again_until_its_time_is_up(outbox: Outbox, sink: Sink) -> None:
    async with outbox.couriers():
        units = await outbox.units(*TEMPORARY, expires_at=now_ms() + 4000)
        await outbox.all_final()
    for unit, recipient in zip(units, TEMPORARY, strict=True):
        events = await outbox.told(unit)
        assert {event.type for event in events[:-1]} <= {EventType.DEFERRED}, recipient
        assert events[-1].type is EventType.EXPIRED, recipient
        assert [event.sequence for event in events] == [100 + event.attempt for event in events]
        for event in events[:-1]:
            assert (detail(event).next_attempt_at or 0) > event.occurred_at
    assert not copies(sink).keys() & set(TEMPORARY)


async def test_a_mail_that_is_deferred_twice_arrives_at_the_third_attempt(outbox: Outbox, sink: Sink) -> None:
    async with outbox.couriers() as (_, retry):
        [unit] = await outbox.units("defer-2x+third@sandbox.test")
        await outbox.all_final()
        assert retry.forwarded == 2
    events = await outbox.told(unit)
    assert [(event.type.value, event.attempt, event.sequence) for event in events] == [
        ("deferred", 1, 101),
        ("deferred", 2, 102),
        ("delivered", 3, 103),
    ]
    assert events[1].occurred_at >= (detail(events[0]).next_attempt_at or 0)
    assert copies(sink)["defer-2x+third@sandbox.test"] == 1


@pytest.mark.parametrize("domain", ["deadfirst", "busyfirst", "twoaddresses", "deadsix", "aliasmx", "nomx", "truncate"])
async def test_another_host_or_address_takes_over_within_the_same_attempt(
    outbox: Outbox, sink: Sink, domain: str
) -> None:
    async with outbox.couriers():
        [unit] = await outbox.units(f"a@{domain}.test")
        await outbox.all_final()
    assert await outbox.story(unit) == ["delivered"]
    assert copies(sink)[f"a@{domain}.test"] == 1


async def test_eight_bit_content_goes_out_whole_or_not_at_all(outbox: Outbox, sink: Sink) -> None:
    message = "From: a@shop.test\r\nMessage-ID: <8bit@shop.test>\r\n\r\nGrüße\r\n".encode()
    async with outbox.couriers():
        taken = await outbox.unit("eight@sandbox.test", message)
        refused = await outbox.unit("eight@bare.test", message)
        plain = await outbox.unit("seven@bare.test")
        await outbox.post(taken, refused, plain)
        await outbox.all_final()
    [arrival] = arrivals(sink, "eight@sandbox.test")
    assert arrival.sha256 == sha256(SIGNATURE + message).hexdigest()
    [end] = await outbox.told(refused)
    assert (end.type, detail(end).code, detail(end).enhanced_code) == (EventType.BOUNCED, 0, "5.6.3")
    assert not arrivals(sink, "eight@bare.test")
    assert await outbox.story(plain) == ["delivered"]


async def test_tls_that_does_not_work_falls_back_to_plain_text(outbox: Outbox, sink: Sink) -> None:
    async with outbox.couriers():
        units = await outbox.units("tls@brokentls.test", "tls@refusedtls.test", "tls@expiredtls.test")
        await outbox.all_final()
    assert [detail((await outbox.told(unit))[0]).tls[:5] for unit in units] == ["", "", "TLSv1"]
    assert copies(sink)["tls@brokentls.test"] == 1


async def test_where_tls_is_a_must_nothing_is_sent_in_plain_text_and_the_end_says_why(
    outbox: Outbox, sink: Sink
) -> None:
    hosts = ("notls", "brokentls", "refusedtls", "expiredtls")
    async with outbox.couriers():
        may = await outbox.units(*(f"may@{host}.test" for host in hosts))
        # Their sisters on the same hosts go out in plain text meanwhile; no connection may serve both.
        soon = {"tls": "must", "expires_at": now_ms() + 10_000}
        must = await outbox.units(*(f"must@{host}.test" for host in hosts), **soon)
        await outbox.all_final()
    assert [await outbox.story(unit) for unit in may] == [["delivered"]] * 4
    ends = [(await outbox.told(unit))[-1] for unit in must]
    assert [end.type.value for end in ends] == ["expired", "expired", "expired", "delivered"]
    assert [detail(end).reply_class for end in ends] == ["tls", "tls", "tls", ""]
    assert {detail(end).tls_policy for end in ends} == {"must"}
    told = {unit.unit_id: await outbox.told(unit) for unit in must[:3]}
    assert all(detail(event).reply_class == "tls" for events in told.values() for event in events)
    assert not copies(sink).keys() & {f"must@{host}.test" for host in hosts[:3]}
    [arrival] = arrivals(sink, "must@expiredtls.test")
    assert arrival.tls


AMBIGUOUS = ["dropdot+x@sandbox.test", "rsetdot+x@sandbox.test", "halfreply+x@sandbox.test", "baddot+x@sandbox.test"]


async def test_copies_are_never_more_than_ambiguous_attempts_explain(outbox: Outbox, sink: Sink) -> None:
    async with outbox.couriers():
        units = await outbox.units(*AMBIGUOUS, expires_at=now_ms() + 2500)
        await outbox.all_final()
    ambiguous = await outbox.ambiguous()
    for unit, recipient in zip(units, AMBIGUOUS, strict=True):
        events = await outbox.told(unit)
        assert all(detail(event).ambiguous for event in events if detail(event).step == "dot")
        assert events[-1].type is EventType.EXPIRED
        assert copies(sink)[recipient] >= 1
        assert copies(sink)[recipient] - 1 <= ambiguous[unit.unit_id]


async def test_an_ambiguous_mail_is_held_where_the_settings_say_so(outbox: Outbox, sink: Sink) -> None:
    deliver = outbox.settings.deliver.model_copy(update={"after_ambiguity": "hold"})
    async with outbox.couriers(outbox.settings.model_copy(update={"deliver": deliver})):
        [unit] = await outbox.units("dropdot+hold@sandbox.test")
        await outbox.all_final()
    [event] = await outbox.told(unit)
    assert (event.type, detail(event).ambiguous) == (EventType.FAILED, True)
    assert copies(sink)["dropdot+hold@sandbox.test"] == 1


async def test_a_unit_whose_content_is_lost_fails_and_is_buried(outbox: Outbox, sink: Sink) -> None:
    unit = await outbox.unit("lost@sandbox.test")
    gone = replace(unit, content=(replace(unit.content[0], segment="20000101-000000-none"),))
    async with outbox.couriers():
        await outbox.post(gone)
        await outbox.all_final()
        after = await outbox.units("afterlost@sandbox.test")
        await outbox.all_final(units=after)
    [event] = await outbox.told(gone)
    assert (event.type, event.detail) == (EventType.FAILED, FailedDetail(code="content_lost", stage="deliver"))
    [letter] = [decode(DeadLetter, record.value) for record in await outbox.records(DEAD)]
    assert (letter.unit_id, letter.cause, letter.stage) == (gone.unit_id, "content_lost", "deliver")
    assert not arrivals(sink, "lost@sandbox.test")


async def test_content_that_could_be_read_as_two_mails_is_never_sent(outbox: Outbox, sink: Sink) -> None:
    smuggler = b"Subject: x\r\n\r\na\n.\r\nMAIL FROM:<e@x.test>\r\nRCPT TO:<evil@sandbox.test>\r\nDATA\r\n\r\n.\r\n"
    async with outbox.couriers():
        [unit] = await outbox.units("smuggled@sandbox.test", message=smuggler)
        await outbox.all_final()
    [event] = await outbox.told(unit)
    assert (event.type, event.detail) == (EventType.FAILED, FailedDetail(code="unsendable", stage="deliver"))
    assert not copies(sink).keys() & {"smuggled@sandbox.test", "evil@sandbox.test"}


async def test_poison_is_buried_and_the_partition_moves_on(outbox: Outbox) -> None:
    name = outbox.settings.kafka.topic_prefix + OUTBOUND.name
    async with outbox.couriers():
        for partition in (0, 1):
            for value in (None, b"\0\0\0\0\1nonsense", b"{}"):
                await outbox.out.send(name, value, key=b"k", partition=partition)
        await outbox.units("afterpoison@sandbox.test")
        await outbox.all_final()
        await outbox.until(lambda _: True)
    letters = [decode(DeadLetter, record.value) for record in await outbox.records(DEAD)]
    assert len(letters) >= 3
    assert {letter.cause for letter in letters} == {"undecodable"}


async def test_a_repeated_record_is_not_a_second_mail(outbox: Outbox, sink: Sink) -> None:
    async with outbox.couriers():
        [unit] = await outbox.units("twice@sandbox.test")
        await outbox.post(unit, unit)
        await outbox.all_final()
        await outbox.post(unit)
        later = await outbox.units("aftertwice@sandbox.test")
        await outbox.all_final(units=later)
    # Also when the courier that sent it is not the one that meets it again.
    async with outbox.couriers():
        await outbox.post(unit)
        later = await outbox.units("afterthrice@sandbox.test")
        await outbox.all_final(units=later)
    assert copies(sink)["twice@sandbox.test"] == 1
    assert await outbox.story(unit) == ["delivered"]


async def test_a_unit_that_is_not_due_waits_on_the_ladder(outbox: Outbox, sink: Sink) -> None:
    async with outbox.couriers():
        due_at = now_ms() + 2500
        [unit] = await outbox.units("scheduled@sandbox.test", due_at=due_at)
        await outbox.all_final()
    [event] = await outbox.told(unit)
    assert (event.type, event.attempt) == (EventType.DELIVERED, 1)
    assert arrivals(sink, "scheduled@sandbox.test")[0].time * 1000 >= due_at - 250


async def test_private_addresses_are_a_bounce_where_the_settings_do_not_allow_them(outbox: Outbox, sink: Sink) -> None:
    deliver = outbox.settings.deliver.model_copy(update={"allow_private": False})
    async with outbox.couriers(outbox.settings.model_copy(update={"deliver": deliver})):
        [unit] = await outbox.units("private@sandbox.test")
        await outbox.all_final()
    [event] = await outbox.told(unit)
    assert (event.type, detail(event).step, detail(event).enhanced_code) == (EventType.BOUNCED, "dns", "5.4.4")
    assert not arrivals(sink, "private@sandbox.test")


async def test_mails_to_one_host_share_few_connections(outbox: Outbox, sink: Sink) -> None:
    before = sink.counters.sessions
    async with outbox.couriers():
        await outbox.units(*(f"shared-{number}@sandbox.test" for number in range(300)))
        await outbox.all_final()
    assert sink.counters.sessions - before <= outbox.settings.deliver.connections_per_route
    assert all(copies(sink)[f"shared-{number}@sandbox.test"] == 1 for number in range(300))


def test_the_message_of_these_tests_has_a_lone_dot() -> None:
    assert b"\r\n.\r\n" in MESSAGE
