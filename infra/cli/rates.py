"""Rates: outcomes per type, provider and minute, as the Faust agent counts them, and held against ClickHouse."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.store_access import scope_of, with_store
from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_rows

if TYPE_CHECKING:
    from depesche.analytics.store.client import StoreClient
    from depesche.schemas.records import EventType
    from depesche.schemas.settings import Settings

HOUR_MS = 3_600_000


def add_to(app: typer.Typer) -> None:
    """Add ``rates``."""
    app.command(epilog="Example: depesche rates --hours 2 --check")(rates)


def rates(
    hours: Annotated[float, typer.Option(help="How far back.")] = 1,
    check: Annotated[
        bool, typer.Option("--check", help="Count in ClickHouse too; exit code 1 if a count differs.")
    ] = False,
    json: JSON = False,
) -> None:
    """Show how often each outcome occurred at each provider, minute by minute."""
    from depesche.analytics.log.sums import read_sums, totals
    from depesche.analytics.queries.results import rfc3339
    from depesche.infra.cli.quiet import asking_kafka
    from depesche.schemas.service import now_ms

    settings = settings_or_fail().settings
    since = int(now_ms() - hours * HOUR_MS) // 60_000 * 60_000
    with asking_kafka(settings):
        counted = {key: n for key, n in totals(asyncio.run(read_sums(settings))).items() if key[2] >= since}
    stored = _stored(since) if check else {}
    rows: list[dict[str, Any]] = []
    for type_, provider, minute in sorted({*counted, *stored}, key=lambda key: (key[2], key[0], key[1])):
        key = (type_, provider, minute)
        row = {"minute": rfc3339(minute), "type": type_.value, "provider": provider, "count": counted.get(key, 0)}
        rows.append({**row, "in_clickhouse": stored.get(key, 0)} if check else row)
    columns = ("minute", "type", "provider", "count", *(("in_clickhouse",) if check else ()))
    write_rows(rows, columns, as_json=json, empty="No outcome in this time.")
    different = sum(row["count"] != row["in_clickhouse"] for row in rows) if check else 0
    if different:
        talk().print(f"[red]{different} counts differ[/] (events of the last second may still be on their way)")
        raise typer.Exit(1)


def _stored(since: int) -> dict[tuple[EventType, str, int], int]:
    from depesche.analytics.queries.rates import Rates
    from depesche.schemas.records import EventType
    from depesche.schemas.service import now_ms

    async def work(client: StoreClient, _: Settings) -> dict[tuple[EventType, str, int], int]:
        found = await Rates(client).of(scope_of(""), since, now_ms() + HOUR_MS)
        return {(EventType(rate.type), rate.provider, rate.minute): rate.count for rate in found}

    return with_store(work)
