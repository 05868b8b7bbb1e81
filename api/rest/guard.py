"""The outermost wall of the REST door: names each request, sets the protective header fields, and turns an exception that
nobody expected into an answer without inner text."""

from __future__ import annotations

import re
import secrets
import traceback
from collections.abc import Callable, Mapping
from pathlib import PurePath

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
}
InternalAnswer = Callable[[str], Response]
"""Makes the answer to an unexpected exception from the trace id."""


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, answers: Mapping[str, InternalAnswer]) -> None:
        """``answers``: path prefix to the answer in the words of that interface; the longest prefix that fits is used."""
        self._app = app
        self._answers = sorted(answers.items(), key=lambda pair: -len(pair[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace_id = _trace_id(scope)
        scope.setdefault("state", {})["trace_id"] = trace_id
        started = False

        async def safe_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _protect(MutableHeaders(scope=message), trace_id)
            await send(message)

        try:
            await self._app(scope, receive, safe_send)
        except ClientDisconnect:
            log.info("client_hung_up", trace_id=trace_id)
        except Exception as fault:
            # The one broad handler of this door: whatever a bug raises, a stranger must not read its text, and the process
            # goes on, because one request cannot have damaged another. What is logged is the kind and the place, not the
            # text, which may quote the mail.
            log.error("unexpected_exception", trace_id=trace_id, kind=type(fault).__name__, at=_places(fault))
            if started:
                raise
            await self._answer(scope["path"], trace_id)(scope, receive, safe_send)

    def _answer(self, path: str, trace_id: str) -> Response:
        return next(make for prefix, make in self._answers if path.startswith(prefix))(trace_id)


def _trace_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"traceparent":
            match = _TRACEPARENT.match(value.decode("latin-1"))
            if match:
                return match[1]
    return secrets.token_hex(16)


def _protect(headers: MutableHeaders, trace_id: str) -> None:
    headers["X-Request-Id"] = trace_id
    for name, value in _SAFE_HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")


def _places(fault: BaseException) -> list[str]:
    frames = traceback.extract_tb(fault.__traceback__)[-6:]
    return [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
