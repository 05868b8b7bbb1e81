"""Alerts: what a person should know, from when it begins to when it ends."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from depesche.analytics.queries.alerts import to_json, visible
from depesche.analytics.queries.values import moment
from depesche.api.rest.deps import tools_of
from depesche.api.rest.openapi import problems
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import json_response
from depesche.api.rest.reading import Reader, scope_of
from depesche.schemas.errors import ForbiddenError, InvalidRequestError, LogUnavailableError, UnauthorizedError
from depesche.schemas.service import now_ms

_ANSWERS = {"responses": problems(UnauthorizedError, ForbiddenError, InvalidRequestError, LogUnavailableError)}


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    operations = (
        Operation("GET", "/v1/alerts", alerts, "listAlerts", "Alerts", AlertList, _ANSWERS, ("since", "open")),
    )
    add_operations(router, "search", operations)


class AlertOut(BaseModel):
    """One step of an alert: that it begins, or that it ends."""

    alert_id: str = Field(description="Said twice, the same id.")
    kind: str = Field(description="hard_bounce_rate, complaint_rate, listed, list_unusable or suspended.")
    severity: str = Field(description="warn or high; each begins and ends by itself.")
    state: Literal["raised", "cleared"]
    subject: str = Field(description="customer/provider, address/list, list, or pool/provider.")
    tenant: str = Field(description="Customer it concerns; empty: the operator.")
    at: datetime
    value: float | None = Field(description="What was measured, a share between 0 and 1.")
    limit: float | None = Field(description="The limit that it passed.")
    explanation: str = Field(description="A sentence for people.")
    causes: list[str] = Field(description="Ids of the latest events that led to it.")


class AlertList(BaseModel):
    """Alerts, the newest first."""

    data: list[AlertOut]


async def alerts(
    request: Request,
    principal: Reader,
    since: Annotated[
        str, Query(max_length=40, description="`7d`, `today`, `2026-11-23`; open ones are older too.")
    ] = "7d",
    open: Annotated[bool, Query(description="Only those that have begun and not ended.")] = False,
) -> Response:
    """Rates that passed their limit, for the customer's own mail; for the operator also blocklists. Kept for 180 days."""
    book = tools_of(request).alerts
    if book is None:
        raise LogUnavailableError("this door reads no alerts")
    try:
        begin = moment(since, now_ms())
    except ValueError as fault:
        raise InvalidRequestError("time", public=str(fault), pointer="since") from fault
    found = visible(await book(), scope_of(principal), since=begin, only_open=open)
    return json_response({"data": [to_json(alert) for alert in found]})
