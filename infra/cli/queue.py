"""The queue: what waits where, how long, why, and when it is tried next."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.scope import about_mail
from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from depesche.analytics.backlog.backlog import Backlog
    from depesche.schemas.records import ControlScope

SHOWN_FROM = 50_000
"""So many records take long enough to show how far the reading has come."""


class Trait(StrEnum):
    """What the queue can be counted by."""

    PROVIDER = "provider"
    POOL = "pool"
    CUSTOMER = "customer"
    ACCOUNT = "account"
    CAMPAIGN = "campaign"
    DOMAIN = "domain"
    SENDER_DOMAIN = "sender-domain"
    RUNG = "rung"
    WHY = "why"


BY = Annotated[Trait, typer.Option(help="What to count by.")]
OLDEST = Annotated[bool, typer.Option("--oldest", help="The longest waiting first, not the most numerous.")]


def add_to(app: typer.Typer) -> None:
    """Add the noun ``queue``; alone it counts."""
    noun = typer.Typer(help="What waits where, how long, why, and when it is tried next.", invoke_without_command=True)
    noun.callback(epilog="Example: depesche queue --by provider --oldest")(count)
    noun.command("list", epilog="Example: depesche queue list --provider gmail --limit 20")(list_units)
    app.add_typer(noun, name="queue")


@about_mail
def count(
    context: typer.Context,
    *,
    by: BY = Trait.PROVIDER,
    oldest: OLDEST = False,
    scope: ControlScope,
    json: JSON = False,
) -> None:
    """Count what waits, by provider or another trait, from the log itself.

    Waiting is everything between prepare and its end: with its courier, or on a rung of the ladder. The times are the age of the
    oldest unit, and when the first of those on the ladder is tried next.
    """
    if context.invoked_subcommand is not None:
        return
    from depesche.schemas.service import now_ms

    backlog = inspected(scope)
    now = now_ms()
    groups = backlog.groups(by.value)
    if oldest:
        groups.sort(key=lambda pair: pair[1].oldest)
    rows: list[dict[str, Any]] = [{"by": by.value, "name": name, **group.to_json(now)} for name, group in groups]
    if json:
        write_json(*rows)
        return
    columns = (by.value, "waiting", "with_couriers", "oldest", "next", "waits_for")
    write_rows([_readable(row) for row in rows], columns, as_json=False, empty="Nothing waits.")
    if len(rows) > 1:
        talk().print(f"{backlog.total().units:,} units wait.")


@about_mail
def list_units(
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    scope: ControlScope,
    json: JSON = False,
) -> None:
    """List the units that wait, the oldest first; `depesche show ID` tells the story of one."""
    from depesche.schemas.service import now_ms

    backlog = inspected(scope)
    now = now_ms()
    rows = [one.to_json(now) for one in backlog.oldest(limit)]
    if json:
        write_json(*rows)
        return
    columns = ("unit_id", "account", "provider", "domain", "rung", "attempt", "age", "next", "why")
    shown = [{**row, "age": span(row["age_seconds"]), "next": _next(row)} for row in rows]
    write_rows(shown, columns, as_json=False, empty="Nothing waits.")
    if len(backlog) > limit:
        talk().print(f"{len(backlog) - limit:,} more wait.")


def inspected(scope: ControlScope) -> Backlog:
    """Read the queue, with a word on how far it is where that takes long.

    Raises:
        LogUnavailableError: Kafka does not answer.
    """
    from depesche.analytics.backlog.inspection import inspect
    from depesche.infra.cli.quiet import asking_kafka

    settings = settings_or_fail().settings
    with talk().status("") as status, asking_kafka(settings):

        def progress(done: int, whole: int) -> None:
            if whole > SHOWN_FROM:
                status.update(f"reading the queue: {done:,} of {whole:,} records ({100 * done // whole} %)")

        return asyncio.run(inspect(settings, scope, progress))


def span(seconds: int) -> str:
    """A duration for people: ``42s``, ``3m 20s``, ``5h 10m``, ``2d 4h``."""
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h {seconds % 3600 // 60}m"
    return f"{seconds // 86_400}d {seconds % 86_400 // 3600}h"


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    next_ = row["next_in_seconds"]
    whys = ", ".join(f"{why} ({number:,})" for why, number in row["why"].items())
    shown = "now" if next_ is None else f"in {span(next_)}"
    return {**row, row["by"]: row["name"], "oldest": span(row["oldest_seconds"]), "next": shown, "waits_for": whys}


def _next(row: Mapping[str, Any]) -> str:
    return f"in {span(row['next_in_seconds'])}" if row["next_in_seconds"] else "now"
