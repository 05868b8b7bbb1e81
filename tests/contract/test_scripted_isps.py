"""Nine providers at once: one has a quota, one greylists, one has us on its list, one is a tarpit, five are fine.

A minute of rates, quota, pace and ladder is a second and a fifth here (``time_scale``). What the fine ones get must be what they
get when they are alone, nothing may be bounced that was not refused for good, and the books must balance. The shared pace works
as it does in production: couriers obey it, agents in a process of their own decide it.
"""

import asyncio
import contextlib
import itertools
import statistics
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from depesche.analytics.pace.book import PaceBook
from depesche.analytics.pace.log import read_told
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.listeners import all_listeners
from depesche.infra.local.sink.scenarios import Timing
from depesche.infra.local.sink.server import Sink, SinkSettings
from depesche.schemas.records import AttemptPhase, EventType, MailEvent, MailUnit, PaceAction, PaceState
from depesche.schemas.service import now_ms
from depesche.schemas.settings import Settings
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.retry import Retry
from depesche.streams.stages.shaping_watch import ShapingWatch
from depesche.streams.stages.terms import Guidance
from tests.contract.conftest import EngineProcess
from tests.contract.courier_worker import balanced
from tests.contract.far_side import dns_server, zone
from tests.contract.outbox import Outbox, detail, opened, running, settings_for
from tests.contract.rates_worker import agents
from tests.contract.told_jobs import audited, stored_in

__all__ = ["dns_server", "zone"]

SCALE = 0.02
MINUTE = 60 * SCALE
FINE = ("sandbox.test", "second.test", "third.test", "nopipelining.test", "notls.test")
ROUNDS = 60
ROUND_SECONDS = 0.05
QUOTA = 20
SUSPENDED = 15 * MINUTE
CONNECTIONS = 10
PREFIXES = (f"isps{number}." for number in itertools.count())
PACE = {
    "window_seconds": MINUTE,
    "hold_seconds": 15 * MINUTE,
    "longest_hold_seconds": 240 * MINUTE,
    "least_per_minute": 6 / SCALE,
    "suspend_seconds": SUSPENDED,
    "longest_suspend_seconds": 240 * MINUTE,
    "limit_seconds": 480 * MINUTE,
    "memory_seconds": 1440 * MINUTE,
}


@pytest_asyncio.fixture
async def sink(tmp_path: Path) -> AsyncIterator[Sink]:
    quick = Timing(slow=0.05, drip=0.1, greylist=MINUTE)
    server = Sink(SinkSettings(tmp_path / "sink", listeners=all_listeners(0.05, MINUTE), timing=quick))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def outbox(
    kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, engine: EngineProcess, tmp_path: Path
) -> AsyncIterator[Outbox]:
    prefix, waits = (
        next(PREFIXES),
        dict.fromkeys(("banner_seconds", "command_seconds", "data_seconds", "dot_seconds"), 60),
    )
    settings = settings_for(kafka_broker, dns_server, sink.port, prefix, tmp_path, time_scale=SCALE, **waits)
    settings = Settings.model_validate(settings.model_dump() | {"pace": PACE})
    async with opened(stored_in(settings, engine, prefix.removesuffix("."))) as outbox:
        yield outbox


@contextlib.asynccontextmanager
async def guided_couriers(outbox: Outbox) -> AsyncIterator[None]:
    """A courier stage that keeps the shared pace, a keeper of the ladder, and the agents that decide the pace."""
    settings, book = outbox.settings, PaceBook(outbox.settings)
    await book.start()
    try:
        guidance = Guidance(ShapingWatch(settings).of, book)
        deliver = Deliver(settings, outbox.keyring, outbox.archive, "a", guidance=guidance)
        with agents(settings):
            async with running(deliver), running(Retry(settings, "a")):
                yield
    finally:
        await book.stop()


async def steady(outbox: Outbox, name: str) -> list[MailUnit]:
    """A mail for each fine provider in every round, and a round twenty times a second: a load, not a heap."""
    sent = []
    for number in range(ROUNDS):
        sent += await outbox.units(*(f"{name}-{number}@{domain}" for domain in FINE))
        await asyncio.sleep(ROUND_SECONDS)
    await outbox.all_final(units=sent, seconds=60)
    return sent


@dataclass(frozen=True)
class Latency:
    """Milliseconds from acceptance to delivery."""

    median: float
    p90: float

    @classmethod
    def of(cls, events: list[MailEvent], units: list[MailUnit]) -> "Latency":
        accepted = {unit.unit_id: unit.accepted_at for unit in units}
        delays = [event.occurred_at - accepted[event.unit_id] for event in events if event.unit_id in accepted]
        assert len(delays) == len(units), "one attempt each"
        return cls(statistics.median(delays), statistics.quantiles(delays, n=10)[8])


