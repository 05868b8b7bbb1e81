"""Shaping: what is in force for each provider, whether a file is valid, and what applies to one address and why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli import what_if
from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_rows, write_text

if TYPE_CHECKING:
    from depesche.schemas.settings import Settings
    from depesche.streams.mail.route import Rollup
    from depesche.streams.mail.shaping.shape import Shape
    from depesche.streams.wire.dns import Hosts

_COLUMNS = (
    "provider",
    "connections",
    "rate",
    "messages_per_connection",
    "tls",
    "shards",
    "ladder",
    "answers",
    "suspends",
)


def add_to(app: typer.Typer) -> None:
    """Add the noun ``shaping``."""
    noun = typer.Typer(
        help="How each provider is sent to: limits, ladder, TLS, rules on answers. An operator's shaping.toml is laid over what "
        "is shipped; couriers read it anew within two seconds.",
        no_args_is_help=True,
    )
    noun.command(epilog="Example: depesche shaping show gmail   or   depesche shaping show --shipped > shaping.toml")(
        show
    )
    noun.command(
        epilog="Example: depesche shaping check new-shaping.toml && mv new-shaping.toml .depesche/shaping.toml"
    )(check)
    noun.command(epilog="Example: depesche shaping explain ada@example.org --from shop.test")(explain)
    what_if.add_to(noun)
    app.add_typer(noun, name="shaping")


def show(
    provider: Annotated[str, typer.Argument(help="Only this provider, with where each value comes from.")] = "",
    shipped: Annotated[
        bool, typer.Option("--shipped", help="Write the shipped file as it is, to begin an own one with.")
    ] = False,
    json: JSON = False,
) -> None:
    """Show what is in force for the providers that have a block of their own, and for everybody else."""
    from depesche.streams.mail.shaping.book import shipped_text
    from depesche.streams.stages.shaping_watch import book_of

    if shipped:
        write_text(shipped_text())
        return
    book = book_of(settings_or_fail().settings)
    if not provider:
        shapes = [book.of(name) for name in book.providers]
        rows = [_row(shape) for shape in shapes] + [{**_row(book.of("")), "provider": "(default)"}]
        write_rows(rows, _COLUMNS, as_json=json, empty="")
        return
    shape = book.of(provider)
    if json:
        write_json(_in_full(shape))
    else:
        write_text("\n".join(_told(shape)))


def check(
    file: Annotated[Path, typer.Argument(help="A shaping file.")],
    json: JSON = False,
) -> None:
    """Say whether a shaping file is valid; the first mistake is named with its line, key and fix. Exit code 1: it is not."""
    from depesche.streams.stages.shaping_watch import read_file

    blocks = read_file(file)
    rules = sum(len(block.answers) + len(block.suspends) for block in blocks.values())
    if json:
        write_json({"file": str(file), "valid": True, "blocks": sorted(blocks), "rules": rules})
    else:
        talk().print(f"[green]✓[/] {file} is valid: {len(blocks)} blocks, {rules} rules.")


def explain(
    address: Annotated[str, typer.Argument(help="A recipient, or only the domain.")],
    sender: Annotated[str, typer.Option("--from", help="Sender domain; it decides about the egress pool.")] = "",
    json: JSON = False,
) -> None:
    """Say which provider an address belongs to and why, which pool and route its mail takes, and what applies from where."""
    from depesche.schemas.values import domain_name
    from depesche.streams.stages.shaping_watch import book_of

    settings = settings_or_fail().settings
    domain = domain_name(address.rpartition("@")[2])
    rollup, hosts = asyncio.run(_looked_up(settings, domain))
    shape = book_of(settings).of(rollup.provider)
    pool = _pool_of(sender) if sender else "shared"
    exchangers = [host.name for group in hosts.groups for host in group]
    if json:
        found = {"domain": domain, "why": rollup.why, "pool": pool, "exchangers": exchangers, "dns": hosts.verdict}
        write_json(found | _in_full(shape))
        return
    lines = [
        f"{domain} belongs to {rollup.provider} ({rollup.why}).",
        f"Mail hosts: {', '.join(exchangers) or f'{hosts.enhanced} {hosts.reason}'}",
        f"Egress pool: {pool}" + (f" (sender domain {sender})" if sender else " (senders without a pool of their own)"),
        f"Route: {pool}/{rollup.provider}/" + ("0" if shape.shards == 1 else f"0..{shape.shards - 1} by recipient"),
    ]
    write_text("\n".join([*lines, *_told(shape)]))


def _pool_of(sender: str) -> str:
    from depesche.infra.cli.things import Desk, at_desk
    from depesche.schemas.errors import NotFoundError

    async def work(desk: Desk) -> str:
        found = desk.directory.domain(sender)
        if found is None:
            raise NotFoundError(f"no domain {sender}", public=f"There is no sender domain {sender}")
        return found.value.pool

    return at_desk(work)


async def _looked_up(settings: Settings, domain: str) -> tuple[Rollup, Hosts]:
    from depesche.streams.stages.routing import Routing
    from depesche.streams.wire.dns import Resolver

    resolver = Resolver(settings.dns, allow_private=settings.deliver.allow_private)
    try:
        return await Routing(resolver, bound_seconds=settings.dns.timeout_seconds).rollup(domain), (
            await resolver.mail_hosts(domain)
        )
    finally:
        await resolver.close()


def rate_in_words(per_minute: float | None) -> str:
    """A rate as a shaping file says it."""
    if per_minute is None:
        return "unlimited"
    return f"{per_minute:g}/min" if per_minute >= 1 else f"{per_minute * 60:g}/h"


def _row(shape: Shape) -> dict[str, Any]:
    return {
        "provider": shape.provider,
        "connections": shape.connections,
        "rate": rate_in_words(shape.per_minute),
        "messages_per_connection": shape.messages_per_connection,
        "tls": shape.tls,
        "shards": shape.shards,
        "ladder": list(shape.ladder),
        "answers": len(shape.answers),
        "suspends": len(shape.suspends),
    }


def _in_full(shape: Shape) -> dict[str, Any]:
    return _row(shape) | {
        "lifetime_seconds": shape.lifetime,
        "origins": dict(shape.origins),
        "answers": [
            {"name": rule.name, "origin": rule.origin, "class": rule.reply_class, "actions": sorted(rule.actions)}
            for rule in shape.answers
        ],
        "suspends": [
            {"classes": sorted(rule.classes), "after": rule.after, "within_seconds": rule.within, "origin": rule.origin}
            for rule in shape.suspends
        ],
    }


def _told(shape: Shape) -> list[str]:
    """A shape in lines, each with where it comes from."""
    row = _row(shape)
    row["lifetime"] = "as the job says" if shape.lifetime is None else f"{shape.lifetime / 3600:g}h"
    lines = []
    for key in ("connections", "rate", "messages_per_connection", "ladder", "tls", "shards", "lifetime"):
        value = ", ".join(row[key]) if isinstance(row[key], list) else str(row[key])
        lines.append(f"  {key:<24} {value:<28} {shape.origins[key]}")
    for rule in shape.answers:
        follows = ", ".join(sorted(rule.actions)) or "no action"
        given = f" as {rule.reply_class}" if rule.reply_class else ""
        lines.append(f"  {'answer ' + rule.name:<54}{given} {follows}  {rule.origin}")
    for suspend in shape.suspends:
        classes = ", ".join(sorted(suspend.classes))
        told = f"suspend {suspend.seconds:g} s after {suspend.after} x {classes} within {suspend.within:g} s"
        lines.append(f"  {told:<54} {suspend.origin}")
    return lines
