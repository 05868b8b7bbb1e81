"""Turns an HTTP request into a call on the engine, by the rules of ClickHouse's HTTP interface.

Source: the parameters and headers that ClickHouse documents for its HTTP interface and that clickhouse-connect, curl,
Grafana and DBeaver use. What is in the query string and not reserved is a setting.
"""

import base64
import binascii
import hmac
import re
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

from depesche.infra.local.engine_errors import EngineError
from depesche.infra.local.engine_guard import guard
from depesche.infra.local.engine_query import Call
from depesche.infra.local.engine_sessions import SessionName
from depesche.infra.local.engine_statement import parse

MAX_BODY_BYTES = 256 * 1024 * 1024
"""Largest body of a request, as sent and as decompressed."""

# Parameters of the transport, which must not reach the engine as settings.
_RESERVED = frozenset(
    {
        *("query", "database", "user", "password", "quota_key", "role", "query_id", "default_format", "stacktrace"),
        *("session_id", "session_timeout", "session_check", "close_session", "wait_end_of_query", "buffer_size"),
        *("compress", "decompress", "client_protocol_version", "framing"),
    }
)
_MAX_FIELDS = 10_000
_DEFAULT_SESSION_SECONDS, _MAX_SESSION_SECONDS = 60, 3600


@dataclass(frozen=True)
class Credentials:
    """Who may talk to the engine."""

    user: str
    password: str

    def check(self, headers: Mapping[str, str], fields: Mapping[str, str]) -> None:
        """Raise EngineError (516 or 194) unless the request names this user and password; constant time."""
        given = _given(headers, fields)
        if given is None:
            raise EngineError(194, "REQUIRED_PASSWORD", "Authentication is required: send user and password.")
        right = [
            hmac.compare_digest(found.encode("utf-8", "surrogateescape"), expected.encode())
            for found, expected in zip(given, (self.user, self.password), strict=True)
        ]
        if not all(right):
            raise EngineError(
                516, "AUTHENTICATION_FAILED", "Authentication failed: password is incorrect, or there is no such user."
            )


@dataclass(frozen=True)
class EngineRequest:
    """A call, and the session it belongs to, if any."""

    call: Call
    session: SessionName | None


def fields_of(query_string: bytes) -> dict[str, str]:
    """Read a query string; bytes that are no UTF-8 survive as surrogates. Raises EngineError for too many fields."""
    # curl sends letters beyond ASCII as they are typed.
    ascii_only = re.sub(rb"[\x80-\xff]", lambda found: b"%%%02X" % found.group()[0], query_string).decode("ascii")
    try:
        return dict(parse_qsl(ascii_only, keep_blank_values=True, errors="surrogateescape", max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise EngineError(36, "BAD_ARGUMENTS", f"There are more than {_MAX_FIELDS} parameters.") from error


def read_request(method: str, headers: Mapping[str, str], fields: Mapping[str, str], body: bytes) -> EngineRequest:
    """Build the call from lower-case headers, the fields of the query string, and the body; raises EngineError.

    The statement is the field `query`, a line end, and the body, as in ClickHouse; the guard has passed it.
    """
    if headers.get("content-type", "").startswith("multipart/form-data"):
        fields, body = {**fields, **_form(headers["content-type"], body)}, b""
    if fields.get("compress") == "1" or fields.get("decompress") == "1":
        raise EngineError(
            48, "NOT_IMPLEMENTED", "ClickHouse's own block compression is not offered; use Content-Encoding."
        )
    query = fields.get("query", "").encode("utf-8", "surrogateescape")
    data = decompressed(body, headers.get("content-encoding", ""))
    statement = parse(query + b"\n" + data if query and data else query or data)
    guard(statement)
    call = Call(
        statement=statement,
        query_id=fields.get("query_id") or str(uuid.uuid4()),
        parameters={name[6:]: value for name, value in fields.items() if name.startswith("param_")},
        settings={name: value for name, value in fields.items() if _is_setting(name)},
        database=fields.get("database") or headers.get("x-clickhouse-database", ""),
        default_format=fields.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated",
        buffered=fields.get("wait_end_of_query", "0") not in ("0", "false", ""),
        read_only=method != "POST",
    )
    return EngineRequest(call, _session(fields))


def decompressed(body: bytes, encoding: str) -> bytes:
    """Undo a Content-Encoding (gzip, deflate, lz4, zstd); raises EngineError when it is unknown, broken or too large."""
    if encoding in ("", "identity") or not body:
        return body
    try:
        if encoding in ("gzip", "deflate"):
            stream = zlib.decompressobj(47)
            plain, whole = stream.decompress(body, MAX_BODY_BYTES + 1), stream.eof
        elif encoding == "lz4":
            import lz4.frame  # type: ignore[import-untyped]

            lz4_stream = lz4.frame.LZ4FrameDecompressor()
            plain, whole = lz4_stream.decompress(body, MAX_BODY_BYTES + 1), lz4_stream.eof
        elif encoding == "zstd":
            from backports import zstd

            zstd_stream = zstd.ZstdDecompressor()
            try:
                plain, whole = zstd_stream.decompress(body, MAX_BODY_BYTES + 1), zstd_stream.eof
            except zstd.ZstdError as error:
                raise ValueError(encoding) from error
        else:
            raise EngineError(89, "UNKNOWN_COMPRESSION_METHOD", f"Unknown compression method: {encoding}.")
    except (zlib.error, RuntimeError, ValueError, ImportError) as error:
        raise EngineError(354, "ZLIB_INFLATE_FAILED", f"The body cannot be decompressed as {encoding}.") from error
    if len(plain) > MAX_BODY_BYTES:
        raise EngineError(307, "QUERY_IS_TOO_LARGE", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    if not whole:
        raise EngineError(354, "ZLIB_INFLATE_FAILED", "The compressed body ends too early.")
    return bytes(plain)


def _given(headers: Mapping[str, str], fields: Mapping[str, str]) -> tuple[str, str] | None:
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        return headers.get("x-clickhouse-user", "default"), headers.get("x-clickhouse-key", "")
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return user, password
    if "user" in fields or "password" in fields:
        return fields.get("user", "default"), fields.get("password", "")
    return None


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """The text fields of a multipart form; files (ClickHouse's external data) are not offered."""
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode("latin-1")
    fields: dict[str, str] = {}
    for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is not None or not isinstance(name, str):
            raise EngineError(48, "NOT_IMPLEMENTED", "External data is not offered by the embedded engine.")
        content = part.get_payload(decode=True)
        fields[name] = _text(content if isinstance(content, bytes) else b"")
    return fields


def _is_setting(name: str) -> bool:
    return name not in _RESERVED and not name.startswith("param_")


def _session(fields: Mapping[str, str]) -> SessionName | None:
    if not fields.get("session_id"):
        return None
    seconds = fields.get("session_timeout", str(_DEFAULT_SESSION_SECONDS))
    if not seconds.isdecimal() or not 0 < int(seconds) <= _MAX_SESSION_SECONDS:
        raise EngineError(374, "INVALID_SESSION_TIMEOUT", f"A session may last 1 to {_MAX_SESSION_SECONDS} seconds.")
    return SessionName(fields["session_id"], int(seconds), fields.get("session_check") == "1")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
