"""What the doctor asks of the store: it answers, its tables are up to date, it holds what the log holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import TopicPartition

from depesche.analytics.log.client import full_name, reader
from depesche.analytics.log.topics import partition_counts
from depesche.analytics.store import migrate
from depesche.analytics.store.client import StoreClient, address_of
from depesche.analytics.store.offsets import stored_offsets
from depesche.infra.local.doctor import Case, Finding, fail, ok, warn
from depesche.schemas.settings import Settings
from depesche.schemas.topics import DEAD, EVENTS, OUTCOMES

BEHIND = 1000
"""Records the store may be behind without anybody asking why."""
LOOK_SECONDS = 2.0
_LOGS = "Look at log/engine.log and clickhouse/engine.log under the home directory, or at your server."


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[StoreClient]:
    client = StoreClient(settings, "depesche-doctor", threads=1)
    try:
        yield client
    finally:
        await client.close()


async def engine(case: Case) -> list[Finding]:
    """ClickHouse answers with our credentials."""
    if not case.store_expected:
        return []
    async with _client(case.settings) as client:
        found = await client.query("SELECT version()", seconds=5)
    own = "" if case.settings.clickhouse.url else " (embedded)"
    return [ok(f"ClickHouse {found.rows[0][0]}{own} answers on {address_of(case.settings.clickhouse)}.")]


async def tables(case: Case) -> list[Finding]:
    """Every numbered step has run."""
    if not case.store_expected:
        return []
    async with _client(case.settings) as client:
        pending = await migrate.plan(client)
    if pending:
        names = ", ".join(map(str, pending))
        return [fail(f"The store's tables lack {names}.", "depesche tables --apply")]
    return [ok(f"The store's tables are up to date (step {len(migrate.steps())}).")]


async def sink(case: Case) -> list[Finding]:
    """Everything in the log is in the store, or on its way."""
    if not (case.log_expected and case.store_expected):
        return []
    behind, ahead = await _distance(case.settings)
    if ahead:
        return [
            fail(
                f"The store holds more of {', '.join(ahead)} than the log: they do not belong together.",
                "Connect the right log, or drop the database and let it be filled again.",
            )
        ]
    if behind <= BEHIND:
        return [
            ok(f"The store holds all but the last {behind:,} events." if behind else "The store holds every event.")
        ]
    await asyncio.sleep(LOOK_SECONDS)
    later, _ = await _distance(case.settings)
    if later < behind:
        return [warn(f"The store is {later:,} events behind and catches up.", "Wait; search shows them as they come.")]
    return [fail(f"The store is {later:,} events behind and does not catch up.", f"See log/analytics.log. {_LOGS}")]


async def _distance(settings: Settings) -> tuple[int, list[str]]:
    """How many records the store lacks, and the partitions of which it holds more than there is."""
    counts = await partition_counts(settings, EVENTS, OUTCOMES, DEAD)
    consumer = reader(settings, "depesche-doctor-sink")
    try:
        await consumer.start()
        places = {
            TopicPartition(full_name(settings.kafka, name), number): (name, number)
            for name, count in counts.items()
            for number in range(count)
        }
        begins, ends = await consumer.beginning_offsets(list(places)), await consumer.end_offsets(list(places))
    finally:
        await consumer.stop()
    async with _client(settings) as client:
        stored = await stored_offsets(client)
    behind, ahead = 0, []
    for place, key in places.items():
        at = stored.get(key, 0)
        behind += max(0, ends[place] - max(at, begins[place]))
        if at > ends[place]:
            ahead.append(f"{key[0]}/{key[1]}")
    return behind, ahead
