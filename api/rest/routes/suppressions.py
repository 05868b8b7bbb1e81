"""The suppression list: who gets no mail and why, added to and lifted by hand."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from depesche.analytics.suppressions.desk import Filter, SuppressionDesk, Wanted
from depesche.api.rest.bodies import json_body
from depesche.api.rest.cursors import Cursor, Limit, from_cursor, page_response, to_cursor
from depesche.api.rest.deps import tools_of
from depesche.api.rest.manage import READING, REMOVING, Manager, customer_of, runs_the_service, writing
from depesche.api.rest.models_suppressions import (
    ReasonWord,
    StateWord,
    SuppressionAnswer,
    SuppressionNew,
    SuppressionPage,
)
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import json_response
from depesche.api.rest.reading import Reader
from depesche.api.rest.routes.accounts import OfCustomer
from depesche.schemas.errors import ForbiddenError, InvalidRequestError, LogUnavailableError
from depesche.schemas.records import SuppressionReason

PATH = "/v1/suppressions"
NEW = writing(
    SuppressionNew,
    {
        "letter": ("Asked for in a letter", {"address": "ada@example.org", "note": "letter of 3 March"}),
        "moved": ("Known from another system", {"address": "bob@example.org", "reason": "complained"}),
    },
)
Domain = Annotated[str, Query(max_length=255, description="Only addresses in this domain.")]
OfReason = Annotated[ReasonWord | None, Query(description="Only for this reason.")]
OfState = Annotated[StateWord, Query(description="Only entries in this state.")]
OfAddress = Annotated[str, Path(max_length=254, description="The address.", examples=["ada@example.org"])]
NoteOf = Annotated[str, Query(max_length=500, description="Why, in your words.")]


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    one, made = PATH + "/{address}", {**NEW, "status_code": 201}
    query = ("limit", "cursor", "customer", "domain", "reason", "state")
    mine = ("customer",)
    operations = (
        Operation("POST", PATH, create, "addSuppression", "Suppress an address", SuppressionAnswer, made),
        Operation("GET", PATH, list_all, "listSuppressions", "List suppressions", SuppressionPage, READING, query),
        Operation(
            "GET", one, show, "getSuppression", "Would it be sent, and why not", SuppressionAnswer, READING, mine
        ),
        Operation("DELETE", one, lift, "liftSuppression", "Lift a suppression", None, REMOVING, ("customer", "note")),
    )
    add_operations(router, "suppressions", operations)


def desk_of(request: Request) -> SuppressionDesk:
    """The suppression list.

    Raises:
        LogUnavailableError: this door has none.
    """
    desk = tools_of(request).suppressions
    if desk is None:
        raise LogUnavailableError("no list", public="The suppression list is not available here just now")
    return desk


async def create(request: Request, principal: Manager) -> Response:
    """Suppress an address by hand. Answered once it is in force; until you lift it, or for a number of days."""
    given = await json_body(SuppressionNew)(request)
    desk, customer = desk_of(request), customer_of(principal, given.customer)
    wanted = Wanted(SuppressionReason(given.reason), given.days, given.note)
    await desk.add(customer, given.address, wanted, principal.key_id)
    found = desk.why(customer, given.address)
    return json_response(desk.explained(customer, found), 201, Location=f"{PATH}/{found.address}")


async def list_all(
    request: Request,
    principal: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    customer: OfCustomer = None,
    domain: Domain = "",
    reason: OfReason = None,
    state: OfState = "active",
) -> Response:
    """The entries, in no order that means anything. A page may be short although more follow: look at `has_more`."""
    desk = desk_of(request)
    whole = runs_the_service(principal)
    if not whole and customer not in (None, principal.tenant):
        raise ForbiddenError("another customer", public="This key reads another customer", pointer="customer")
    wanted = Filter(
        tenant=customer if whole else principal.tenant,
        state=state,
        reason=SuppressionReason(reason) if reason else None,
        domain=domain.lower(),
    )
    page = await asyncio.to_thread(desk.page, wanted, limit, _place(cursor))
    return page_response(request, page.rows, to_cursor("/".join(page.after)) if page.after else None)


async def show(request: Request, principal: Reader, address: OfAddress, customer: OfCustomer = None) -> Response:
    """Whether a mail to an address would be sent now, and why not, with the evidence."""
    desk, tenant = desk_of(request), customer_of(principal, customer)
    return json_response(desk.explained(tenant, desk.why(tenant, address)))


async def lift(
    request: Request, principal: Manager, address: OfAddress, customer: OfCustomer = None, note: NoteOf = ""
) -> Response:
    """Let an address get mail again: what happened until now counts no more."""
    desk, tenant = desk_of(request), customer_of(principal, customer)
    await desk.lift(tenant, address, principal.key_id, note)
    return Response(status_code=204)


def _place(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "", ""
    tenant, slash, key = from_cursor(cursor).partition("/")
    if not slash:
        raise InvalidRequestError("cursor", public="This cursor is not one of ours", pointer="cursor")
    return tenant, key
