"""Customers: who pays. Only an operator of the service makes and removes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from depesche.api.rest.bodies import json_body
from depesche.api.rest.cursors import Cursor, Limit, page_of, page_response
from depesche.api.rest.deps import tools_of
from depesche.api.rest.manage import (
    READING,
    REMOVING,
    Manager,
    changes,
    new_status,
    own_thing,
    own_things,
    registrar_of,
    require_operator,
    writing,
)
from depesche.api.rest.models_directory import CustomerChange, CustomerNew, CustomerOut, CustomerPage
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import json_response
from depesche.schemas.errors import ConflictError
from depesche.schemas.records import Customer, DirectoryKind

PATH = "/v1/customers"
NEW = writing(CustomerNew, {"new": ("A customer", {"id": "10001", "name": "Shop", "hourly_capacity": 150000})})
CHANGE = writing(CustomerChange, {"lock": ("Lock a customer", {"status": "locked"})})
_KIND = DirectoryKind.CUSTOMER


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    one, made = PATH + "/{customer_id}", {**NEW, "status_code": 201}
    operations = (
        Operation("POST", PATH, create, "createCustomer", "Register a customer", CustomerOut, made),
        Operation("GET", PATH, list_all, "listCustomers", "List customers", CustomerPage, READING, ("limit", "cursor")),
        Operation("GET", one, show, "getCustomer", "Show a customer", CustomerOut, READING),
        Operation("PATCH", one, change, "changeCustomer", "Change a customer", CustomerOut, CHANGE),
        Operation("DELETE", one, remove, "removeCustomer", "Remove a customer", None, REMOVING),
    )
    add_operations(router, "directory", operations)


def _out(id_: str, value: Customer) -> dict[str, Any]:
    return {"id": id_, "name": value.name, "status": value.status.value, "hourly_capacity": value.hourly_capacity}


async def create(request: Request, principal: Manager) -> Response:
    """Register a customer under a number."""
    require_operator(principal)
    given = await json_body(CustomerNew)(request)
    made = await registrar_of(request).add_customer(given.id, given.name, principal.key_id, given.hourly_capacity)
    return json_response(_out(given.id, made), 201, Location=f"{PATH}/{given.id}")


async def list_all(request: Request, principal: Manager, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """The customers you may manage."""
    found = own_things(request, principal, _KIND, Customer, None)
    page, following = page_of(found, limit, cursor)
    return page_response(request, [_out(id_, value) for id_, _, value in page], following)


async def show(request: Request, principal: Manager, customer_id: str) -> Response:
    """One customer."""
    return json_response(_out(customer_id, own_thing(request, principal, _KIND, customer_id, Customer)[1]))


async def change(request: Request, principal: Manager, customer_id: str) -> Response:
    """Rename a customer, change its capacity, disable or lock it. Only for an operator of the service."""
    tenant, old = own_thing(request, principal, _KIND, customer_id, Customer)
    require_operator(principal)
    given = await json_body(CustomerChange)(request)
    said = given.model_dump(exclude_unset=True, exclude_none=True)
    value = replace(old, status=new_status(principal, old.status, given.status))
    value = replace(value, **changes(said, "name", "hourly_capacity"))
    await registrar_of(request).change(tenant, customer_id, value, principal.key_id)
    return json_response(_out(customer_id, value))


async def remove(request: Request, principal: Manager, customer_id: str) -> Response:
    """Remove a customer that has nothing left; what it sent stays in the history."""
    tenant, _ = own_thing(request, principal, _KIND, customer_id, Customer)
    require_operator(principal)
    book = tools_of(request).directory.book
    if any(next(book.all(kind, tenant), None) for kind in DirectoryKind if kind is not _KIND):
        raise ConflictError("not empty", public="This customer still has accounts, domains or keys")
    await registrar_of(request).remove(_KIND, customer_id, tenant, principal.key_id)
    return Response(status_code=204)
