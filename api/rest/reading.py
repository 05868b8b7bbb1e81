"""Whose data a caller may read, and the store it is read from; shared by all nouns that ask the store."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from depesche.analytics.directory.things import Principal
from depesche.analytics.queries.scope import AllTenants, Scope, Tenant
from depesche.analytics.store.client import StoreClient
from depesche.api.rest.deps import by_bearer, tools_of
from depesche.api.rest.manage import runs_the_service
from depesche.api.rest.openapi import problems
from depesche.schemas.errors import (
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    StoreUnavailableError,
    UnauthorizedError,
)

Reader = Annotated[Principal, Depends(by_bearer("read"))]
ASKING: dict[str, Any] = {
    "responses": problems(UnauthorizedError, ForbiddenError, NotFoundError, InvalidRequestError, StoreUnavailableError)
}


def scope_of(principal: Principal) -> Scope:
    """What the caller may see: its customer's data, or everything for an operator of the service."""
    if runs_the_service(principal):
        return AllTenants(f"operator key {principal.key_id}")
    return Tenant(principal.tenant)


def store_of(request: Request) -> StoreClient:
    """The store.

    Raises:
        StoreUnavailableError: this door has none.
    """
    store = tools_of(request).store
    if store is None:
        raise StoreUnavailableError("this door was given no store")
    return store
