"""Technical accounts: what submits mail, through which doors, from which addresses."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from depesche.infra.cli.terminal import JSON


class Door(StrEnum):
    """A front door, as the command line takes it."""

    REST = "rest"
    SMTP = "smtp"


ID = Annotated[str, typer.Argument(metavar="ID", help="Account id, as `depesche account list` shows it.")]
CUSTOMER = Annotated[
    str, typer.Option("--customer", "-c", help="Customer number; default: DEPESCHE_TENANT or the demo.")
]


def add_to(app: typer.Typer) -> None:
    """Add the noun ``account``."""
    noun = typer.Typer(help="Technical accounts: what submits mail, through which doors.", no_args_is_help=True)
    noun.command(epilog="Example: depesche account create shop --customer 10001 --interface smtp")(create)
    noun.command("list", epilog="Example: depesche account list --customer 10001")(list_all)
    noun.command(epilog="Example: depesche account show 10000_local_7b1c6e52-0d53-4e0a-9a55-5d1f7a3c2e10")(show)
    noun.command(epilog="Example: depesche account lock 10001_local_0f0e...")(lock)
    noun.command(epilog="Example: depesche account unlock 10001_local_0f0e...")(unlock)
    noun.command(epilog="Example: depesche account remove 10001_local_0f0e...")(remove)
    app.add_typer(noun, name="account")


def create(
    name: Annotated[str, typer.Argument(help="Display name.")],
    customer: CUSTOMER = "",
    interface: Annotated[
        list[Door] | None, typer.Option(help="Door it may use; may be repeated; default: both.")
    ] = None,
    source_ip: Annotated[
        list[str] | None, typer.Option(help="Address it may submit from; may be repeated; default: any.")
    ] = None,
    login_by_ip: Annotated[bool, typer.Option("--login-by-ip", help="A source address above is login enough.")] = False,
    json: JSON = False,
) -> None:
    """Register a technical account; writes its id."""
    from depesche.analytics.directory.registrar import new_account
    from depesche.infra.cli.things import BY, Desk, at_desk, customer_meant, told
    from depesche.schemas.records import Interface

    account = new_account(
        name,
        *(Interface(door.value) for door in interface or ()),
        source_ips=tuple(source_ip or ()),
        login_by_ip=login_by_ip,
    )

    async def work(desk: Desk) -> str:
        return await desk.registrar.add_account(customer_meant(desk.settings, customer), account, BY)

    id_ = at_desk(work)
    told({"id": id_, "name": name}, f"account {id_} is registered.", as_json=json)


def list_all(customer: CUSTOMER = "", json: JSON = False) -> None:
    """List the accounts of one customer, or without --customer of all."""
    from depesche.infra.cli.things import list_things
    from depesche.schemas.records import DirectoryKind

    columns = ("id", "customer", "name", "status", "interfaces")
    list_things(DirectoryKind.ACCOUNT, customer, columns, as_json=json)


def show(id_: ID, json: JSON = False) -> None:
    """Show one account."""
    from depesche.infra.cli.things import show_thing
    from depesche.schemas.records import DirectoryKind

    show_thing(DirectoryKind.ACCOUNT, id_, as_json=json)


def lock(id_: ID, json: JSON = False) -> None:
    """Lock an account, for abuse: within a second it can submit nothing more, and what is not prepared yet is not sent.

    What is on its way already goes on; `depesche control drop --account ID` stops that too.
    """
    _set_status(id_, "locked", as_json=json)


def unlock(id_: ID, json: JSON = False) -> None:
    """Let a locked or disabled account submit again."""
    _set_status(id_, "active", as_json=json)


def _set_status(id_: str, word: str, *, as_json: bool) -> None:
    from dataclasses import replace

    from depesche.infra.cli.things import BY, Desk, at_desk, told
    from depesche.schemas.errors import NotFoundError
    from depesche.schemas.records import Status

    async def work(desk: Desk) -> None:
        found = desk.directory.book.account(id_)
        if found is None:
            raise NotFoundError(f"no account {id_}", public=f"There is no account {id_}")
        tenant, account = found
        await desk.registrar.change(tenant, id_, replace(account, status=Status(word)), BY)

    at_desk(work)
    told({"id": id_, "status": word}, f"account {id_} is {word}.", as_json=as_json)


def remove(id_: ID, json: JSON = False) -> None:
    """Remove an account; its keys and logins stop working at once."""
    from depesche.infra.cli.things import remove_thing
    from depesche.schemas.records import DirectoryKind

    remove_thing(DirectoryKind.ACCOUNT, id_, as_json=json)
