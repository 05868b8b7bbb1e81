"""Operations as lines of a table, so that a noun's routes can be read at a glance and none forgets its name or its errors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.responses import Response

from depesche.api.rest.deps import only_query


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API.

    Attributes:
        method, path: how it is asked for.
        function: what answers.
        id: ``operationId``; a name for ever.
        summary: a few words.
        answer: model of a success, for the description; nothing: no JSON.
        more: what else FastAPI's ``add_api_route`` shall know, such as ``status_code``, ``responses``, ``openapi_extra``.
        query: parameters it takes; any other is refused.
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    function: Callable[..., Coroutine[Any, Any, Response]]
    id: str
    summary: str
    answer: type[BaseModel] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    query: tuple[str, ...] = ()


def add_operations(router: APIRouter, tag: str, operations: Sequence[Operation]) -> None:
    """Add the operations of one noun."""
    for operation in operations:
        router.add_api_route(
            operation.path,
            operation.function,
            methods=[operation.method],
            operation_id=operation.id,
            summary=operation.summary,
            tags=[tag],
            response_model=operation.answer,
            dependencies=[Depends(only_query(*operation.query))],
            **operation.more,
        )
