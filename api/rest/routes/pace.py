"""The pace in force at each provider, for operators of the service."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from depesche.analytics.pace.rows import row_of
from depesche.api.rest.deps import tools_of
from depesche.api.rest.manage import require_operator
from depesche.api.rest.models_pace import PaceList
from depesche.api.rest.openapi import problems
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import json_response
from depesche.api.rest.reading import Reader
from depesche.schemas.errors import ForbiddenError, InvalidRequestError, LogUnavailableError, UnauthorizedError
from depesche.schemas.service import now_ms

_ANSWERS = {"responses": problems(UnauthorizedError, ForbiddenError, InvalidRequestError, LogUnavailableError)}


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    operations = (
        Operation("GET", "/v1/pace", list_pace, "listPace", "Pace per provider", PaceList, _ANSWERS, ("all",)),
    )
    add_operations(router, "search", operations)


async def list_pace(request: Request, principal: Reader, all: bool = False) -> Response:
    """How fast each pool may send to each provider now, since when and why. Only for an operator of the service.

    What is not listed is sent as fast as the shaping file allows; `all` lists also what is free again.
    """
    require_operator(principal)
    book = tools_of(request).pace
    if book is None:
        raise LogUnavailableError("no pace book", public="The pace is not known here just now")
    now = now_ms()
    rows = [row_of(state, now) for state in book.states()]
    return json_response({"data": [row for row in rows if all or row["state"] != "free"]})
