"""Search and rates: find mails by whatever is known of them, and see how delivery goes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from depesche.analytics.queries.grammar import MAX_LENGTH, parse
from depesche.analytics.queries.rates import Rates
from depesche.analytics.queries.results import rfc3339
from depesche.analytics.queries.search import Search
from depesche.analytics.queries.values import end_of, moment
from depesche.api.rest.cursors import Cursor, Limit, next_link
from depesche.api.rest.models_search import OutcomeCounts, RateList, UnitPage
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.problems import json_response
from depesche.api.rest.reading import ASKING, Reader, scope_of, store_of
from depesche.schemas.errors import InvalidRequestError
from depesche.schemas.rates import WINDOWS, By, rated
from depesche.schemas.service import now_ms

_DAY_MS = 86_400_000
_LONGEST_MS = {"minute": 2 * _DAY_MS, "5m": 2 * _DAY_MS}
_KEPT_MS = 46 * _DAY_MS
Search_ = Annotated[
    str,
    Query(
        max_length=MAX_LENGTH,
        description="Such as `to:ada@example.org status:bounced since:1h`; empty: the newest mails.",
        examples=["to:ada@example.org since:1h", "status:bounced code:5xx", 'subject:"your parcel" from:shop.example'],
    ),
]
When = Annotated[str, Query(max_length=40, description="`1h`, `2d`, `today`, `2026-11-23` or `2026-11-23T08:00Z`.")]


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    operations = (
        Operation("GET", "/v1/search", search, "searchEmails", "Search", UnitPage, ASKING, ("q", "limit", "cursor")),
        Operation(
            "GET", "/v1/rates", rates, "listRates", "Rates", RateList, ASKING, ("since", "until", "window", "by")
        ),
        Operation(
            "GET",
            "/v1/rates/outcomes",
            outcomes,
            "countOutcomes",
            "Counts of each outcome",
            OutcomeCounts,
            ASKING,
            ("since", "until", "step"),
        ),
    )
    add_operations(router, "search", operations)


async def search(
    request: Request, principal: Reader, q: Search_ = "", limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """The newest units that match, page by page. Search is kept for 45 days.

    Fields: `to from subject id status code reason class provider host account campaign reference domain interface ip size
    since until between`. Terms side by side must all hold; `or` joins alternatives, `-` turns around, brackets group.
    """
    found = await Search(store_of(request)).find(scope_of(principal), parse(q, now_ms()), limit, cursor)
    return next_link(request, json_response(found.to_json()), found.next_cursor)


async def rates(
    request: Request,
    principal: Reader,
    since: When = "1d",
    until: When = "now",
    window: Literal["5m", "1h", "1d"] = "1h",
    by: By = "provider",
) -> Response:
    """How delivery goes, per window (UTC) and provider, customer or both.

    A bounce is `hard` only when it says that the address is dead; a mail that was delivered and came back later counts as a
    bounce too, and is told apart as `returned`.
    """
    begin, end = _period(since, until, window)
    counts = await Rates(store_of(request)).grains(scope_of(principal), begin, end, step_ms=WINDOWS[window])
    found = [
        {"start": rfc3339(one.start), "tenant": one.tenant, "provider": one.provider, **one.volume.to_json()}
        for one in rated(counts, WINDOWS[window], by)
    ]
    content: dict[str, Any] = {"since": rfc3339(begin), "until": rfc3339(end), "window": window, "by": by}
    return json_response({**content, "data": found})


async def outcomes(
    request: Request,
    principal: Reader,
    since: When = "1h",
    until: When = "now",
    step: Literal["minute", "hour", "day"] = "minute",
) -> Response:
    """Outcomes per type and provider, counted by minute, hour or day (UTC)."""
    begin, end = _period(since, until, step)
    found = await Rates(store_of(request)).of(scope_of(principal), begin, end, step=step)
    content: dict[str, Any] = {"since": rfc3339(begin), "until": rfc3339(end), "step": step}
    return json_response({**content, "data": [rate.to_json() for rate in found]})


def _period(since: str, until: str, step: str) -> tuple[int, int]:
    now = now_ms()
    begin, end = _moment("since", since, now), _moment("until", until, now)
    longest = _LONGEST_MS.get(step, _KEPT_MS)
    if not 0 < end - begin <= longest:
        raise InvalidRequestError(
            "period", public=f"By {step} a period is up to {longest // _DAY_MS} days", pointer="since"
        )
    return begin, end


def _moment(name: str, text: str, now: int) -> int:
    try:
        return moment(text, now) if name == "since" else end_of(text, now)
    except ValueError as fault:
        # These messages are our own sentences about what a time looks like.
        raise InvalidRequestError("time", public=str(fault), pointer=name) from fault
