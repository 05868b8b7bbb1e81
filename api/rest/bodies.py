"""Request bodies: read under a limit while they stream in, parsed safely, and validated into a model with pointers to faults.

Bodies wait in memory, so the sum of all that are being read is limited as well: 50 slow uploads of 20 MB are a gigabyte.
"""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
import pydantic
from fastapi import Request
from pydantic_core import ErrorDetails

from depesche.api.rest.problems import (
    Fault,
    InvalidFieldsError,
    MalformedRequestError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)
from depesche.schemas.errors import InvalidRequestError, MissingValueError, OverloadError, TooLargeError, TooManyError

SMALL_BODY = 64 * 1024
"""Limit for everything that is not a mail."""
OFF_LOOP = 128 * 1024
"""Larger bodies are parsed and composed in a thread, so that they do not hold up the others."""
_SECONDS = 300
_MOST_FAULTS = 20
_CODES = {
    "missing": MissingValueError.code,
    "too_long": TooManyError.code,
    "too_short": MissingValueError.code,
    "string_too_short": MissingValueError.code,
    "extra_forbidden": "unknown_key",
}

M = TypeVar("M", bound=pydantic.BaseModel)
T = TypeVar("T")


class BodyBudget:
    """How many octets of bodies may be in memory at once."""

    def __init__(self, octets: int) -> None:
        self._left = octets

    def take(self, octets: int) -> None:
        """Reserve; raises OverloadError when nothing is left."""
        if octets > self._left:
            raise OverloadError("body budget", public="Too many large requests at once; please try again")
        self._left -= octets

    def give(self, octets: int) -> None:
        """Return what was reserved."""
        self._left += octets


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it came, and what its JSON says. ``read_at``: when its last octet was there (``time.perf_counter``)."""

    octets: int
    content: Any
    read_at: float


@asynccontextmanager
async def held_json(request: Request, limit: int, budget: BodyBudget) -> AsyncIterator[Body]:
    """The JSON in the body of ``request``; its octets count against ``budget`` until the caller is done with it.

    Raises:
        TooLargeError: above ``limit`` octets, known as soon as it is announced or passed.
        UnsupportedMediaTypeError: compressed.
        RequestTimeoutError: not there within five minutes.
        MalformedRequestError: not JSON; says where.
        OverloadError: too much in memory already.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("content-encoding")
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    try:
        await _fill(pieces, request, limit, budget)
        octets, read_at = sum(map(len, pieces)), time.perf_counter()
        yield Body(octets, await off_loop(octets, lambda: _parsed(b"".join(pieces))), read_at)
    finally:
        budget.give(sum(map(len, pieces)))


async def _fill(pieces: list[bytes], request: Request, limit: int, budget: BodyBudget) -> None:
    taken = 0
    try:
        async with asyncio.timeout(_SECONDS):
            async for piece in request.stream():
                taken += len(piece)
                if taken > limit:
                    raise _too_large(limit)
                budget.take(len(piece))
                pieces.append(piece)
    except TimeoutError as fault:
        raise RequestTimeoutError("body") from fault


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError("body", public=f"The request body is larger than {limit:,} bytes")


def _parsed(octets: bytes) -> Any:
    try:
        return orjson.loads(octets)
    except orjson.JSONDecodeError as fault:
        # The parser's message tells line and column and quotes nothing of the body.
        raise MalformedRequestError("json", public=f"The request body is not JSON: {fault}") from fault


async def off_loop(octets: int, work: Callable[[], T]) -> T:
    """Do ``work`` here if it concerns few ``octets``, else in a thread."""
    return await asyncio.to_thread(work) if octets > OFF_LOOP else work()


def require_json_type(request: Request) -> None:
    """Refuse a body that does not say that it is JSON; a browser's form cannot say so, which keeps other sites out.

    Raises:
        UnsupportedMediaTypeError: another type, or none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaTypeError(f"content type {kind[:80]!r}")


def validated(model: type[M], content: Any) -> M:
    """``content`` as a model.

    Raises:
        InvalidFieldsError: with a pointer to each fault, at most twenty.
        Refusal: what a validator of the model raised on purpose.
    """
    try:
        return model.model_validate(content)
    except pydantic.ValidationError as fault:
        faults = [_fault(model, detail) for detail in fault.errors(include_url=False, include_input=False)]
        raise InvalidFieldsError(faults[:_MOST_FAULTS]) from None


def _fault(model: type[pydantic.BaseModel], detail: ErrorDetails) -> Fault:
    location = detail["loc"]
    code = _CODES.get(detail["type"], InvalidRequestError.code)
    if detail["type"] == "extra_forbidden":
        return Fault(pointer(location), code, _unknown_key(model, location))
    if detail["type"] == "missing":
        return Fault(pointer(location), code, f"{location[-1]} is missing")
    message = detail["msg"].removeprefix("Value error, ")
    return Fault(pointer(location), code, message)


def _unknown_key(model: type[pydantic.BaseModel], location: Sequence[str | int]) -> str:
    known = [field.alias or name for name, field in model.model_fields.items()]
    close = difflib.get_close_matches(str(location[-1]), known, 1) if len(location) == 1 else []
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{str(location[-1])[:80]!r} is not a key of this request{hint}"


def pointer(location: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) from pydantic's location."""
    return "".join("/" + str(step)[:80].replace("~", "~0").replace("/", "~1") for step in location)


def json_body(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """A dependency that gives a small request's body as ``model``."""

    async def read(request: Request) -> M:
        require_json_type(request)
        async with held_json(request, SMALL_BODY, request.app.state.budget) as body:
            return validated(model, body.content)

    return read
