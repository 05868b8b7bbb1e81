"""The OpenAPI document: what FastAPI cannot see (bodies we read ourselves, problem documents) is put in by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from depesche.api.rest.models_native import Problem
from depesche.api.rest.problems import PROBLEM_JSON, problem
from depesche.schemas.errors import DepescheError

Examples = Mapping[str, tuple[str, Any]]
"""Name of an example to its summary and value."""
_EXAMPLE_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_EXAMPLE_URL = "https://mail.example"
_BODY = "x-body-schema"


def body_of(model: type[BaseModel], examples: Examples) -> dict[str, Any]:
    """What ``openapi_extra`` needs for a route that reads its own body."""
    named = {name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()}
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {"application/json": {"schema": schema, "examples": named}}
    return {"requestBody": {"required": True, "content": content}, _BODY: _schema(model)}


def problems(*kinds: type[DepescheError]) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route for the errors it can give, with an example of each."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = found.setdefault(
            kind.status,
            {
                "description": kind.title,
                "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        example = {"summary": kind.title, "value": problem(kind(), _EXAMPLE_TRACE, _EXAMPLE_URL)}
        entry["content"][PROBLEM_JSON]["examples"][kind.code] = example
    return found


def document(app: FastAPI) -> dict[str, Any]:
    """The document, made once and kept."""
    if app.openapi_schema is None:
        app.openapi_schema = _built(app)
    return app.openapi_schema


def _built(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
        servers=app.servers,
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(_schema(Problem))
    found["components"].setdefault("securitySchemes", {})["login"] = {
        "type": "http",
        "scheme": "basic",
        "description": "User (key id) and password of a technical account.",
    }
    for path in found["paths"].values():
        for operation in path.values():
            schemas.update(operation.pop(_BODY, {}))
            _only_problems(operation["responses"])
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    found["components"]["schemas"] = dict(sorted(schemas.items()))
    return found


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's schema by its name, with those of the models it refers to."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    named = {**schema.pop("$defs", {}), model.__name__: schema}
    for one in named.values():
        for described in one.get("properties", {}).values():
            # Made of the name by pydantic; it says nothing that the name does not say.
            described.pop("title", None)
    return named


def _only_problems(responses: dict[str, Any]) -> None:
    """Of an error only the problem document is true; FastAPI also offers the route's own type, or its own 422."""
    for status, response in list(responses.items()):
        content = response.get("content", {})
        if not status.startswith("2") and PROBLEM_JSON in content:
            content.pop("application/json", None)
        elif "HTTPValidationError" in str(content):
            del responses[status]
