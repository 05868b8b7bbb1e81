"""Keys: API keys, logins and operators' keys. A secret is in one answer only: the one that made it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from depesche.analytics.directory.things import Principal
from depesche.api.rest.bodies import json_body
from depesche.api.rest.cursors import Cursor, Limit, page_of, page_response
from depesche.api.rest.manage import (
    LIST_QUERY,
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
from depesche.api.rest.models_directory import KeyChange, KeyMade, KeyNew, KeyOut, KeyPage
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import json_response
from depesche.api.rest.routes.accounts import OfCustomer
from depesche.schemas.errors import MissingValueError
from depesche.schemas.records import Account, Credential, CredentialUse, DirectoryKind

PATH = "/v1/keys"
_ACCOUNT = "10001_local_7b1c6e52-0d53-4e0a-9a55-5d1f7a3c2e10"
NEW = writing(
    KeyNew,
    {
        "api_key": ("An API key", {"account": _ACCOUNT, "name": "shop backend", "use": "api_key"}),
        "login": ("A login for SMTP and HTTP Basic", {"account": _ACCOUNT, "name": "relay", "use": "login"}),
    },
)
CHANGE = writing(KeyChange, {"disable": ("Stop it", {"status": "disabled"})})
_KIND = DirectoryKind.KEY


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    one, made = PATH + "/{key_id}", {**NEW, "status_code": 201}
    operations = (
        Operation("POST", PATH, create, "createKey", "Make a key", KeyMade, made),
        Operation("GET", PATH, list_all, "listKeys", "List keys", KeyPage, READING, LIST_QUERY),
        Operation("GET", one, show, "getKey", "Show a key", KeyOut, READING),
        Operation("PATCH", one, change, "changeKey", "Change a key", KeyOut, CHANGE),
        Operation("DELETE", one, remove, "removeKey", "Remove a key", None, REMOVING),
    )
    add_operations(router, "directory", operations)


def _out(id_: str, customer: str, value: Credential) -> dict[str, Any]:
    return {
        "id": id_,
        "customer": customer,
        "account": value.account,
        "name": value.name,
        "use": value.use.value,
        "status": value.status.value,
        "hint": value.hint,
        "scopes": list(value.scopes),
        "expires_at": value.expires_at,
    }


async def create(request: Request, principal: Manager) -> Response:
    """Make a credential. Its secret is shown in this answer and never again."""
    given = await json_body(KeyNew)(request)
    use = CredentialUse(given.use)
    tenant = _tenant_for(request, principal, given)
    fresh = await registrar_of(request).add_key(
        "" if use is CredentialUse.OPERATOR else given.account, given.name, use, principal.key_id, tenant
    )
    customer, value = own_thing(request, principal, _KIND, fresh.key_id, Credential)
    if given.scopes or given.expires_at is not None:
        value = replace(value, scopes=tuple(given.scopes), expires_at=given.expires_at)
        await registrar_of(request).change(customer, fresh.key_id, value, principal.key_id)
    login = use is CredentialUse.LOGIN
    secrets = {
        "token": None if login else fresh.token,
        "user": fresh.key_id if login else None,
        "password": fresh.secret if login else None,
    }
    return json_response({**_out(fresh.key_id, customer, value), **secrets}, 201, Location=f"{PATH}/{fresh.key_id}")


def _tenant_for(request: Request, principal: Principal, given: KeyNew) -> str:
    """Whose key it will be; an operator's key is only made by an operator, and for the same realm."""
    if given.use == "operator":
        if principal.use is not CredentialUse.OPERATOR:
            require_operator(principal)
        return principal.tenant
    if not given.account:
        raise MissingValueError("account", public="account is missing", pointer="/account")
    return own_thing(request, principal, DirectoryKind.ACCOUNT, given.account, Account)[0]


async def list_all(
    request: Request, principal: Manager, limit: Limit = 50, cursor: Cursor = None, customer: OfCustomer = None
) -> Response:
    """The credentials you may manage, without their secrets."""
    page, following = page_of(own_things(request, principal, _KIND, Credential, customer), limit, cursor)
    return page_response(request, [_out(*thing) for thing in page], following)


async def show(request: Request, principal: Manager, key_id: str) -> Response:
    """One credential, without its secret."""
    return json_response(_out(key_id, *own_thing(request, principal, _KIND, key_id, Credential)))


async def change(request: Request, principal: Manager, key_id: str) -> Response:
    """Rename, restrict, disable or end a credential; what is left out stays, `null` takes `expires_at` away."""
    tenant, old = own_thing(request, principal, _KIND, key_id, Credential)
    given = await json_body(KeyChange)(request)
    said = given.model_dump(exclude_unset=True)
    said = {name: value for name, value in said.items() if value is not None or name == "expires_at"}
    value = replace(old, status=new_status(principal, old.status, given.status))
    value = replace(value, **changes(said, "name", "scopes", "expires_at"))
    await registrar_of(request).change(tenant, key_id, value, principal.key_id)
    return json_response(_out(key_id, tenant, value))


async def remove(request: Request, principal: Manager, key_id: str) -> Response:
    """Remove a credential; it stops working at once."""
    tenant, _ = own_thing(request, principal, _KIND, key_id, Credential)
    await registrar_of(request).remove(_KIND, key_id, tenant, principal.key_id)
    return Response(status_code=204)
