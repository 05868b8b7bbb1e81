"""Rates: how delivery goes per window, provider and customer, as the Faust agent counts, and held against ClickHouse."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.store_access import CUSTOMER, scope_of, with_store
from depesche.infra.cli.terminal import EXIT_FAILED, JSON, settings_or_fail, talk, write_rows

if TYPE_CHECKING:
    from depesche.analytics.store.client import StoreClient
    from depesche.schemas.rates import Grain
    from depesche.schemas.settings import Settings

HOUR_MS = 3_600_000
_COUNTS = (
    "sent",
    "delivered",
    "soft_bounced",
    "hard_bounced",
    "blocked",
    "returned",
    "expired",
    "deferred",
    "complained",
)
_RATES = ("hard_bounce_rate", "complaint_rate")
_OUTCOME = ("minute", "type", "kind", "tenant", "provider", "count")
_MOST_DIFFERENCES = 5


class Told(StrEnum):
    """What is told apart."""

    PROVIDER = "provider"
    TENANT = "tenant"
    BOTH = "both"
    OUTCOME = "outcome"


class Window(StrEnum):
    """Lengths of a window."""

    FIVE_MINUTES = "5m"
    HOUR = "1h"
    DAY = "1d"


_SPAN_HOURS = {Window.FIVE_MINUTES: 1.0, Window.HOUR: 24.0, Window.DAY: 72.0}


def add_to(app: typer.Typer) -> None:
    """Add ``rates``."""
    app.command(epilog="Example: depesche rates --by both --window 5m --check")(rates)


def rates(
    by: Annotated[
        Told, typer.Option(help="What is told apart; outcome: every count as it stands in the log.")
    ] = Told.PROVIDER,
    window: Annotated[Window, typer.Option(help="Length of a window (UTC); without meaning by outcome.")] = Window.HOUR,
    hours: Annotated[float, typer.Option(help="How far back; 0: 1 by 5m or outcome, 24 by 1h, 72 by 1d.", min=0)] = 0,
    customer: CUSTOMER = "",
    stored: Annotated[bool, typer.Option("--stored", help="Ask ClickHouse, which has 45 days and not 3.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Count in ClickHouse too; exit code 1 if a single count differs.")
    ] = False,
    json: JSON = False,
) -> None:
    """Show how delivery goes: counts, hard-bounce rate and complaint rate.

    sent are units whose way ended out there: delivered, refused for good (soft, hard: the address is dead, blocked: we or our
    mail are unwelcome) or expired. returned are those of the bounces that came back after they had been delivered. deferred
    counts attempts. The hard-bounce rate is hard / (delivered + bounced), the complaint rate complained / delivered.
    """
    from depesche.schemas.service import now_ms

    span = hours or (1 if by is Told.OUTCOME else _SPAN_HOURS[window])
    since = int(now_ms() - span * HOUR_MS) // 60_000 * 60_000
    counted = _stored(since, customer) if stored else _counted(settings_or_fail().settings, since, customer)
    held_against = _stored(since, customer) if check else None
    if by is Told.OUTCOME:
        rows, columns = _outcomes(counted, held_against), (*_OUTCOME, *(("in_clickhouse",) if check else ()))
    else:
        rows, columns = _rated(counted, window.value, by.value), _columns(by)
        rows = rows if json else [{**row, **{name: _percent(row[name]) for name in _RATES}} for row in rows]
    write_rows(rows, columns, as_json=json, empty="No outcome in this time.")
    if held_against is not None:
        _hold_against(counted, held_against)


def _counted(settings: Settings, since: int, customer: str) -> Counter[Grain]:
    from depesche.analytics.log.sums import read_sums, totals
    from depesche.infra.cli.quiet import asking_kafka

    with asking_kafka(settings):
        found = totals(asyncio.run(read_sums(settings, since)))
    wanted = {g: n for g, n in found.items() if g.minute >= since and customer in ("", g.tenant)}
    return Counter(wanted)


def _stored(since: int, customer: str) -> Counter[Grain]:
    from depesche.analytics.queries.rates import Rates
    from depesche.schemas.service import now_ms

    async def work(client: StoreClient, _: Settings) -> Counter[Grain]:
        return await Rates(client).grains(scope_of(customer), since, now_ms() + HOUR_MS)

    return with_store(work)


def _columns(by: Told) -> tuple[str, ...]:
    who = {Told.PROVIDER: ("provider",), Told.TENANT: ("tenant",)}.get(by, ("tenant", "provider"))
    return ("start", *who, *_COUNTS, *_RATES)


def _rated(counts: Mapping[Grain, int], window: str, by: Any) -> list[dict[str, Any]]:
    from depesche.analytics.queries.results import rfc3339
    from depesche.schemas.rates import WINDOWS, rated

    return [
        {"start": rfc3339(one.start), "tenant": one.tenant, "provider": one.provider, **one.volume.to_json()}
        for one in rated(counts, WINDOWS[window], by)
    ]


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.2%}"


def _outcomes(counted: Mapping[Grain, int], stored: Mapping[Grain, int] | None) -> list[dict[str, Any]]:
    from depesche.analytics.queries.results import rfc3339

    rows = []
    for grain in sorted({*counted, *(stored or ())}, key=lambda grain: (grain.minute, *grain)):
        row = {**grain._asdict(), "minute": rfc3339(grain.minute), "count": counted.get(grain, 0)}
        rows.append(row if stored is None else {**row, "in_clickhouse": stored.get(grain, 0)})
    return rows


def _hold_against(counted: Mapping[Grain, int], stored: Mapping[Grain, int]) -> None:
    """Exit code 1 and the first differences, unless every count is the same."""
    different = [grain for grain in sorted({*counted, *stored}) if counted.get(grain, 0) != stored.get(grain, 0)]
    if not different:
        talk().print(f"{len(counted)} counts, each as ClickHouse has it.")
        return
    talk().print(f"[red]{len(different)} counts differ[/] (events of the last second may still be on their way):")
    for grain in different[:_MOST_DIFFERENCES]:
        what = " ".join(str(part) for part in (grain.type, grain.kind, grain.tenant, grain.provider) if part)
        talk().print(f"  {what}: {counted.get(grain, 0)} counted, {stored.get(grain, 0)} in ClickHouse")
    raise typer.Exit(EXIT_FAILED)
