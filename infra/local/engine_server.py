"""ClickHouse's HTTP interface in front of the embedded engine, as an ASGI application.

clickhouse-connect's ordinary client, curl, Grafana and DBeaver talk to it as to a ClickHouse server; so nothing in the
product needs to know which of the two it has.
"""

import asyncio
import contextlib
import functools
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import structlog

from depesche.infra.local.engine_errors import EngineError
from depesche.infra.local.engine_query import Answer, Call, Connection, Pieces
from depesche.infra.local.engine_request import MAX_BODY_BYTES, Credentials, EngineRequest, fields_of, read_request
from depesche.infra.local.engine_sessions import Sessions
from depesche.infra.local.engine_store import EmbeddedEngine

BODY_SECONDS = 60.0
"""How long a client may take to send the body of its request."""

_LONG_BODY_BYTES = 64 * 1024

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

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
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

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (ASGI 3)."""
        assert scope["type"] == "http"
        try:
            await self._route(scope, receive, send)
        except EngineError as error:
            _log.info("engine.refused", code=error.code, name=error.name)
            await self._error(send, error)
        except _Disconnected:
            return

    async def _route(self, scope: Message, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "HEAD", "POST"):
            await _respond(send, 405, [("Allow", "GET, HEAD, POST")], b"Method not allowed.\n")
        elif path in ("/ping", "/replicas_status") or (path == "/" and method != "POST" and not scope["query_string"]):
            await _respond(send, 200, [("Content-Type", "text/html; charset=UTF-8")], b"Ok.\n")
        elif path != "/":
            await _respond(send, 404, [], f"There is no handle {path}\n\nUse / or /ping.\n".encode("utf-8", "replace"))
        else:
            headers = {name.decode(): value.decode("utf-8", "surrogateescape") for name, value in scope["headers"]}
            fields = fields_of(scope["query_string"])
            self._credentials.check(headers, fields)
            body = await _body(headers, receive)
            # To read a long statement or to unpack a body takes time that the other requests should not wait for.
            reading = functools.partial(read_request, method, headers, fields, body)
            request = await asyncio.to_thread(reading) if len(body) > _LONG_BODY_BYTES else reading()
            del body, reading
            await self._answer(request, receive, send)

    async def _answer(self, request: EngineRequest, receive: Receive, send: Send) -> None:
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            async with self.sessions.use(request.session) as connection:
                last = await self._run(request.call, connection, leaving, send)
            # Only now, because whoever has the end of the answer may use the session again at once.
            for message in last:
                await send(message)
        finally:
            leaving.cancel()

    async def _run(
        self, call: Call, connection: Connection | None, leaving: "asyncio.Future[None]", send: Send
    ) -> list[Message]:
        """Do the work and send the answer but for its last messages, which are returned."""
        working = asyncio.ensure_future(self._engine.run(call, connection))
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and not call.changes:
                # A reader that hangs up does not want its answer; what changes something runs to its end.
                working.cancel()
                await asyncio.wait((working,))
                raise _Disconnected
            answer = await working
        finally:
            working.cancel()
        headers = self._headers(answer, call.query_id)
        if answer.rest is None:
            return _response(200, headers, answer.body)
        return await self._stream(headers, answer.body, answer.rest, leaving, send)

    def _headers(self, answer: Answer, query_id: str) -> _Headers:
        headers = [
            ("Content-Type", _CONTENT_TYPES.get(answer.format or "", "text/plain; charset=UTF-8")),
            ("X-ClickHouse-Query-Id", _safe(query_id)),
            ("X-ClickHouse-Timezone", self._engine.timezone),
            ("X-ClickHouse-Server-Display-Name", "depesche"),
            ("X-ClickHouse-Summary", _summary(answer.counts)),
        ]
        if answer.format is not None:
            headers.append(("X-ClickHouse-Format", _safe(answer.format)))
        return headers

    async def _stream(
        self, headers: _Headers, first: bytes, rest: Pieces, leaving: "asyncio.Future[None]", send: Send
    ) -> list[Message]:
        tag = secrets.token_hex(8)
        try:
            await send(_start(200, [*headers, ("X-ClickHouse-Exception-Tag", tag)]))
            await send(_part(first, more=True))
            async with contextlib.aclosing(self._engine.read(rest)) as pieces:
                async for piece in pieces:
                    if leaving.done():
                        raise _Disconnected
                    await send(_part(piece, more=True))
            return [_part(b"", more=False)]
        except EngineError as error:
            # Status and headers are out. ClickHouse then appends the error between tags and breaks the connection off,
            # so that no client can take the beginning for the whole; not completing the response does that here.
            text = f"{error}\n".encode()
            trailer = b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n"
            return [_part(trailer % (tag.encode(), text, len(text), tag.encode()), more=True)]
        finally:
            await self._engine.discard(rest)

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
    for message in _response(status, headers, body):
        await send(message)


def _response(status: int, headers: _Headers, body: bytes) -> list[Message]:
    return [_start(status, [*headers, ("Content-Length", str(len(body)))]), _part(body, more=False)]


def _start(status: int, headers: _Headers) -> Message:
    raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": raw}


def _part(body: bytes, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def _summary(counts: dict[str, int]) -> str:
    names = ("read_rows", "read_bytes", "written_rows", "written_bytes", "elapsed_ns")
    return json.dumps({name: str(counts.get(name, 0)) for name in names})


def _safe(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:256]
