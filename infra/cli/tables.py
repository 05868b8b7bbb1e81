"""The tables of the store: which numbered steps have run, and running the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.store_access import with_store
from depesche.infra.cli.terminal import EXIT_FAILED, JSON, write_rows

if TYPE_CHECKING:
    from depesche.analytics.store.client import StoreClient
    from depesche.schemas.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Add ``tables``."""
    app.command(epilog="Example: depesche tables --apply")(tables)


def tables(
    apply: Annotated[bool, typer.Option("--apply", help="Run the steps that have not run yet, in order.")] = False,
    json: JSON = False,
) -> None:
    """List the numbered steps that build ClickHouse's tables and when each ran here, or run the missing ones.

    `depesche up` runs them by itself; for a server or cluster of your own this is the set-up, before the sink is started. The
    exit code is 1 when a step has not run.
    """

    async def work(client: StoreClient, settings: Settings) -> list[dict[str, Any]]:
        from depesche.analytics.queries.results import rfc3339
        from depesche.analytics.store import migrate

        if apply:
            await migrate.bootstrap(client, settings)
        found = await migrate.status(client)
        return [
            {"step": one.step.number, "name": one.step.name, "applied_at": rfc3339(one.applied_at)} for one in found
        ]

    rows = with_store(work)
    write_rows(rows, ("step", "name", "applied_at"), as_json=json, empty="There are no steps.")
    if any(row["applied_at"] is None for row in rows):
        raise typer.Exit(EXIT_FAILED)
