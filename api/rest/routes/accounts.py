"""Accounts: what submits mail, by which doors and from where."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from depesche.api.rest.bodies import json_body
from depesche.api.rest.cursors import Cursor, Limit, page_of, page_response
from depesche.api.rest.manage import (
    LIST_QUERY,
    READING,
    REMOVING,
    Manager,
    changes,
    customer_of,
    new_status,
    own_thing,
    own_things,
    registrar_of,
    writing,
)
from depesche.api.rest.models_directory import AccountChange, AccountNew, AccountOut, AccountPage
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import json_response
from depesche.schemas.records import Account, DirectoryKind, Interface, Status

PATH = "/v1/accounts"
NEW = writing(
    AccountNew,
    {"new": ("An account for REST", {"customer": "10001", "name": "shop", "interfaces": ["rest"], "source_ips": []})},
)
CHANGE = writing(AccountChange, {"addresses": ("Bind it to an address", {"source_ips": ["192.0.2.7"]})})
OfCustomer = Annotated[str | None, Query(max_length=64, description="Only of this customer.")]
_KIND = DirectoryKind.ACCOUNT
_SAME_NAMES = ("name", "source_ips", "login_by_ip", "role_recipients", "expiry_hours")


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    one, made = PATH + "/{account_id}", {**NEW, "status_code": 201}
    operations = (
        Operation("POST", PATH, create, "createAccount", "Register an account", AccountOut, made),
        Operation("GET", PATH, list_all, "listAccounts", "List accounts", AccountPage, READING, LIST_QUERY),
        Operation("GET", one, show, "getAccount", "Show an account", AccountOut, READING),
        Operation("PATCH", one, change, "changeAccount", "Change an account", AccountOut, CHANGE),
        Operation("DELETE", one, remove, "removeAccount", "Remove an account", None, REMOVING),
    )
    add_operations(router, "directory", operations)


def _out(id_: str, customer: str, value: Account) -> dict[str, Any]:
    return {
        "id": id_,
        "customer": customer,
        "name": value.name,
        "status": value.status.value,
        "interfaces": [interface.value for interface in value.interfaces],
        "source_ips": list(value.source_ips),
        "login_by_ip": value.login_by_ip,
        "role_recipients": None if value.role_recipients is None else list(value.role_recipients),
        "expiry_hours": value.expiry_hours,
    }


async def create(request: Request, principal: Manager) -> Response:
    """Register an account; its id is made."""
    given = await json_body(AccountNew)(request)
    customer = customer_of(principal, given.customer)
    value = Account(
        name=given.name,
        status=Status.ACTIVE,
        interfaces=tuple(Interface(word) for word in given.interfaces),
        source_ips=tuple(given.source_ips),
        login_by_ip=given.login_by_ip,
        role_recipients=None if given.role_recipients is None else tuple(given.role_recipients),
        expiry_hours=given.expiry_hours,
    )
    account_id = await registrar_of(request).add_account(customer, value, principal.key_id)
    return json_response(_out(account_id, customer, value), 201, Location=f"{PATH}/{account_id}")


async def list_all(
    request: Request, principal: Manager, limit: Limit = 50, cursor: Cursor = None, customer: OfCustomer = None
) -> Response:
    """The accounts you may manage."""
    page, following = page_of(own_things(request, principal, _KIND, Account, customer), limit, cursor)
    return page_response(request, [_out(*thing) for thing in page], following)


async def show(request: Request, principal: Manager, account_id: str) -> Response:
    """One account."""
    return json_response(_out(account_id, *own_thing(request, principal, _KIND, account_id, Account)))


async def change(request: Request, principal: Manager, account_id: str) -> Response:
    """Change an account; what is left out stays, `null` takes `role_recipients` and `expiry_hours` back to the default."""
    tenant, old = own_thing(request, principal, _KIND, account_id, Account)
    given = await json_body(AccountChange)(request)
    said = given.model_dump(exclude_unset=True)
    nullable = ("role_recipients", "expiry_hours")
    said = {name: value for name, value in said.items() if value is not None or name in nullable}
    value = replace(old, status=new_status(principal, old.status, given.status), **changes(said, *_SAME_NAMES))
    if given.interfaces is not None:
        value = replace(value, interfaces=tuple(Interface(word) for word in given.interfaces))
    await registrar_of(request).change(tenant, account_id, value, principal.key_id)
    return json_response(_out(account_id, tenant, value))


async def remove(request: Request, principal: Manager, account_id: str) -> Response:
    """Remove an account; its keys stop working at once."""
    tenant, _ = own_thing(request, principal, _KIND, account_id, Account)
    await registrar_of(request).remove(_KIND, account_id, tenant, principal.key_id)
    return Response(status_code=204)
