"""Sender domains and their DKIM keys. The first registration of a domain wins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from depesche.analytics.directory.dkim_keys import record_name, record_text
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
from depesche.api.rest.models_directory import (
    DKIMChange,
    DKIMKeyOut,
    DKIMNew,
    DomainChange,
    DomainNew,
    DomainOut,
    DomainPage,
)
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import json_response
from depesche.api.rest.routes.accounts import OfCustomer
from depesche.schemas.errors import InvalidRequestError, NotFoundError
from depesche.schemas.records import DirectoryKind, DKIMKey, SenderDomain
from depesche.schemas.values import domain_name

PATH = "/v1/domains"
NEW = writing(DomainNew, {"new": ("A sender domain", {"customer": "10001", "name": "shop.example"})})
CHANGE = writing(
    DomainChange,
    {
        "disable": ("Stop sending from it", {"status": "disabled"}),
        "encrypt": ("Never send from it in plain text", {"tls": "must"}),
    },
)
ROTATE = writing(DKIMNew, {"rsa": ("A further RSA key", {"algorithm": "rsa-sha256"})})
RETIRE = writing(DKIMChange, {"retire": ("Stop signing with it", {"active": False})})
_KIND = DirectoryKind.DOMAIN


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    one, made = PATH + "/{name}", {**NEW, "status_code": 201}
    key, selector = one + "/dkim", one + "/dkim/{selector}"
    operations = (
        Operation("POST", PATH, create, "createDomain", "Register a sender domain", DomainOut, made),
        Operation("GET", PATH, list_all, "listDomains", "List sender domains", DomainPage, READING, LIST_QUERY),
        Operation("GET", one, show, "getDomain", "Show a sender domain", DomainOut, READING),
        Operation("PATCH", one, change, "changeDomain", "Change a sender domain", DomainOut, CHANGE),
        Operation("DELETE", one, remove, "removeDomain", "Remove a sender domain", None, REMOVING),
        Operation("POST", key, rotate, "addDKIMKey", "Add a DKIM key", DKIMKeyOut, {**ROTATE, "status_code": 201}),
        Operation("PATCH", selector, retire, "changeDKIMKey", "Switch a DKIM key on or off", DKIMKeyOut, RETIRE),
    )
    add_operations(router, "directory", operations)


def _key_out(domain: str, key: DKIMKey) -> dict[str, Any]:
    return {
        "selector": key.selector,
        "algorithm": key.algorithm,
        "active": key.active,
        "record_name": record_name(key.selector, domain),
        "record_value": record_text(key.algorithm, key.public_key),
    }


def _out(name: str, customer: str, value: SenderDomain) -> dict[str, Any]:
    return {
        "name": name,
        "customer": customer,
        "status": value.status.value,
        "accounts": list(value.accounts),
        "client": value.client,
        "pool": value.pool,
        "tls": value.tls,
        "dkim": [_key_out(name, key) for key in value.dkim],
    }


def _known(name: str) -> str:
    """The name as the directory has it; what is no domain is not there."""
    try:
        return domain_name(name)
    except InvalidRequestError:
        raise NotFoundError("no domain name") from None


async def create(request: Request, principal: Manager) -> Response:
    """Register a sender domain; publish the DNS record of its key before sending."""
    given = await json_body(DomainNew)(request)
    customer = customer_of(principal, given.customer)
    name = domain_name(given.name)
    value = await registrar_of(request).add_domain(
        customer, name, principal.key_id, accounts=tuple(given.accounts), tls=given.tls
    )
    return json_response(_out(name, customer, value), 201, Location=f"{PATH}/{name}")


async def list_all(
    request: Request, principal: Manager, limit: Limit = 50, cursor: Cursor = None, customer: OfCustomer = None
) -> Response:
    """The sender domains you may manage."""
    page, following = page_of(own_things(request, principal, _KIND, SenderDomain, customer), limit, cursor)
    return page_response(request, [_out(*thing) for thing in page], following)


async def show(request: Request, principal: Manager, name: str) -> Response:
    """One sender domain, with the DNS records of its keys."""
    name = _known(name)
    return json_response(_out(name, *own_thing(request, principal, _KIND, name, SenderDomain)))


async def change(request: Request, principal: Manager, name: str) -> Response:
    """Change a sender domain; what is left out stays."""
    name = _known(name)
    tenant, old = own_thing(request, principal, _KIND, name, SenderDomain)
    given = await json_body(DomainChange)(request)
    said = given.model_dump(exclude_unset=True)
    said = {key: value for key, value in said.items() if value is not None or key == "client"}
    status = new_status(principal, old.status, given.status)
    value = replace(old, status=status, **changes(said, "accounts", "client", "pool", "tls"))
    await registrar_of(request).change(tenant, name, value, principal.key_id)
    return json_response(_out(name, tenant, value))


async def remove(request: Request, principal: Manager, name: str) -> Response:
    """Remove a sender domain; somebody else may then register it."""
    name = _known(name)
    tenant, _ = own_thing(request, principal, _KIND, name, SenderDomain)
    await registrar_of(request).remove(_KIND, name, tenant, principal.key_id)
    return Response(status_code=204)


async def rotate(request: Request, principal: Manager, name: str) -> Response:
    """Add a further signing key under the next selector; the old one goes on signing until it is switched off."""
    name = _known(name)
    tenant, _ = own_thing(request, principal, _KIND, name, SenderDomain)
    given = await json_body(DKIMNew)(request)
    key = await registrar_of(request).rotate_dkim(name, tenant, principal.key_id, given.algorithm)
    return json_response(_key_out(name, key), 201)


async def retire(request: Request, principal: Manager, name: str, selector: str) -> Response:
    """Switch a signing key on or off."""
    name = _known(name)
    tenant, domain = own_thing(request, principal, _KIND, name, SenderDomain)
    given = await json_body(DKIMChange)(request)
    if selector not in {key.selector for key in domain.dkim}:
        raise NotFoundError("no such selector")
    keys = tuple(replace(k, active=given.active) if k.selector == selector else k for k in domain.dkim)
    await registrar_of(request).change(tenant, name, replace(domain, dkim=keys), principal.key_id)
    return json_response(_key_out(name, next(key for key in keys if key.selector == selector)))
