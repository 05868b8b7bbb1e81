"""ClickHouse's HTTP interface in front of the embedded engine, as an ASGI application.

clickhouse-connect's ordinary client, curl, Grafana and DBeaver talk to it as to a ClickHouse server; so nothing in the
product needs to know which of the two it has.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import structlog

from depesche.infra.local.engine_errors import EngineError
from depesche.infra.local.engine_query import Answer, Connection
from depesche.infra.local.engine_request import MAX_BODY_BYTES, Credentials, EngineRequest, fields_of, read_request
from depesche.infra.local.engine_sessions import Sessions
from depesche.infra.local.engine_store import EmbeddedEngine

BODY_SECONDS = 60.0
"""How long a client may take to send the body of its request."""

_CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "ArrowStream": "application/vnd.apache.arrow.stream",
    "Arrow": "application/vnd.apache.arrow.file",
    "Parquet": "application/vnd.apache.parquet",
    "XML": "application/xml; charset=UTF-8",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Headers = Iterable[tuple[str, str]]
_log = structlog.get_logger(__name__)


class _Disconnected(Exception):
    """The client has gone; there is nobody to answer."""


class EngineServer:
    """The ASGI application; the engine must be open."""

    def __init__(self, engine: EmbeddedEngine, credentials: Credentials) -> None:
        self._engine = engine
        self._credentials = credentials
        self.sessions = Sessions(engine.connect)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (ASGI 3)."""
        assert scope["type"] == "http"
        try:
            await self._route(scope, receive, send)
        except EngineError as error:
            _log.info("engine.refused", code=error.code, name=error.name)
            await self._error(send, error)
        except _Disconnected:
            return

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "HEAD", "POST"):
            await _respond(send, 405, [("Allow", "GET, HEAD, POST")], b"Method not allowed.\n")
        elif path in ("/ping", "/replicas_status") or (path == "/" and method != "POST" and not scope["query_string"]):
            await _respond(send, 200, [("Content-Type", "text/html; charset=UTF-8")], b"Ok.\n")
        elif path != "/":
            await _respond(send, 404, [], f"There is no handle {path}\n\nUse / or /ping.\n".encode("utf-8", "replace"))
        else:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            fields = fields_of(scope["query_string"])
            self._credentials.check(headers, fields)
            body = await _body(headers, receive)
            request = read_request(method, headers, fields, body)
            del body
            await self._answer(request, receive, send)

    async def _answer(self, request: EngineRequest, receive: Receive, send: Send) -> None:
        if request.session_id is None:
            await self._run(request, None, receive, send)
            return
        async with self.sessions.use(request.session_id, request.session_seconds, request.must_exist) as connection:
            await self._run(request, connection, receive, send)

    async def _run(self, request: EngineRequest, session: Connection | None, receive: Receive, send: Send) -> None:
        call = request.call
        working = asyncio.ensure_future(self._engine.run(call, session))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and not call.changes:
                # A reader that hangs up does not want its answer; what changes something runs to its end.
                self._engine.cancel(call.query_id)
            answer = await working
            await self._send(answer, call.query_id, send)
        finally:
            leaving.cancel()
            working.cancel()

    async def _send(self, answer: Answer, query_id: str, send: Send) -> None:
        headers = [
            ("Content-Type", _CONTENT_TYPES.get(answer.format or "", "text/plain; charset=UTF-8")),
            ("X-ClickHouse-Query-Id", _safe(query_id)),
            ("X-ClickHouse-Timezone", self._engine.timezone),
            ("X-ClickHouse-Server-Display-Name", "depesche"),
            ("X-ClickHouse-Summary", _summary(answer.counts)),
        ]
        if answer.format is not None:
            headers.append(("X-ClickHouse-Format", _safe(answer.format)))
        if answer.rest is None:
            await _respond(send, 200, headers, answer.body)
            return
        tag = secrets.token_hex(8)
        try:
            await _start(send, 200, [*headers, ("X-ClickHouse-Exception-Tag", tag)])
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            async with contextlib.aclosing(self._engine.read(answer.rest)) as pieces:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except EngineError as error:
            # Status and headers are out. ClickHouse then appends the error between tags and breaks the connection off,
            # so that no client can take the beginning for the whole; not completing the response does that here.
            text = f"{error}\n".encode()
            trailer = b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n"
            marked = trailer % (tag.encode(), text, len(text), tag.encode())
            await send({"type": "http.response.body", "body": marked, "more_body": True})
        finally:
            self._engine.discard(answer.rest)

    async def _error(self, send: Send, error: EngineError) -> None:
        headers = [("Content-Type", "text/plain; charset=UTF-8"), ("X-ClickHouse-Exception-Code", str(error.code))]
        if error.status == 401:
            headers.append(("WWW-Authenticate", 'Basic realm="ClickHouse"'))
        text = f"{error} (version {self._engine.version})\n"
        await _respond(send, error.status, headers, text.encode("utf-8", "replace"))


async def _body(headers: dict[str, str], receive: Receive) -> bytes:
    too_large = EngineError(307, "QUERY_IS_TOO_LARGE", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    if int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Disconnected
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MAX_BODY_BYTES:
                    raise too_large
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError as error:
        raise EngineError(
            209, "SOCKET_TIMEOUT", f"The body did not arrive within {BODY_SECONDS:.0f} seconds."
        ) from error


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _respond(send: Send, status: int, headers: _Headers, body: bytes) -> None:
    await _start(send, status, [*headers, ("Content-Length", str(len(body)))])
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, status: int, headers: _Headers) -> None:
    raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})


def _summary(counts: dict[str, int]) -> str:
    names = ("read_rows", "read_bytes", "written_rows", "written_bytes", "elapsed_ns")
    return json.dumps({name: str(counts.get(name, 0)) for name in names})


def _safe(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:256]
