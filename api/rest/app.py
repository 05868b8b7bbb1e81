"""The REST application, put together by a function: the routes in reading order, one wall around them."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from depesche.analytics.log.meters import count
from depesche.api.rest.bodies import BodyBudget, pointer
from depesche.api.rest.guard import Guard
from depesche.api.rest.openapi import document
from depesche.api.rest.problems import (
    Fault,
    InvalidFieldsError,
    MalformedRequestError,
    MethodNotAllowedError,
    problem_response,
)
from depesche.api.rest.recent import Recent
from depesche.api.rest.retarus_errors import of_error, rejected
from depesche.api.rest.routes import (
    accounts,
    alerts,
    controls,
    customers,
    domains,
    emails,
    health,
    jobs,
    keys,
    pace,
    pages,
    pools,
    registry,
    search,
    suppressions,
)
from depesche.api.rest.tools import Tools
from depesche.schemas.errors import DepescheError, InvalidRequestError, NotFoundError

DESCRIPTION = """Depesche takes transactional email and tells the story of each one.

A `202` means that the mail is kept: its content is on disk and its job is acknowledged by the log. Everything after that is
a fact under `/v1/emails/{id}/events`.

Errors are problem documents (RFC 9457); decide by `code`. Times are RFC 3339 in UTC with milliseconds.
"""
TAGS = [
    {"name": "emails", "description": "Send an email, and see what became of it."},
    {"name": "search", "description": "Find emails, and see how delivery goes."},
    {"name": "jobs", "description": "The Retarus-compatible job interface, with HTTP Basic."},
    {"name": "suppressions", "description": "Who gets no mail and why; add and lift by hand."},
    {"name": "directory", "description": "Customers, accounts, sender domains and keys. Needs a key that may manage."},
    {"name": "controls", "description": "What waits, and an operator's orders about it."},
    {"name": "registry", "description": "The log's Avro schemas, read-only, in the shape of Confluent's registry."},
    {"name": "health", "description": "Alive, ready, and the numbers."},
]
BODIES_AT_ONCE = 8
"""So many bodies of the largest size may be in memory at once."""


def build_app(tools: Tools) -> FastAPI:
    """The application over ``tools``; any number of them can live in one process."""
    app = FastAPI(
        title="Depesche",
        version=version("depesche"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    equip(app, tools)
    nouns = (
        emails,
        search,
        alerts,
        pace,
        jobs,
        suppressions,
        customers,
        accounts,
        domains,
        pools,
        keys,
        controls,
        registry,
        health,
        pages,
    )
    for noun in nouns:
        # Into the application's own router: FastAPI works out an included one's routes a second time, at the first request.
        noun.add(app.router)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    app.add_exception_handler(DepescheError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_parameters)
    app.add_middleware(
        Guard,
        answers={
            "/": lambda trace_id: problem_response(DepescheError(), trace_id, _tools(app).settings.rest_url),
            jobs.JOBS_PATH: lambda _: rejected(of_error(DepescheError())),
        },
    )
    return app


def equip(app: FastAPI, tools: Tools) -> None:
    """Give the application its tools, in place of any it had, and nothing of what it remembered."""
    app.state.tools = tools
    app.state.budget = BodyBudget(BODIES_AT_ONCE * tools.settings.rest.max_body)
    app.state.recent = Recent()
    app.state.inspections = asyncio.Semaphore(controls.AT_ONCE)
    app.servers = [{"url": tools.settings.rest_url}]
    app.openapi_schema = None


def _tools(app: FastAPI) -> Tools:
    tools: Tools = app.state.tools
    return tools


def _answer(request: Request, fault: DepescheError) -> Response:
    return problem_response(fault, request.state.trace_id, _tools(request.app).settings.rest_url)


async def _on_error(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, DepescheError)
    if request.method == "POST" and request.url.path == emails.PATH:
        count("mail_submissions_refused_total", interface="rest", code=fault.code)
    return _answer(request, fault)


async def _on_http(request: Request, fault: Exception) -> Response:
    """What the router says: nothing there, or not with this method."""
    assert isinstance(fault, HTTPException)
    kinds: dict[int, type[DepescheError]] = {404: NotFoundError, 405: MethodNotAllowedError, 400: MalformedRequestError}
    answer = _answer(request, kinds.get(fault.status_code, DepescheError)())
    answer.headers.update(fault.headers or {})
    return answer


async def _on_parameters(request: Request, fault: Exception) -> Response:
    """Faults in the path, the query or the header fields."""
    assert isinstance(fault, RequestValidationError)
    faults = [
        Fault(pointer(detail["loc"][1:]).lstrip("/"), InvalidRequestError.code, detail["msg"])
        for detail in fault.errors()
    ]
    return _answer(request, InvalidFieldsError(faults[:20]))
