"""Alive, ready and why not, and the numbers for Prometheus."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from depesche.api.rest.deps import tools_of
from depesche.api.rest.openapi import problems
from depesche.api.rest.problems import json_response
from depesche.api.rest.tools import Probe
from depesche.schemas.errors import DepescheError, NotFoundError

PROBE_SECONDS = 2.0
OPTIONAL = frozenset({"store"})
"""Parts whose outage does not stop mail: the door stays ready and says so."""
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def add(router: APIRouter) -> None:
    """Add the routes of this noun."""
    router.add_api_route("/livez", livez, methods=["GET"], operation_id="isAlive", tags=["health"])
    router.add_api_route(
        "/readyz",
        readyz,
        methods=["GET"],
        operation_id="isReady",
        tags=["health"],
        responses={503: {"description": "Not ready; the checks say why."}},
    )
    router.add_api_route(
        "/metrics",
        metrics,
        methods=["GET"],
        operation_id="getMetrics",
        tags=["health"],
        response_class=Response,
        responses=problems(NotFoundError),
    )


async def livez() -> Response:
    """Whether this process answers at all."""
    return json_response({"alive": True})


async def readyz(request: Request) -> Response:
    """Whether this door would take a mail now, and if not, why."""
    tools = tools_of(request)
    names = list(tools.probes)
    reasons = await asyncio.gather(*(_reason(tools.probes[name]) for name in names))
    checks: dict[str, Any] = {
        "log": _check(None if tools.hallway.ready else "the log cannot be written just now", True),
        **{name: _check(reason, name not in OPTIONAL) for name, reason in zip(names, reasons, strict=True)},
    }
    ready = all(check["ok"] for check in checks.values() if check["required"])
    return json_response({"ready": ready, "checks": checks}, 200 if ready else 503)


def _check(reason: str | None, required: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"ok": reason is None, "required": required}
    return found if reason is None else {**found, "reason": reason}


async def _reason(probe: Probe) -> str | None:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await probe()
    except TimeoutError:
        return "no answer in time"
    except DepescheError as fault:
        return fault.public
    return None


async def metrics(request: Request) -> Response:
    """Numbers for Prometheus, for this machine only: their labels tell providers and volumes."""
    address = request.client.host if request.client else ""
    forwarded = any(name in request.headers for name in _FORWARDED)
    if forwarded or not _is_loopback(address):
        raise NotFoundError("metrics from outside")
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
