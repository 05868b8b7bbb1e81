"""Egress pools: own addresses that a group of sender domains sends from. Only the operator of the service manages them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from depesche.analytics.directory.pools import OPERATOR, pool_address
from depesche.api.rest.bodies import json_body
from depesche.api.rest.cursors import Cursor, Limit, page_of, page_response
from depesche.api.rest.manage import (
    READING,
    REMOVING,
    Manager,
    own_thing,
    own_things,
    registrar_of,
    require_operator,
    writing,
)
from depesche.api.rest.models_pools import PoolChange, PoolNew, PoolOut, PoolPage
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import json_response
from depesche.schemas.records import DirectoryKind, Pool, PoolAddress

PATH = "/v1/pools"
_ADDRESSES = [{"ip": "192.0.2.1", "helo": "out1.example.org"}, {"ip": "2001:db8::1", "helo": "out1.example.org"}]
NEW = writing(PoolNew, {"new": ("Two addresses of one host", {"name": "vip", "addresses": _ADDRESSES})})
CHANGE = writing(PoolChange, {"fewer": ("Only one of them", {"addresses": _ADDRESSES[:1]})})
_KIND = DirectoryKind.POOL


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    one, made = PATH + "/{name}", {**NEW, "status_code": 201}
    operations = (
        Operation("POST", PATH, create, "createPool", "Make an egress pool", PoolOut, made),
        Operation("GET", PATH, list_all, "listPools", "List egress pools", PoolPage, READING, ("limit", "cursor")),
        Operation("GET", one, show, "getPool", "Show an egress pool", PoolOut, READING),
        Operation("PATCH", one, change, "changePool", "Change the addresses of an egress pool", PoolOut, CHANGE),
        Operation("DELETE", one, remove, "removePool", "Remove an egress pool", None, REMOVING),
    )
    add_operations(router, "directory", operations)


def _out(name: str, value: Pool) -> dict[str, Any]:
    return {
        "name": name,
        "addresses": [
            {"ip": one.ip, "helo": one.helo, "warm_up_from": _day(one.warm_up_from)} for one in value.addresses
        ],
        "warm_up_plan": list(value.warm_up_plan),
        "overflow_pool": value.overflow_pool or None,
    }


def _day(at: int | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at / 1000, UTC).date().isoformat()


def _addresses(given: PoolNew | PoolChange, old: tuple[PoolAddress, ...] = ()) -> tuple[PoolAddress, ...]:
    """The addresses as they were given; one that was there before keeps the day on which its warm-up began."""
    known = {address.ip: address for address in old}
    found = [pool_address(f"{one.ip}={one.helo}" if one.helo else one.ip) for one in given.addresses]
    return tuple(replace(known[one.ip], helo=one.helo) if one.ip in known else one for one in found)


async def create(request: Request, principal: Manager) -> Response:
    """Make an egress pool; sender domains may name it from then on."""
    require_operator(principal)
    given = await json_body(PoolNew)(request)
    value = Pool(addresses=_addresses(given))
    await registrar_of(request).add_pool(given.name, value, principal.key_id)
    return json_response(_out(given.name, value), 201, Location=f"{PATH}/{given.name}")


async def list_all(request: Request, principal: Manager, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """All egress pools."""
    require_operator(principal)
    page, following = page_of(own_things(request, principal, _KIND, Pool, None), limit, cursor)
    return page_response(request, [_out(name, value) for name, _, value in page], following)


async def show(request: Request, principal: Manager, name: str) -> Response:
    """One egress pool."""
    require_operator(principal)
    return json_response(_out(name, own_thing(request, principal, _KIND, name, Pool)[1]))


async def change(request: Request, principal: Manager, name: str) -> Response:
    """Give an egress pool other addresses; couriers use them for their next connections."""
    require_operator(principal)
    _, old = own_thing(request, principal, _KIND, name, Pool)
    given = await json_body(PoolChange)(request)
    value = replace(old, addresses=_addresses(given, old.addresses))
    await registrar_of(request).change(OPERATOR, name, value, principal.key_id)
    return json_response(_out(name, value))


async def remove(request: Request, principal: Manager, name: str) -> Response:
    """Remove an egress pool that no sender domain names any more."""
    require_operator(principal)
    own_thing(request, principal, _KIND, name, Pool)
    await registrar_of(request).remove(_KIND, name, OPERATOR, principal.key_id)
    return Response(status_code=204)