async def hard_work(outbox: Outbox) -> dict[str, list[MailUnit]]:
    """What the four difficult providers get, all at once."""
    late, soon = now_ms() + 90_000, now_ms() + 30_000
    return {
        "quota": await outbox.units(*(f"q-{number}@quota.test" for number in range(100)), expires_at=late),
        "greylist": await outbox.units(*(f"greylist-{number}@small.test" for number in range(100)), expires_at=late),
        "listed": await outbox.units(*(f"l-{number}@listed.test" for number in range(200)), expires_at=soon),
        "tarpit": await outbox.units(*(f"tarpit-{number}@needtls.test" for number in range(30)), expires_at=late),
    }


def decided(history: list[PaceState], provider: str, action: PaceAction) -> list[PaceState]:
    return [one for one in history if one.provider == provider and one.action is action]


@pytest.mark.long
@pytest.mark.timeout(500)
async def test_four_difficult_providers_cost_five_good_ones_nothing(outbox: Outbox, sink: Sink) -> None:
    async with guided_couriers(outbox):
        # The first mails pay for what is made once: names resolved, rules compiled, connections opened.
        await outbox.units(*(f"first-{number}@{domain}" for number in range(20) for domain in FINE))
        # On a busy machine even the first names may take several tries.
        await outbox.all_final(seconds=120)
        before = await steady(outbox, "before")
        difficult = await hard_work(outbox)
        beside = await steady(outbox, "beside")
        await outbox.all_final(seconds=120)
        after = await steady(outbox, "after")
        events, marks, told = await outbox.told(), await outbox.marks(), await read_told(outbox.settings)
    assert await balanced(outbox, sink) == {}
    ended = {event.unit_id: event for event in events}
    last = {name: Counter(ended[unit.unit_id].type for unit in units) for name, units in difficult.items()}
    refused = sink.counters.refused["listed"]
    print({name: dict(ends) for name, ends in last.items()})
    print(f"over the quota: {sink.counters.over_quota}, refused by who lists us: {refused}")

    # Nothing is bounced that was not refused for good, and the far side says the same as we.
    bounced = [event for event in events if event.type is EventType.BOUNCED]
    assert {event.provider for event in bounced} == {"listed.test"}
    assert {detail(event).code for event in bounced} == {550}
    assert len(bounced) == refused
    assert last["greylist"] == {EventType.DELIVERED: 100}
    assert last["quota"] == {EventType.DELIVERED: 100}
    assert last["tarpit"] == {EventType.DELIVERED: 30}

    # Ten refusals for our reputation suspend the provider until a time; the rest waits on the ladder, and is not burnt.
    suspended = decided(told.history, "listed.test", PaceAction.SUSPENDED)
    lengths = [((one.suspended_until or 0) - one.at) / 1000 for one in suspended]
    print("suspended for", lengths)
    assert lengths[0] == pytest.approx(SUSPENDED)
    # Each time it takes ten to see it, and as many as there are connections may be under way.
    assert len(bounced) <= (10 + CONNECTIONS) * len(suspended)
    spared = {unit.unit_id for unit in difficult["listed"]} - {event.unit_id for event in bounced}
    assert spared <= {mark.unit_id for mark in marks if mark.phase is AttemptPhase.PARKED}
    assert {ended[unit].type for unit in spared} == {EventType.EXPIRED}

    # The quota is found from above: what is decided lies below it, and few are refused for it.
    lowered = decided(told.history, "quota.test", PaceAction.LOWERED)
    print("pace of who has a quota, per minute:", [round((one.per_minute or 0) * SCALE, 1) for one in lowered])
    assert all((one.per_minute or 0) * SCALE < QUOTA for one in lowered if one.per_minute is not None)
    assert sink.counters.over_quota < 60

    alone, mixed = Latency.of(events, before + after), Latency.of(events, beside)
    print(f"alone {Latency.of(events, before)} and {Latency.of(events, after)}, together {alone}, beside {mixed}")
    print(f"ratio of medians {mixed.median / alone.median:.2f}, of p90 {mixed.p90 / alone.p90:.2f}; promised is 1.20")
    # The promise is about real time, and `make bench ARGS="--isps"` measures it. Here fifty times the work falls on the same
    # cores. Held is what no other work on the machine can break: a waiting line behind a tarpit is seconds.
    assert mixed.median <= 2 * alone.median + 100
    assert mixed.p90 <= 3 * alone.p90 + 1000

    report = await audited(outbox, sink)
    assert report.differences == ()
    assert report.balanced
    assert report.total.accepted == len(outbox.sent)


@pytest.mark.timeout(120)
async def test_one_tenants_backlog_does_not_hold_up_anothers_mail(outbox: Outbox) -> None:
    (outbox.settings.home / "shaping.toml").write_text('[provider."sandbox.test"]\nrate = "60/min"\nconnections = 2\n')
    async with outbox.couriers():
        large = await outbox.units(*(f"large-{number}@sandbox.test" for number in range(400)))
        small = await outbox.units("small@sandbox.test", tenant="20002")
        await outbox.all_final(units=small)
        before = {event.unit_id for event in await outbox.told()}
    parked = {mark.unit_id for mark in await outbox.marks() if mark.phase is AttemptPhase.PARKED}
    assert small[0].unit_id not in parked
    assert sum(unit.unit_id not in before for unit in large) > 100
