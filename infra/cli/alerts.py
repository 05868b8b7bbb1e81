"""What a person should know: alerts that have begun, and those that are over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.store_access import CUSTOMER, scope_of
from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_rows, write_text

if TYPE_CHECKING:
    from depesche.analytics.log.alerts import AlertBook
    from depesche.analytics.queries.scope import Scope

POLL_SECONDS = 1.0
_COLUMNS = ("at", "state", "severity", "kind", "subject", "explanation")


def add_to(app: typer.Typer) -> None:
    """Add ``alerts``."""
    app.command(epilog="Example: depesche alerts --open --json | jq -r .explanation")(alerts)


def alerts(
    open_: Annotated[bool, typer.Option("--open", help="Only those that have begun and not ended.")] = False,
    since: Annotated[str, typer.Option(help="Such as 7d, today, 2026-11-23; open ones are shown in any case.")] = "7d",
    follow: Annotated[bool, typer.Option("--follow", help="Then go on and show each new one, until Ctrl-C.")] = False,
    seconds: Annotated[float, typer.Option(help="With --follow: stop after so long; 0: never.", min=0)] = 0,
    customer: CUSTOMER = "",
    json: JSON = False,
) -> None:
    """Show alerts, the newest first: rates above their limit, own addresses on blocklists, blocklists that cannot be believed.

    One line when it begins (raised), one when it ends (cleared). The limits are the settings alerts.*, the lists dnsbl.zones.
    --json tells the events that led to it, too.
    """
    from depesche.analytics.log.alerts import AlertBook
    from depesche.analytics.queries.alerts import to_json, visible
    from depesche.analytics.queries.values import moment
    from depesche.infra.cli.quiet import asking_kafka
    from depesche.schemas.errors import InvalidRequestError
    from depesche.schemas.service import now_ms

    settings, scope = settings_or_fail().settings, scope_of(customer)
    try:
        begin = moment(since, now_ms())
    except ValueError as fault:
        raise InvalidRequestError("since", public=f"--since: {fault}") from fault

    book = AlertBook(settings)

    async def work() -> None:
        try:
            found = visible(await book.current(), scope, since=begin, only_open=open_)
            write_rows(map(to_json, found), _COLUMNS, as_json=json, empty="No alert.")
            if follow:
                talk().print("Following; Ctrl-C ends it.")
                await _follow(book, scope, {alert.alert_id for alert in found}, seconds, json)
        finally:
            await book.stop()

    with asking_kafka(settings):
        asyncio.run(work())


async def _follow(book: AlertBook, scope: Scope, known: set[str], seconds: float, json: bool) -> None:
    from depesche.analytics.queries.alerts import to_json, visible
    from depesche.schemas.service import now_ms

    begin, end = now_ms(), time.monotonic() + seconds
    while not seconds or time.monotonic() < end:
        await asyncio.sleep(POLL_SECONDS)
        for alert in reversed(visible(await book.current(), scope, since=begin)):
            if alert.alert_id not in known:
                known.add(alert.alert_id)
                row = to_json(alert)
                (write_json if json else _write_line)(row)


def _write_line(row: Mapping[str, Any]) -> None:
    write_text("  ".join(str(row[column]) for column in _COLUMNS))
