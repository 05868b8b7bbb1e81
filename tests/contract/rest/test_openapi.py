"""The OpenAPI document is complete and true: its examples are taken, and generated requests never meet a 5xx."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from depesche.analytics.store.client import StoreClient

from .conftest import World, a_world

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_the_document_is_whole(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    assert {ref.removeprefix("#/components/schemas/") for ref in references(document)} <= set(schemas)
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in document["tags"]}
    for path, method, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"], path
        named = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}
        assert set(re.findall(r"\{(\w+)\}", path)) == named, path
        assert len(operation["tags"]) == 1
        assert set(operation["tags"]) <= tags
        if path.startswith(("/v1/", "/rest/")):
            assert operation["security"], path
            assert "401" in operation["responses"], (path, method)


async def test_every_request_and_every_error_has_an_example_that_fits_its_schema(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()
    checked = 0
    for path, _, operation in operations(document):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [response.get("content", {}) for response in operation["responses"].values()]
        for kind, content in [pair for one in contents for pair in one.items()]:
            if kind == "application/problem+json" or content is contents[0].get(kind):
                assert content["examples"], path
            for example in content.get("examples", {}).values():
                schema = {**content["schema"], "components": document["components"]}
                jsonschema_rs.validator_for(schema).validate(example["value"])
                checked += 1
    assert checked > 100


async def test_the_examples_of_mails_are_taken(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()
    for path, headers in (("/v1/emails", world.bearer), ("/rest/v2/jobs", basic(world))):
        examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for example in examples.values():
            answer = await world.client.post(path, json=example["value"], headers=headers)
            assert answer.status_code in (200, 202), answer.text


def basic(world: World) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(":".join(world.login).encode()).decode()}


def attempts(operation: schemathesis.APIOperation, mode: schemathesis.GenerationMode, headers: dict[str, str]) -> None:
    """Six generated requests to one operation, each answer held against the description."""

    @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def attempt(case: schemathesis.Case) -> None:
        case.validate_response(case.call(headers=headers), checks=CHECKS)

    attempt()


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_no_generated_request_meets_a_5xx_or_an_answer_that_is_not_described(
    tmp_path: Path, mode: schemathesis.GenerationMode, store: StoreClient
) -> None:
    world = asyncio.run(a_world(tmp_path, store=store))
    described = schemathesis.openapi.from_dict(world.app.openapi())
    described.app = world.app
    tried = 0
    for found in described.get_all_operations():
        operation = found.ok()
        if operation.path.startswith("/rest/"):
            headers = basic(world)
        else:
            headers = world.bearer if operation.path.startswith("/v1/emails") else world.as_operator
        try:
            attempts(operation, mode, headers)
            tried += 1
        except Unsatisfiable:
            # Without body and with a path of any text there is nothing that could be wrong.
            assert mode is schemathesis.GenerationMode.NEGATIVE
    assert tried > 12
