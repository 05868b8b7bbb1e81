"""Alive, ready and why not, and the numbers for Prometheus."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse, Response

from depesche.api.rest.deps import tools_of
from depesche.api.rest.openapi import problems
from depesche.api.rest.operations import Operation, add_operations
from depesche.api.rest.probes import usual_probes
from depesche.api.rest.problems import json_response
from depesche.api.rest.tools import Probe
from depesche.schemas.errors import DepescheError, NotFoundError

PROBE_SECONDS = 2.0
OPTIONAL = frozenset({"store"})
"""Parts whose outage does not stop mail: the door stays ready and says so."""
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def add(router: APIRouter) -> None:
    """Add the operations of this noun."""
    not_ready = {"responses": {503: {"model": Readiness, "description": "Not ready; the checks say why."}}}
    text: dict[str, Any] = {
        "response_class": PlainTextResponse,
        "responses": problems(NotFoundError),
    }
    operations = (
        Operation("GET", "/livez", livez, "isAlive", "Is it alive?", Liveness),
        Operation("GET", "/readyz", readyz, "isReady", "Is it ready, and if not, why?", Readiness, not_ready),
        Operation("GET", "/metrics", metrics, "getMetrics", "Numbers for Prometheus", None, text),
    )
    add_operations(router, "health", operations)


class Liveness(BaseModel):
    """This process answers."""

    alive: bool


class Check(BaseModel):
    """One part that was asked."""

    ok: bool
    required: bool = Field(description="Whether the door is not ready without it.")
    reason: str | None = None


class Readiness(BaseModel):
    """Whether a mail would be taken now."""

    ready: bool
    checks: dict[str, Check]


async def livez() -> Response:
    """Whether this process answers at all."""
    return json_response({"alive": True})


async def readyz(request: Request) -> Response:
    """Whether this door would take a mail now, and if not, why."""
    tools = tools_of(request)
    probes = {**usual_probes(tools), **tools.probes}
    names = list(probes)
    reasons = await asyncio.gather(*(_reason(probes[name]) for name in names))
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
