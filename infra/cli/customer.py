"""Customers: who pays, and how much they have booked."""

from __future__ import annotations

from typing import Annotated

import typer

from depesche.infra.cli.terminal import JSON

NUMBER = Annotated[str, typer.Argument(help="Customer number.")]


def add_to(app: typer.Typer) -> None:
    """Add the noun ``customer``."""
    noun = typer.Typer(help="Customers: who pays, and how much they have booked.", no_args_is_help=True)
    noun.command(epilog="Example: depesche customer create 10001 --name 'Example Ltd'")(create)
    noun.command("list", epilog="Example: depesche customer list --json")(list_all)
    noun.command(epilog="Example: depesche customer show 10001")(show)
    noun.command(epilog="Example: depesche customer remove 10001")(remove)
    app.add_typer(noun, name="customer")


def create(
    number: NUMBER,
    name: Annotated[str, typer.Option(help="Display name.")] = "",
    capacity: Annotated[int, typer.Option(help="Booked mails per hour.", min=1)] = 5000,
    json: JSON = False,
) -> None:
    """Register a customer under a number of your choice."""
    from depesche.infra.cli.things import BY, Desk, at_desk, told

    async def work(desk: Desk) -> None:
        await desk.registrar.add_customer(number, name or number, BY, capacity)

    at_desk(work)
    told({"id": number, "name": name or number}, f"customer {number} is registered.", as_json=json)


def list_all(json: JSON = False) -> None:
    """List all customers."""
    from depesche.infra.cli.things import list_things
    from depesche.schemas.records import DirectoryKind

    list_things(DirectoryKind.CUSTOMER, "", ("id", "name", "status", "hourly_capacity"), as_json=json)


def show(number: NUMBER, json: JSON = False) -> None:
    """Show one customer."""
    from depesche.infra.cli.things import show_thing
    from depesche.schemas.records import DirectoryKind

    show_thing(DirectoryKind.CUSTOMER, number, as_json=json)


def remove(number: NUMBER, json: JSON = False) -> None:
    """Remove a customer. What was accepted is still delivered; the audit topic keeps that it was there."""
    from depesche.infra.cli.things import remove_thing
    from depesche.schemas.records import DirectoryKind

    remove_thing(DirectoryKind.CUSTOMER, number, as_json=json)
