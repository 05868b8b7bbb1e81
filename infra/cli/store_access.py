"""How commands ask the store: a client with the embedded engine's password, and whose data may be seen."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from depesche.infra.cli.terminal import settings_or_fail

if TYPE_CHECKING:
    from depesche.analytics.queries.scope import Scope
    from depesche.analytics.store.client import StoreClient
    from depesche.schemas.settings import Settings

T = TypeVar("T")

CUSTOMER = Annotated[
    str, typer.Option("--customer", "-c", help="Only this customer's mail; default: everybody's, as operator.")
]


def scope_of(customer: str) -> Scope:
    """One customer, or all of them in the name of the person at the terminal."""
    from depesche.analytics.queries.scope import AllTenants, Tenant

    return Tenant(customer) if customer else AllTenants(f"{getpass.getuser()} at the command line")


def with_store(work: Callable[[StoreClient, Settings], Awaitable[T]]) -> T:
    """Run ``work`` with a client of the store, and close it.

    Raises:
        StoreUnavailableError: ClickHouse does not answer.
    """
    from depesche.analytics.store.client import StoreClient
    from depesche.infra.local.programs import with_engine_password

    settings = with_engine_password(settings_or_fail().settings)

    async def run() -> T:
        client = StoreClient(settings, "depesche-cli")
        try:
            return await work(client, settings)
        finally:
            await client.close()

    return asyncio.run(run())


def german() -> bool:
    """Whether the person's language is German, as the environment says."""
    return next(
        (os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), ""
    ).startswith("de")
