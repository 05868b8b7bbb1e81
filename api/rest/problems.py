"""Errors as strangers see them: problem documents (RFC 9457) made from the error tree, never from an exception's own text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from depesche.schemas.errors import DepescheError, InvalidRequestError, Outage, OverloadError, Refusal

PROBLEM_JSON = "application/problem+json"
_OUR_ROOMS = ("depesche.schemas.", "depesche.analytics.queries.", "depesche.api.rest.")
RETRY_AFTER_SECONDS = 5
"""What a caller is told to wait in an outage; the log's probe notices its end within a second."""


class MalformedRequestError(Refusal):
    """The body is not JSON, or not UTF-8."""

    code = "malformed_request"
    status = 400
    title = "The request body is not JSON"


class RequestTimeoutError(Refusal):
    """The body did not arrive in time."""

    code = "request_timeout"
    status = 408
    retryable = True
    title = "The request body did not arrive in time"


class MethodNotAllowedError(Refusal):
    """There is something here, but it does not know this method."""

    code = "method_not_allowed"
    status = 405
    title = "This address does not know this method"


class UnsupportedMediaTypeError(Refusal):
    """The body's type or encoding is not taken."""

    code = "unsupported_media_type"
    status = 415
    title = "The body must be application/json in UTF-8, not compressed"


@dataclass(frozen=True, slots=True)
class Fault:
    """One value that is not as it must be.

    Attributes:
        pointer: JSON pointer into the body (RFC 6901), or the name of a parameter.
        code: error code of this one value.
        message: a sentence.
    """

    pointer: str
    code: str
    message: str


class InvalidFieldsError(InvalidRequestError):
    """Several values of one request are not as they must be."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        first = faults[0]
        super().__init__(f"{len(faults)} faults", public=first.message, pointer=first.pointer)
        self.faults = tuple(faults)


def all_errors() -> Iterator[type[DepescheError]]:
    """Every error that a REST caller can meet, once per code, by status and code; the error pages list them."""
    waiting: list[type[DepescheError]] = [DepescheError]
    found: list[type[DepescheError]] = []
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        # A class without a code of its own is met under the code of the one it refines.
        if "code" in vars(kind) and kind.__module__.startswith(_OUR_ROOMS):
            found.append(kind)
    yield from sorted(found, key=lambda kind: (kind.status, kind.code))


def problem(fault: DepescheError, trace_id: str, base_url: str) -> dict[str, Any]:
    """The problem document of an error.

    Args:
        fault: what happened.
        trace_id: names this request in our logs.
        base_url: how the world reaches this door, without a slash at its end.
    """
    found: dict[str, Any] = {
        "type": f"{base_url}/errors/{fault.code}",
        "title": fault.title,
        "status": fault.status,
        "detail": fault.public,
        "code": fault.code,
        "retryable": fault.retryable,
        "trace_id": trace_id,
    }
    if isinstance(fault, InvalidFieldsError):
        found["errors"] = [{"pointer": f.pointer, "code": f.code, "message": f.message} for f in fault.faults]
    elif fault.pointer is not None:
        found["errors"] = [{"pointer": fault.pointer, "code": fault.code, "message": fault.public}]
    return found


def error_headers(fault: DepescheError, challenge: str = 'Bearer realm="depesche"') -> dict[str, str]:
    """Header fields that belong to an error: the challenge of a 401 (RFC 9110 11.6.1), the wait of an outage (10.2.3)."""
    if fault.status == 401:
        return {"WWW-Authenticate": challenge}
    if isinstance(fault, OverloadError):
        return {"Retry-After": "1"}
    if isinstance(fault, Outage):
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return {}


def problem_response(fault: DepescheError, trace_id: str, base_url: str) -> Response:
    """The answer for an error."""
    return Response(
        orjson.dumps(problem(fault, trace_id, base_url)),
        fault.status,
        media_type=PROBLEM_JSON,
        headers=error_headers(fault),
    )


def json_response(content: Mapping[str, Any] | Sequence[Any], status: int = 200, **headers: str) -> Response:
    """A JSON answer; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(orjson.dumps(content), status, media_type="application/json", headers=named)
