"""How commands ask the store: a client with the embedded engine's password, and whose data may be seen."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from depesche.infra.cli.terminal import settings_or_fail
from depesche.schemas.errors import StoreUnavailableError

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
    from depesche.analytics.store.client import StoreClient, StoreRefusedError
    from depesche.infra.local.engine_password import with_engine_password

    # The one sentence below says it better than the driver's own complaint.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    settings = with_engine_password(settings_or_fail().settings)

    async def run() -> T:
        client = StoreClient(settings, "depesche-cli")
        try:
            return await work(client, settings)
        finally:
            await client.close()

    try:
        return asyncio.run(run())
    except StoreRefusedError:
        raise
    except StoreUnavailableError as fault:
        url = settings.clickhouse.url or f"http://127.0.0.1:{settings.clickhouse.port}"
        public = f"Search is not available just now: ClickHouse does not answer on {url}; is `depesche up` running?"
        raise StoreUnavailableError(str(fault), public=public) from fault


def german() -> bool:
    """Whether the person's language is German, as the environment says."""
    return next(
        (os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), ""
    ).startswith("de")
