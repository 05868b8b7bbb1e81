"""Pages by keyset: a cursor says after which thing the next page begins, so that a page costs the same however deep it is."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import Query, Request
from starlette.responses import Response

from depesche.api.rest.problems import json_response
from depesche.schemas.errors import InvalidRequestError

MAX_PAGE = 200
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Things per page.")]
Cursor = Annotated[
    str | None, Query(max_length=500, description="`next_cursor` of the page before; nothing: from the start.")
]
T = TypeVar("T")


def to_cursor(key: str) -> str:
    """The opaque form of a key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def from_cursor(cursor: str) -> str:
    """The key in a cursor.

    Raises:
        InvalidRequestError: it is none of ours.
    """
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as fault:
        raise InvalidRequestError("cursor", public="This cursor is not one of ours", pointer="cursor") from fault


def page_response(request: Request, data: Sequence[Any], next_cursor: str | None) -> Response:
    """A page."""
    content = {"data": data, "next_cursor": next_cursor, "has_more": next_cursor is not None}
    return next_link(request, json_response(content), next_cursor)


def next_link(request: Request, answer: Response, next_cursor: str | None) -> Response:
    """``answer`` with ``Link: rel="next"`` (RFC 8288), which leads to the next page if there is one."""
    if next_cursor is not None:
        query = urlencode({**dict(request.query_params), "cursor": next_cursor})
        answer.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return answer


def page_of(things: Sequence[tuple[str, T]], limit: int, cursor: str | None) -> tuple[list[T], str | None]:
    """The page of a list sorted by key, and the cursor of the next one."""
    after = from_cursor(cursor) if cursor is not None else ""
    rest = [(key, thing) for key, thing in things if key > after][: limit + 1]
    more = len(rest) > limit
    page = rest[:limit]
    return [thing for _, thing in page], to_cursor(page[-1][0]) if more else None
