"""Egress pools: own addresses to send from, and which sender domains use them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from depesche.infra.cli.pool_warmup import warmup
from depesche.infra.cli.terminal import JSON

if TYPE_CHECKING:
    from depesche.infra.cli.things import Desk

NAME = Annotated[str, typer.Argument(help="Name of the pool: letters, digits, hyphens. `shared` is everybody else's.")]
ADDRESS = Annotated[
    list[str] | None,
    typer.Option("--address", "-a", help="Own address, as IP or IP=NAME; NAME is said in EHLO. May be repeated."),
]


def add_to(app: typer.Typer) -> None:
    """Add the noun ``pool``."""
    noun = typer.Typer(
        help="Egress pools: own addresses that a group of sender domains sends from.", no_args_is_help=True
    )
    noun.command(epilog="Example: depesche pool add vip -a 192.0.2.1=out1.example.org -a 2001:db8::1=out1.example.org")(
        add
    )
    noun.command("list", epilog="Example: depesche pool list --json")(list_all)
    noun.command(epilog="Example: depesche pool show vip")(show)
    noun.command(epilog="Example: depesche pool change vip --add 192.0.2.2=out2.example.org --drop 192.0.2.1")(change)
    noun.command(epilog="Example: depesche pool assign shop.example vip")(assign)
    noun.command(epilog="Example: depesche pool warmup vip --begin 192.0.2.2 --overflow shared")(warmup)
    noun.command(epilog="Example: depesche pool remove vip")(remove)
    app.add_typer(noun, name="pool")


def add(name: NAME, address: ADDRESS = None, json: JSON = False) -> None:
    """Make a pool. Two addresses at least are advised, so that one may rest; each must be an address of this machine."""
    from depesche.analytics.directory.pools import pool_address
    from depesche.infra.cli.things import BY, at_desk, told
    from depesche.schemas.records import Pool

    async def work(desk: Desk) -> None:
        await desk.registrar.add_pool(name, Pool(addresses=tuple(map(pool_address, address or ()))), BY)

    at_desk(work)
    told({"id": name, "addresses": address or []}, f"pool {name} is there.", as_json=json)


def list_all(json: JSON = False) -> None:
    """List all pools."""
    from depesche.infra.cli.things import list_things
    from depesche.schemas.records import DirectoryKind

    list_things(DirectoryKind.POOL, "", ("id", "addresses", "overflow_pool"), as_json=json)


def show(name: NAME, json: JSON = False) -> None:
    """Show one pool."""
    from depesche.infra.cli.things import show_thing
    from depesche.schemas.records import DirectoryKind

    show_thing(DirectoryKind.POOL, name, as_json=json)


def change(
    name: NAME,
    added: Annotated[list[str] | None, typer.Option("--add", help="Address to add, as IP or IP=NAME.")] = None,
    dropped: Annotated[list[str] | None, typer.Option("--drop", help="Address to take out.")] = None,
    json: JSON = False,
) -> None:
    """Add addresses to a pool, or take them out; couriers use it for their next connections."""
    from depesche.analytics.directory.pools import OPERATOR, pool_address, pool_of
    from depesche.infra.cli.things import BY, at_desk, told
    from depesche.schemas.errors import NotFoundError

    async def work(desk: Desk) -> list[str]:
        pool = pool_of(desk.directory.book, name)
        if pool is None:
            raise NotFoundError(f"no pool {name}", public=f"There is no pool {name}")
        gone = {pool_address(text).ip for text in dropped or ()}
        missing = gone - {address.ip for address in pool.addresses}
        if missing:
            raise NotFoundError("no address", public=f"{', '.join(sorted(missing))} is not in the pool {name}")
        kept = tuple(address for address in pool.addresses if address.ip not in gone)
        value = replace(pool, addresses=(*kept, *map(pool_address, added or ())))
        await desk.registrar.change(OPERATOR, name, value, BY)
        return [address.ip for address in value.addresses]

    addresses = at_desk(work)
    told({"id": name, "addresses": addresses}, f"pool {name} has {', '.join(addresses)}.", as_json=json)


def assign(
    domain: Annotated[str, typer.Argument(help="Sender domain.")],
    name: NAME,
    json: JSON = False,
) -> None:
    """Let a sender domain send from a pool; it holds for mail that is prepared from now on."""
    from depesche.infra.cli.things import BY, at_desk, told
    from depesche.schemas.errors import NotFoundError

    async def work(desk: Desk) -> None:
        found = desk.directory.domain(domain)
        if found is None:
            raise NotFoundError(f"no domain {domain}", public=f"There is no domain {domain}")
        await desk.registrar.change(found.tenant, domain, replace(found.value, pool=name), BY)

    at_desk(work)
    told({"id": domain, "pool": name}, f"{domain} sends from the pool {name}.", as_json=json)


def remove(name: NAME, json: JSON = False) -> None:
    """Remove a pool that no sender domain names any more."""
    from depesche.infra.cli.things import remove_thing
    from depesche.schemas.records import DirectoryKind

    remove_thing(DirectoryKind.POOL, name, as_json=json)
