"""Why is it so slow? How fast each pool may send to each provider, since when, and which answers led to it."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_rows, write_text

if TYPE_CHECKING:
    from depesche.analytics.store.client import StoreClient
    from depesche.schemas.records import PaceState
    from depesche.schemas.settings import Settings

PAIR = Annotated[str, typer.Argument(metavar="POOL/PROVIDER", help="Such as shared/gmail.")]
_COLUMNS = ("pool", "provider", "state", "per_minute", "connections", "suspended_until", "reason", "since")
_HISTORY = ("since", "pool", "provider", "action", "per_minute", "connections", "reason", "explanation")


def add_to(app: typer.Typer) -> None:
    """Add the noun ``pace``."""
    noun = typer.Typer(help="How fast each pool may send to each provider, and why.", no_args_is_help=True)
    noun.command("list", epilog="Example: depesche pace list")(list_all)
    noun.command(epilog="Example: depesche pace show shared/gmail")(show)
    noun.command(epilog="Example: depesche pace history shared/gmail --json")(history)
    noun.command(epilog="Example: depesche pace lift shared/gmail")(lift)
    app.add_typer(noun, name="pace")


def list_all(
    every: Annotated[bool, typer.Option("--all", help="Also those that are free again.")] = False, json: JSON = False
) -> None:
    """List what is limited or suspended now. What is not listed is sent as fast as the shaping file allows."""
    from depesche.analytics.pace.rows import row_of
    from depesche.schemas.service import now_ms

    now = now_ms()
    rows = [row_of(state, now) for _, state in sorted(_newest().items())]
    shown = [row for row in rows if every or row["state"] != "free"]
    write_rows(shown, _COLUMNS, as_json=json, empty="Nothing is limited or suspended.")


def show(pair: PAIR, json: JSON = False) -> None:
    """Show the pace in force for a pool and provider, since when and why: the answers that led to it.

    The words of the last refusal are read from ClickHouse, if it answers and they have not expired.
    """
    from depesche.analytics.pace.rows import row_of
    from depesche.schemas.errors import NotFoundError
    from depesche.schemas.service import now_ms

    pool, provider = _split(pair)
    state = _newest().get((pool, provider))
    if state is None:
        raise NotFoundError(
            pair, public=f"Nothing was ever decided about {pair}: it is sent as fast as the shaping file allows"
        )
    row = row_of(state, now_ms()) | {"reply": _sample(state)}
    if json:
        write_json(row)
    else:
        write_text("\n".join(_told(row)))


def history(
    pair: Annotated[str, typer.Argument(metavar="[POOL/PROVIDER]", help="Such as shared/gmail; default: all.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest.")] = 50,
    json: JSON = False,
) -> None:
    """List the decisions about the pace, in their order; they are kept for 45 days."""
    from depesche.analytics.pace.log import read_history
    from depesche.analytics.pace.rows import row_of
    from depesche.infra.cli.quiet import asking_kafka
    from depesche.schemas.service import now_ms

    wanted = _split(pair) if pair else None
    settings, now = settings_or_fail().settings, now_ms()
    with asking_kafka(settings):
        told = asyncio.run(read_history(settings))
    rows = [row_of(one, now) for one in told if wanted in (None, (one.pool, one.provider))]
    write_rows(rows[-limit:], _HISTORY, as_json=json, empty="Nothing was decided.")


def lift(pair: PAIR, json: JSON = False) -> None:
    """End every limit and suspension of a pool at a provider. What the provider answers then counts anew.

    The order takes its place among the provider's answers and is kept in the history with your name.
    """
    from depesche.infra.cli.quiet import asking_kafka

    pool, provider = _split(pair)
    settings, by = settings_or_fail().settings, f"{getpass.getuser()} at the command line"
    with asking_kafka(settings):
        order = asyncio.run(_order(settings, pool, provider, by))
    if json:
        write_json({"pool": pool, "provider": provider, "order": order})
    else:
        talk().print(f"{pair} is free again within seconds; `depesche pace show {pair}` tells.")


async def _order(settings: Settings, pool: str, provider: str, by: str) -> str:
    from depesche.analytics.log.client import producer
    from depesche.analytics.pace.log import give_order

    sender = producer(settings, "depesche-command")
    try:
        await sender.start()
        return await give_order(settings, sender, pool, provider, by)
    finally:
        await sender.stop()


def _newest() -> dict[tuple[str, str], PaceState]:
    from depesche.analytics.pace.log import read_newest
    from depesche.infra.cli.quiet import asking_kafka

    settings = settings_or_fail().settings
    with asking_kafka(settings):
        return asyncio.run(read_newest(settings))


def _split(pair: str) -> tuple[str, str]:
    from depesche.schemas.errors import SetupError

    pool, slash, provider = pair.partition("/")
    if not (pool and slash and provider) or "/" in provider:
        raise SetupError(
            f"{pair!r} names no pool and provider.", fix="Write it as POOL/PROVIDER, such as shared/gmail."
        )
    return pool, provider


def _sample(state: PaceState) -> str:
    """The words of the last refusal behind a decision, from the store; empty when they cannot be had."""
    from depesche.analytics.queries.timeline import Timeline
    from depesche.infra.cli.store_access import scope_of, with_store
    from depesche.schemas.errors import StoreUnavailableError

    refused = [cause for cause in state.causes if cause.reply_class and cause.unit_id]
    if not refused:
        return ""

    async def work(client: StoreClient, _: Settings) -> str:
        stories = await Timeline(client).of(scope_of(""), refused[-1].unit_id)
        events = [event for story in stories for event in story.events if event.event_id == refused[-1].event_id]
        return f"{events[0].code} {events[0].reply_text}" if events and events[0].reply_text else ""

    try:
        return with_store(work)
    except StoreUnavailableError:
        talk().print("[yellow]The refusal's words cannot be shown:[/] ClickHouse does not answer.")
        return ""


def _told(row: dict[str, Any]) -> list[str]:
    """A decision in lines."""
    lines = [f"{row['pool']}/{row['provider']}: {row['state']}"]
    if row["state"] == "suspended":
        lines.append(f"  nobody tries before {row['suspended_until']}")
    if row["state"] != "free":
        rate, connections = row["per_minute"], row["connections"]
        lines.append(
            f"  at most {f'{rate:g} a minute' if rate is not None else 'any number a minute'}, over all couriers"
        )
        lines.append(f"  at most {connections if connections is not None else 'any number of'} connections")
        lines.append(f"  until {row['ends_at']}, unless a new refusal renews it")
    lines.append(f"  {row['action']} {row['since']}: {row['explanation']}")
    if row["reason"]:
        lines.append(f"  {row['reason']}: {row['meaning']}")
    if row["reply"]:
        words = "".join(char if char.isprintable() else " " for char in row["reply"])
        lines.append(f"  said: {words[:300]}")
    lines += [
        f"    {cause['reply_class'] or 'delivered':<14} {cause['code'] or '':<4} x{cause['count']:<5} {cause['unit_id']}"
        for cause in row["causes"]
    ]
    return lines
