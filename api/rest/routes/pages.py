"""The few pages a browser finds here: what is where, and what each error means. No script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from fastapi import APIRouter, Request
from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse, RedirectResponse, Response

from depesche.api.rest.deps import tools_of
from depesche.api.rest.error_texts import ERROR_TEXTS
from depesche.api.rest.problems import all_errors
from depesche.api.rest.routes.registry import PREFIX as REGISTRY
from depesche.schemas.errors import NotFoundError

PLACES: Sequence[tuple[str, str]] = (
    ("/openapi.json", "The OpenAPI 3.1 document of everything beneath"),
    ("/errors", "Every error with its meaning, in English and German"),
    ("/readyz", "Whether this door would take a mail now, and if not, why"),
    ("/livez", "Whether this process answers at all"),
    ("/metrics", "Numbers for Prometheus, for this machine only"),
    (f"{REGISTRY}/subjects", "The log's Avro schemas, in the shape of Confluent's registry"),
)
_DAY = "public, max-age=86400"


def add(router: APIRouter) -> None:
    """Add the pages; they are no part of the API's description."""
    for path, function in (
        ("/", root),
        ("/help", help_page),
        ("/errors", errors_page),
        ("/errors/{code}", error_page),
        ("/style.css", style),
        ("/favicon.svg", favicon),
        ("/favicon.ico", favicon),
    ):
        router.add_api_route(path, function, methods=["GET", "HEAD"], include_in_schema=False)


@cache
def _templates() -> Environment:
    return Environment(loader=PackageLoader("depesche.api.rest", "pages"), autoescape=True)


def _page(request: Request, name: str, **values: Any) -> HTMLResponse:
    return HTMLResponse(_templates().get_template(name).render(version=request.app.version, **values))


def _file(name: str, media_type: str) -> Response:
    content = resources.files("depesche.api.rest.pages").joinpath(name).read_bytes()
    return Response(content, media_type=media_type, headers={"Cache-Control": _DAY})


async def root() -> Response:
    """The portal will be here; until then the help page."""
    return RedirectResponse("/help", 307)


async def help_page(request: Request) -> Response:
    """What is where."""
    base = tools_of(request).settings.rest_url
    return _page(request, "help.html", base=base, places=PLACES, groups=_groups(request))


def _groups(request: Request) -> list[tuple[str, str, list[dict[str, str]]]]:
    document = request.app.openapi()
    found: dict[str, list[dict[str, str]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            line = {"method": method.upper(), "path": path, "summary": operation["summary"]}
            found[operation["tags"][0]].append(line)
    about = {tag["name"]: tag["description"] for tag in document["tags"]}
    return [(name, about[name], lines) for name, lines in found.items() if lines]


async def errors_page(request: Request) -> Response:
    """All errors."""
    return _page(request, "errors.html", errors=list(all_errors()))


async def error_page(request: Request, code: str) -> Response:
    """What one error means; the ``type`` of a problem document leads here."""
    error = next((kind for kind in all_errors() if kind.code == code), None)
    if error is None:
        raise NotFoundError(f"no error {code[:80]}", public="There is no such error")
    english, german = ERROR_TEXTS[code]
    return _page(request, "error.html", error=error, english=english, german=german, reply=error.reply)


async def style() -> Response:
    """The pages' style."""
    return _file("style.css", "text/css")


async def favicon() -> Response:
    """The sign of the house."""
    return _file("favicon.svg", "image/svg+xml")
