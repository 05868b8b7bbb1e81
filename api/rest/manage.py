"""Who may manage which part of the directory, and how things of it are found; shared by the four nouns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel

from depesche.analytics.directory.registrar import Registrar
from depesche.analytics.directory.things import Principal
from depesche.api.rest.deps import by_bearer, tools_of
from depesche.api.rest.openapi import Examples, body_of, problems
from depesche.api.rest.problems import MalformedRequestError, UnsupportedMediaTypeError
from depesche.schemas.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    LogUnavailableError,
    MissingValueError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
)
from depesche.schemas.records import (
    Account,
    Credential,
    CredentialUse,
    Customer,
    DirectoryKind,
    Pool,
    SenderDomain,
    Status,
)

Manager = Annotated[Principal, Depends(by_bearer("manage"))]
T = TypeVar("T", Customer, Account, SenderDomain, Credential, Pool)

WHOLE_SERVICE = "*"
"""Customer number of an operator's key that manages all customers; any other operator's key manages its own customer."""
READING = {"responses": problems(UnauthorizedError, ForbiddenError, NotFoundError, InvalidRequestError)}
_CHANGING = problems(
    MalformedRequestError,
    UnauthorizedError,
    ForbiddenError,
    NotFoundError,
    ConflictError,
    TooLargeError,
    UnsupportedMediaTypeError,
    InvalidRequestError,
    MissingValueError,
    LogUnavailableError,
)
REMOVING: dict[str, Any] = {"responses": _CHANGING, "status_code": 204}
LIST_QUERY = ("limit", "cursor", "customer")


def writing(model: type[BaseModel], examples: Examples) -> dict[str, Any]:
    """What a route that takes ``model`` tells FastAPI."""
    return {"openapi_extra": body_of(model, examples), "responses": _CHANGING}


def runs_the_service(principal: Principal) -> bool:
    """Whether the key manages all customers."""
    return principal.use is CredentialUse.OPERATOR and principal.tenant == WHOLE_SERVICE


def require_operator(principal: Principal) -> None:
    """Refuse everybody who does not run the service.

    Raises:
        ForbiddenError: the key belongs to one customer.
    """
    if not runs_the_service(principal):
        raise ForbiddenError("not an operator of the service", public="Only an operator of the service may do this")


def customer_of(principal: Principal, wanted: str | None) -> str:
    """The customer that something is made for.

    Raises:
        ForbiddenError: it is not the caller's own.
        MissingValueError: the caller runs the service and did not say whose it is.
    """
    if not runs_the_service(principal):
        if wanted is not None and wanted != principal.tenant:
            raise ForbiddenError("another customer", public="This key manages another customer", pointer="/customer")
        return principal.tenant
    if wanted is None:
        raise MissingValueError("customer", public="customer is missing", pointer="/customer")
    return wanted


def registrar_of(request: Request) -> Registrar:
    """The registrar.

    Raises:
        LogUnavailableError: this door only reads the directory.
    """
    registrar = tools_of(request).registrar
    if registrar is None:
        raise LogUnavailableError("no registrar", public="The directory cannot be changed here just now")
    return registrar


def own_thing(request: Request, principal: Principal, kind: DirectoryKind, id_: str, type_: type[T]) -> tuple[str, T]:
    """Customer number and value of a thing that the caller may manage.

    Raises:
        NotFoundError: there is none, or it belongs to somebody else, which looks the same.
    """
    entry = tools_of(request).directory.book.find(kind, id_)
    if entry is None or not isinstance(entry.record.value, type_):
        raise NotFoundError(f"no {kind.value}")
    if not runs_the_service(principal) and entry.record.tenant != principal.tenant:
        raise NotFoundError(f"{kind.value} of another customer")
    return entry.record.tenant, entry.record.value


def own_things(
    request: Request, principal: Principal, kind: DirectoryKind, type_: type[T], customer: str | None
) -> list[tuple[str, tuple[str, str, T]]]:
    """Id, and (id, customer number, value), of all things of a kind that the caller may manage, sorted by id."""
    tenant = customer if runs_the_service(principal) else customer_of(principal, customer)
    return [
        (entry.record.id, (entry.record.id, entry.record.tenant, entry.record.value))
        for entry in tools_of(request).directory.book.all(kind, tenant)
        if isinstance(entry.record.value, type_)
    ]


def new_status(principal: Principal, old: Status, word: str | None) -> Status:
    """The status after a change; locking and unlocking belong to the service (mission D11).

    Raises:
        ForbiddenError: the caller belongs to one customer and wants to lock or unlock.
    """
    if word is None:
        return old
    wanted = Status(word)
    if Status.LOCKED in (old, wanted) and wanted is not old:
        require_operator(principal)
    return wanted


def changes(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Of what was given, what a dataclass's ``replace`` takes: lists become tuples."""
    return {name: tuple(v) if isinstance(v := given[name], list) else v for name in names if name in given}
