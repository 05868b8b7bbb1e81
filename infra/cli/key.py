"""Credentials: API keys, SMTP logins and operators' keys; the secret is shown once."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from depesche.infra.cli.terminal import JSON, write_pairs

ID = Annotated[str, typer.Argument(metavar="ID", help="Key id, as `depesche key list` shows it.")]
CUSTOMER = Annotated[
    str, typer.Option("--customer", "-c", help="Customer number; default: DEPESCHE_TENANT or the demo.")
]


def add_to(app: typer.Typer) -> None:
    """Add the noun ``key``."""
    noun = typer.Typer(
        help="API keys, SMTP logins and operators' keys; each secret is shown once.", no_args_is_help=True
    )
    noun.command(epilog="Example: depesche key create --account 10001_local_0f0e... --use login")(create)
    noun.command("list", epilog="Example: depesche key list --customer 10001")(list_all)
    noun.command(epilog="Example: depesche key show l4n4k477wr")(show)
    noun.command(epilog="Example: depesche key remove l4n4k477wr")(remove)
    app.add_typer(noun, name="key")


def create(
    account: Annotated[str, typer.Option(help="Account it logs in as; default: the demo's.")] = "",
    use: Annotated[
        Literal["api_key", "login", "operator"],
        typer.Option(help="api_key: a bearer token; login: for SMTP and HTTP Basic; operator: manages a customer."),
    ] = "api_key",
    name: Annotated[str, typer.Option(help="Display name.")] = "",
    customer: CUSTOMER = "",
    json: JSON = False,
) -> None:
    """Make a credential; its secret is written once and never stored."""
    from depesche.infra.cli.things import BY, Desk, at_desk, customer_meant
    from depesche.infra.local.seed import read_demo
    from depesche.schemas.errors import SetupError
    from depesche.schemas.records import CredentialUse

    async def work(desk: Desk) -> dict[str, str]:
        demo = read_demo(desk.settings.home)
        meant = account or (demo.account if demo else "")
        if use == "operator":
            meant = ""
        elif not meant:
            raise SetupError("Which account?", fix="Say --account ID; `depesche account list` shows them.")
        tenant = customer_meant(desk.settings, customer) if use == "operator" else ""
        fresh = await desk.registrar.add_key(meant, name or use, CredentialUse(use), BY, tenant)
        if use == "login":
            return {"id": fresh.key_id, "user": fresh.key_id, "password": fresh.secret}
        return {"id": fresh.key_id, "token": fresh.token}

    write_pairs(at_desk(work), as_json=json)


def list_all(customer: CUSTOMER = "", json: JSON = False) -> None:
    """List the credentials of one customer, or without --customer of all; no secrets."""
    from depesche.infra.cli.things import list_things
    from depesche.schemas.records import DirectoryKind

    columns = ("id", "customer", "name", "use", "status", "ends_with", "account")
    list_things(DirectoryKind.KEY, customer, columns, as_json=json)


def show(id_: ID, json: JSON = False) -> None:
    """Show one credential, without its secret."""
    from depesche.infra.cli.things import show_thing
    from depesche.schemas.records import DirectoryKind

    show_thing(DirectoryKind.KEY, id_, as_json=json)


def remove(id_: ID, json: JSON = False) -> None:
    """Remove a credential; it stops working at once."""
    from depesche.infra.cli.things import remove_thing
    from depesche.schemas.records import DirectoryKind

    remove_thing(DirectoryKind.KEY, id_, as_json=json)
