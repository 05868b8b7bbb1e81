"""The operator's hand: orders about mail that is under way, and what waits."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from depesche.analytics.backlog.backlog import Backlog
from depesche.analytics.controls.pen import ControlPen
from depesche.analytics.controls.shown import row_of
from depesche.analytics.directory.pools import check_known
from depesche.api.rest.bodies import json_body
from depesche.api.rest.deps import tools_of
from depesche.api.rest.manage import Manager, require_operator, runs_the_service, writing
from depesche.api.rest.models_controls import ByWord, ControlList, ControlNew, ControlOut, QueueOut, ScopeIn
from depesche.api.rest.openapi import problems
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import json_response
from depesche.api.rest.reading import Reader
from depesche.schemas.errors import (
    ForbiddenError,
    InvalidRequestError,
    LogUnavailableError,
    OverloadError,
    UnauthorizedError,
)
from depesche.schemas.records import ControlAction, ControlScope
from depesche.schemas.service import now_ms
from depesche.schemas.values import domain_name

PATH = "/v1/controls"
NEW = writing(
    ControlNew,
    {
        "suspend": (
            "Send nothing to a provider for now",
            {"action": "suspend", "scope": {"provider": "gmail"}, "reason": "they ask us to wait"},
        ),
        "drop": ("Stop an account for good", {"action": "drop", "scope": {"account": "10001_local_7b1c"}}),
        "retry": ("Try now what waits for a domain", {"action": "retry", "scope": {"domain": "example.org"}}),
    },
)
LIFTING: dict[str, Any] = {"responses": NEW["responses"]}
COUNTING = {
    "responses": problems(UnauthorizedError, ForbiddenError, InvalidRequestError, OverloadError, LogUnavailableError)
}
QUEUE_QUERY = ("by", "customer", "account", "campaign", "provider", "domain", "sender_domain", "pool")
AT_ONCE = 2
"""So many inspections at a time; each reads the log and takes a while of the door's processor."""
Named = Annotated[str | None, Query(max_length=255)]


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    one, made = PATH + "/{control_id}", {**NEW, "status_code": 201}
    operations = (
        Operation("POST", PATH, give, "giveControl", "Give an order", ControlOut, made),
        Operation("GET", PATH, list_all, "listControls", "List orders", ControlList, COUNTING, ("ended",)),
        Operation("DELETE", one, lift, "liftControl", "Lift an order", ControlOut, LIFTING),
        Operation("GET", "/v1/queue", queue, "countQueue", "Count what waits", QueueOut, COUNTING, QUEUE_QUERY),
    )
    add_operations(router, "controls", operations)


def _pen(request: Request) -> ControlPen:
    pen = tools_of(request).pen
    if pen is None:
        raise LogUnavailableError("no pen", public="Orders cannot be given here just now")
    return pen


def _scope(given: ScopeIn) -> ControlScope:
    return ControlScope(
        tenant=given.customer,
        account=given.account,
        campaign_id=given.campaign,
        provider=given.provider.lower() if given.provider else None,
        recipient_domain=domain_name(given.domain) if given.domain else None,
        sender_domain=domain_name(given.sender_domain) if given.sender_domain else None,
        pool=given.pool,
    )


async def give(request: Request, principal: Manager) -> Response:
    """Give an order. It takes effect within seconds, wherever the mail is.

    Only for an operator of the service. A dropped unit ends as cancelled and cannot be brought back: ask `/v1/queue` with the
    same scope first, to see how many wait.
    """
    require_operator(principal)
    given = await json_body(ControlNew)(request)
    scope, pen = _scope(given.scope), _pen(request)
    if given.to_pool:
        check_known(tools_of(request).directory.book, given.to_pool, "/to_pool")
    order = await pen.give(
        ControlAction(given.action),
        scope,
        principal.key_id,
        everything=given.all,
        target_pool=given.to_pool or "",
        until=round(given.until.timestamp() * 1000) if given.until else None,
        reason=given.reason,
    )
    return json_response(row_of(order, now_ms()), 201, Location=f"{PATH}/{order.control.control_id}")


async def list_all(
    request: Request,
    principal: Manager,
    ended: Annotated[bool, Query(description="Also orders that hold no more, of the last 30 days.")] = False,
) -> Response:
    """The orders that hold, the newest first. Only for an operator of the service."""
    require_operator(principal)
    pen = _pen(request)
    return json_response({"data": [row_of(order, now_ms()) for order in (pen.all() if ended else pen.active())]})


async def lift(request: Request, principal: Manager, control_id: str) -> Response:
    """End an order. What it suspended is tried now; what it cancelled stays cancelled."""
    require_operator(principal)
    return json_response(row_of(await _pen(request).lift(control_id, principal.key_id), now_ms()))


async def queue(
    request: Request,
    principal: Reader,
    by: ByWord = "provider",
    customer: Named = None,
    account: Named = None,
    campaign: Named = None,
    provider: Named = None,
    domain: Named = None,
    sender_domain: Named = None,
    pool: Named = None,
) -> Response:
    """What waits, by provider or another trait: how much, how long, why, and when the first is tried next.

    A customer's key counts its own mail only.
    """
    if not runs_the_service(principal):
        if customer is not None and customer != principal.tenant:
            raise ForbiddenError("another customer", public="This key belongs to another customer")
        customer = principal.tenant
    scope = ControlScope(
        tenant=customer,
        account=account,
        campaign_id=campaign,
        provider=provider,
        recipient_domain=domain,
        sender_domain=sender_domain,
        pool=pool,
    )
    backlog, now = await _inspected(request, scope), now_ms()
    groups = [{"name": name, **group.to_json(now)} for name, group in backlog.groups(by)]
    return json_response({"by": by, "waiting": len(backlog), "data": groups})


async def _inspected(request: Request, scope: ControlScope) -> Backlog:
    look, room = tools_of(request).inspect, request.app.state.inspections
    if look is None:
        raise LogUnavailableError("no inspection", public="The queue cannot be counted here just now")
    if room.locked():
        raise OverloadError("inspections", public="The queue is being counted for others; ask again in a moment")
    async with room:
        return await look(scope)
