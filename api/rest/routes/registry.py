"""The schema registry, read-only, in the shape of Confluent's REST interface: so that any Kafka client can decode the log.

The schema files in this repository are the truth; nothing can be registered here. Schemas hold no data, so no key is asked
for. A real registry is another address in the client's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from depesche.analytics.log.client import full_name
from depesche.api.rest.deps import tools_of
from depesche.schemas.codec import schema_ids, self_contained
from depesche.schemas.topics import ALL

PREFIX = "/registry"
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_VERSION = 1
"""A schema that changes gets a new id and, with it, a version; so far each has one."""
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "As Confluent's registry answers.", "content": {MEDIA_TYPE: {"schema": {}}}},
    404: {
        "description": "There is no such subject, version or schema.",
        "content": {MEDIA_TYPE: {"example": {"error_code": 40401, "message": "Subject 'x' not found."}}},
    },
}
_UNKNOWN_SUBJECT, _UNKNOWN_VERSION, _UNKNOWN_SCHEMA, _READ_ONLY = 40401, 40402, 40403, 42205


def add(router: APIRouter) -> None:
    """Add the operations of this noun. Any query parameter is taken, because clients add their own."""
    version = "/subjects/{subject}/versions/{version}"
    schema = "/schemas/ids/{schema_id}"
    for path, function, name, summary in (
        ("/subjects", subjects, "listSubjects", "List subjects"),
        ("/subjects/{subject}/versions", versions, "listVersions", "List a subject's versions"),
        (version, version_of, "getVersion", "Show a version"),
        (f"{version}/schema", schema_of, "getVersionSchema", "Show a version's schema"),
        (schema, by_id, "getSchema", "Show the schema with an id"),
        (f"{schema}/schema", text_by_id, "getSchemaText", "Show the bare schema with an id"),
        (f"{schema}/versions", versions_by_id, "listSchemaVersions", "List what uses a schema"),
        ("/schemas/types", types, "listSchemaTypes", "List schema types"),
        ("/config", config, "getCompatibility", "Show the compatibility"),
        ("/config/{subject}", config_of, "getSubjectCompatibility", "Show a subject's compatibility"),
        ("/mode", mode, "getMode", "Show the mode"),
        ("/mode/{subject}", mode_of, "getSubjectMode", "Show a subject's mode"),
    ):
        router.add_api_route(
            PREFIX + path,
            function,
            methods=["GET"],
            operation_id=name,
            summary=summary,
            tags=["registry"],
            responses=_ANSWERS,
            response_class=Response,
        )
    router.add_api_route(PREFIX + "/subjects/{subject}/versions", read_only, methods=["POST"], include_in_schema=False)


def _json(content: Any, status: int = 200) -> Response:
    return Response(
        orjson.dumps(content), status, media_type=MEDIA_TYPE, headers={"Cache-Control": "public, max-age=60"}
    )


def _error(code: int, message: str) -> Response:
    return _json({"error_code": code, "message": message}, code // 100)


def _subjects(request: Request) -> Mapping[str, str]:
    """Subject to record name: one subject for each topic whose values are ours."""
    kafka = tools_of(request).settings.kafka
    return {f"{full_name(kafka, topic.name)}-value": topic.record for topic in ALL if topic.record}


def _text(record: str) -> str:
    return orjson.dumps(self_contained(record)).decode()


async def subjects(request: Request) -> Response:
    """All subjects: the topics' names with `-value`."""
    return _json(sorted(_subjects(request)))


async def versions(request: Request, subject: str) -> Response:
    """The versions of a subject."""
    if subject not in _subjects(request):
        return _error(_UNKNOWN_SUBJECT, f"Subject '{subject[:249]}' not found.")
    return _json([_VERSION])


async def version_of(request: Request, subject: str, version: str) -> Response:
    """One version of a subject, by number or as `latest`."""
    found = _found(request, subject, version)
    if isinstance(found, Response):
        return found
    return _json({"subject": subject, "version": _VERSION, "id": schema_ids()[found], "schema": _text(found)})


async def schema_of(request: Request, subject: str, version: str) -> Response:
    """The bare schema of one version."""
    found = _found(request, subject, version)
    return found if isinstance(found, Response) else _json(self_contained(found))


def _found(request: Request, subject: str, version: str) -> str | Response:
    record = _subjects(request).get(subject)
    if record is None:
        return _error(_UNKNOWN_SUBJECT, f"Subject '{subject[:249]}' not found.")
    if version not in ("latest", "-1", str(_VERSION)):
        return _error(_UNKNOWN_VERSION, f"Version {version[:20]} not found.")
    return record


def _record(schema_id: str) -> str | None:
    return next((name for name, number in schema_ids().items() if str(number) == schema_id), None)


async def by_id(schema_id: str) -> Response:
    """The schema with this id, which stands in bytes 1 to 4 of every record's value."""
    record = _record(schema_id)
    return _error(_UNKNOWN_SCHEMA, "Schema not found") if record is None else _json({"schema": _text(record)})


async def text_by_id(schema_id: str) -> Response:
    """The bare schema with this id."""
    record = _record(schema_id)
    return _error(_UNKNOWN_SCHEMA, "Schema not found") if record is None else _json(self_contained(record))


async def versions_by_id(request: Request, schema_id: str) -> Response:
    """The subjects and versions that use this id."""
    record = _record(schema_id)
    if record is None:
        return _error(_UNKNOWN_SCHEMA, "Schema not found")
    users = sorted(subject for subject, name in _subjects(request).items() if name == record)
    return _json([{"subject": subject, "version": _VERSION} for subject in users])


async def types() -> Response:
    """The kinds of schema."""
    return _json(["AVRO"])


async def config() -> Response:
    """The compatibility that a changed schema must have."""
    return _json({"compatibilityLevel": "BACKWARD_TRANSITIVE"})


async def config_of(subject: str) -> Response:
    """The same for every subject."""
    del subject
    return await config()


async def mode() -> Response:
    """This registry is read-only."""
    return _json({"mode": "READONLY"})


async def mode_of(subject: str) -> Response:
    """The same for every subject."""
    del subject
    return await mode()


async def read_only() -> Response:
    """Registering is not possible."""
    return _error(_READ_ONLY, "Subject is in read-only mode: schemas come with the code")
