"""Sender domains: who may send as whom, and the DKIM keys that prove it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.terminal import JSON

if TYPE_CHECKING:
    from depesche.infra.cli.things import Desk
    from depesche.schemas.records import SenderDomain


class TLSWord(StrEnum):
    """What a sender domain asks of TLS towards the far side, as the command line takes it."""

    MAY = "may"
    MUST = "must"


TLS = Annotated[
    TLSWord,
    typer.Option(help="TLS towards the far side: may, when it works; or must, else nothing is delivered."),
]
NAME = Annotated[str, typer.Argument(help="Domain name, such as shop.example.")]
CUSTOMER = Annotated[
    str, typer.Option("--customer", "-c", help="Customer number; default: DEPESCHE_TENANT or the demo.")
]


def add_to(app: typer.Typer) -> None:
    """Add the noun ``domain``."""
    noun = typer.Typer(help="Sender domains, and the DKIM keys that prove them.", no_args_is_help=True)
    noun.command(epilog="Example: depesche domain create shop.example --customer 10001")(create)
    noun.command("list", epilog="Example: depesche domain list")(list_all)
    noun.command(epilog="Example: depesche domain show shop.test --json | jq -r .dns[0]")(show)
    noun.command(epilog="Example: depesche domain change shop.test --tls must")(change)
    noun.command(epilog="Example: depesche domain rotate shop.test")(rotate)
    noun.command(epilog="Example: depesche domain remove shop.example")(remove)
    app.add_typer(noun, name="domain")


def create(
    name: NAME,
    customer: CUSTOMER = "",
    account: Annotated[
        list[str] | None, typer.Option(help="Account that may send from it; may be repeated; default: all.")
    ] = None,
    tls: TLS = TLSWord.MAY,
    json: JSON = False,
) -> None:
    """Register a sender domain with a fresh DKIM key; writes the DNS record to publish.

    The first registration wins. In the sandbox the record is published at once.
    """
    from depesche.infra.cli.things import BY, at_desk, customer_meant, told

    async def work(desk: Desk) -> list[str]:
        number = customer_meant(desk.settings, customer)
        domain = await desk.registrar.add_domain(number, name, BY, accounts=tuple(account or ()), tls=tls.value)
        return _published(desk, name, domain)

    records = at_desk(work)
    told({"id": name, "dns": records}, f"{name} is registered. {_advice(records)}", as_json=json)


def list_all(customer: CUSTOMER = "", json: JSON = False) -> None:
    """List the domains of one customer, or without --customer of all."""
    from depesche.infra.cli.things import list_things
    from depesche.schemas.records import DirectoryKind

    list_things(DirectoryKind.DOMAIN, customer, ("id", "customer", "status", "tls", "selectors"), as_json=json)


def show(name: NAME, json: JSON = False) -> None:
    """Show one domain with the DNS records that its DKIM keys need."""
    from depesche.infra.cli.things import show_thing
    from depesche.schemas.records import DirectoryKind

    def more(desk: Desk) -> Mapping[str, Any]:
        found = desk.directory.domain(name)
        return {"dns": _records(name, found.value) if found else []}

    show_thing(DirectoryKind.DOMAIN, name, as_json=json, more=more)


def change(name: NAME, tls: TLS, json: JSON = False) -> None:
    """Change what a domain asks of TLS; it holds for mail that is prepared from now on.

    must means encrypted, whatever the certificate says; a recipient's own policy (DANE, MTA-STS) is checked in either case.
    """
    from depesche.infra.cli.things import BY, at_desk, told
    from depesche.schemas.errors import NotFoundError

    async def work(desk: Desk) -> None:
        found = desk.directory.domain(name)
        if found is None:
            raise NotFoundError(f"no domain {name}", public=f"There is no domain {name}")
        await desk.registrar.change(found.tenant, name, replace(found.value, tls=tls.value), BY)

    at_desk(work)
    told({"id": name, "tls": tls.value}, f"{name}: TLS {tls.value}.", as_json=json)


def rotate(name: NAME, json: JSON = False) -> None:
    """Add a second DKIM key under the next selector; both sign until the old one is retired."""
    from depesche.infra.cli.things import BY, at_desk, told
    from depesche.schemas.errors import NotFoundError

    async def work(desk: Desk) -> tuple[str, list[str]]:
        found = desk.directory.domain(name)
        if found is None:
            raise NotFoundError(f"no domain {name}", public=f"There is no domain {name}")
        key = await desk.registrar.rotate_dkim(name, found.tenant, BY)
        changed = desk.directory.domain(name)
        return key.selector, _published(desk, name, changed.value if changed else found.value)

    selector, records = at_desk(work)
    told({"id": name, "selector": selector, "dns": records}, f"{selector} is active. {_advice(records)}", as_json=json)


def remove(name: NAME, json: JSON = False) -> None:
    """Remove a domain; nobody may send from it any more."""
    from depesche.infra.cli.things import remove_thing
    from depesche.schemas.records import DirectoryKind

    remove_thing(DirectoryKind.DOMAIN, name, as_json=json)


def _records(name: str, domain: SenderDomain) -> list[str]:
    from depesche.analytics.directory.dkim_keys import record_name, record_text

    return [
        f"{record_name(key.selector, name)}. TXT {record_text(key.algorithm, key.public_key)}"
        for key in domain.dkim
        if key.active
    ]


def _published(desk: Desk, name: str, domain: SenderDomain) -> list[str]:
    if desk.settings.sandbox.enabled:
        from depesche.infra.local.seed import publish

        publish(desk.settings, name, domain)
    return _records(name, domain)


def _advice(records: list[str]) -> str:
    return "Publish in DNS:\n  " + "\n  ".join(records)
