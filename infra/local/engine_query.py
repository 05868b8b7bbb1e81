"""Runs one request on the embedded ClickHouse engine (chDB): blocking, called from worker threads.

Each request has a connection of its own, which costs 0.1 ms and keeps its settings, its database and its parameters to
itself. A session (ClickHouse's `session_id`) is a connection that is kept, so that temporary tables and SET live on.
"""

import contextlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from depesche.infra.local.engine_errors import EngineError
from depesche.infra.local.engine_statement import Statement

STREAMED_FORMATS = frozenset(
    {
        *("Native", "RowBinary", "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "TSKV", "CSV"),
        *("JSONEachRow", "JSONLines", "NDJSON", "JSONStringsEachRow", "JSONCompactEachRow"),
    }
)
"""Formats of which the engine's pieces, one after the other, are a valid whole; all others come in one piece."""

# So much of an answer is held back before the rest is streamed, so that most late errors still are plain errors.
_HELD_BYTES = 1024 * 1024
_APPEND_BYTES = 4 * 1024 * 1024
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SELECTING = frozenset({"SELECT", "WITH", "FROM"})
_ANSWERING = _SELECTING | {"SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK"}
_HARMLESS = _ANSWERING | {"USE", "SET"}


@dataclass(frozen=True)
class Call:
    """What a request asks for: one statement, its parameters (`{x:Type}`, texts), settings, and where to run it.

    `query_id` is the client's name for it, `tag` is unique: it marks the query inside the engine.
    `buffered`: the whole answer is wanted before its first byte is sent, so that a late error is still an error.
    `read_only`: refuse to change anything (requests by GET).
    """

    statement: Statement
    query_id: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    database: str = ""
    default_format: str = "TabSeparated"
    buffered: bool = True
    read_only: bool = False
    tag: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def output_format(self) -> str:
        """The format of the answer, or of the data that an INSERT brings."""
        return self.statement.format or self.default_format

    @property
    def inserts(self) -> bool:
        """Whether the statement is an INSERT anywhere but in a string."""
        return any(token.says("INSERT") for token in self.statement.tokens)

    @property
    def selects(self) -> bool:
        """Whether the statement is a query proper, of which the engine can stream the answer."""
        return self.statement.verb in _SELECTING and not self.inserts

    @property
    def answers(self) -> bool:
        """Whether the statement has a result, be it an empty one."""
        return self.statement.verb in _ANSWERING and not self.inserts

    @property
    def changes(self) -> bool:
        """Whether the statement may change anything but its own session."""
        return self.statement.verb not in _HARMLESS or self.inserts


@dataclass
class Answer:
    """What came back: `body`, or the first piece of it and a `rest` to be read on; counts for the summary header.

    `format` is None when the statement has no result at all.
    """

    format: str | None
    body: bytes
    counts: dict[str, int]
    rest: "Pieces | None" = None


class Pieces:
    """A streamed answer; `close()` must be called, also when not all of it is wanted."""

    def __init__(self, stream: Any, lease: "Lease") -> None:
        self._stream = stream
        self._lease = lease
        self.counts = {"read_rows": 0, "read_bytes": 0, "elapsed_ns": 0}

    def next(self) -> bytes | None:
        """Return the next piece, or None after the last; raises EngineError when the query fails on the way."""
        try:
            while (chunk := next(self._stream, None)) is not None:
                self.counts["read_rows"] += int(chunk.storage_rows_read())
                self.counts["read_bytes"] += int(chunk.storage_bytes_read())
                self.counts["elapsed_ns"] += int(chunk.elapsed() * 1e9)
                if piece := bytes(chunk.bytes()):
                    return piece
        except Exception as error:  # chDB raises plain RuntimeError and its own class; both are the engine's answer.
            raise EngineError.from_engine(error) from error
        return None

    def close(self) -> None:
        """Cancel what is still running and give the connection back."""
        try:
            # Closing a stream that has failed says once more that it failed.
            with contextlib.suppress(RuntimeError):
                self._stream.close()
        finally:
            self._lease.release()


class Connection:
    """A chDB connection and what has been set on it on behalf of the request before."""

    def __init__(self, path: str) -> None:
        import chdb

        # Any: its annotations ask for text where it takes bytes as well, and statements may hold any byte. The module too:
        # chdb and chdb-core both bring chdb/__init__.py, one with and one without types, and whichever came last is there.
        library: Any = chdb
        self.raw: Any = library.connect(path)
        self._set: dict[str, str] = {}
        self._before: dict[str, str] = {}

    def close(self) -> None:
        """End the connection and what runs on it."""
        self.raw.close()

    def prepare(self, call: Call, kept: bool) -> None:
        """Put the call's database, parameters and settings in force; on a kept connection, undo the last call's."""
        if call.database:
            self.run(f"USE {quoted(call.database, '`')}")
        # The engine gives each query an id of its own; this setting is how we find ours again to cancel it.
        wanted = {"log_comment": call.tag, **{_checked(name): value for name, value in call.settings.items()}}
        if kept:
            wanted = self._changes({} if call.statement.verb == "SET" else wanted)
        elif call.read_only:
            # Reads only, but may change settings; it comes last, because after it some settings are fixed.
            wanted["readonly"] = "2"
        if call.statement.data is not None:
            wanted |= {f"param_{_checked(name)}": value for name, value in call.parameters.items()}
        if wanted:
            self.run("SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in wanted.items()))
        if kept and call.statement.verb == "SET":
            # What the session now sets itself is what later calls return to.
            self._before = {}

    def _changes(self, wanted: dict[str, str]) -> dict[str, str]:
        """What must be set so that exactly `wanted` is in force on top of what the session itself has set."""
        undo = {name: self._before[name] for name in self._set if name not in wanted}
        change = {name: value for name, value in wanted.items() if self._set.get(name) != value}
        for name in change:
            if name not in self._before:
                self._before[name] = self._value(name)
        self._set = dict(wanted)
        return undo | change

    def _value(self, name: str) -> str:
        sql = f"SELECT value FROM system.settings WHERE name = {quoted(name)}"  # noqa: S608  (quoted above)
        found = self.run(sql, "TabSeparatedRaw")
        return bytes(found.bytes()).decode().removesuffix("\n")

    def run(self, sql: str, format_: str = "TabSeparated") -> Any:
        """Run a statement of ours; raises EngineError."""
        try:
            return self.raw.query(sql, format_)
        except Exception as error:  # chDB raises plain RuntimeError and its own class; both are the engine's answer.
            raise EngineError.from_engine(error) from error


class Lease:
    """A connection in use by one request; `release()` may be called more than once."""

    def __init__(self, connection: Connection, kept: bool) -> None:
        self.connection = connection
        self.kept = kept
        self._released = False

    def release(self) -> None:
        """Give the connection back; one that is not kept is closed."""
        if not self._released:
            self._released = True
            if not self.kept:
                self.connection.close()


def execute(path: str, call: Call, session: Connection | None = None) -> Answer:
    """Run the call on the engine that is open at `path` and return its answer; raises EngineError. Blocks."""
    if call.read_only and call.changes:
        raise EngineError(164, "READONLY", "Cannot execute query in readonly mode: method GET only reads, use POST.")
    lease = Lease(session or Connection(path), kept=session is not None)
    answer: Answer | None = None
    try:
        lease.connection.prepare(call, lease.kept)
        try:
            answer = _run(call, lease)
        except EngineError:
            raise
        except Exception as error:  # chDB raises plain RuntimeError and its own class; both are the engine's answer.
            raise EngineError.from_engine(error) from error
        return answer
    finally:
        if answer is None or answer.rest is None:
            lease.release()


def _run(call: Call, lease: Lease) -> Answer:
    if call.statement.data is not None:
        return _insert(call, call.statement.data, lease)
    if call.selects and call.output_format in STREAMED_FORMATS:
        return _stream(call, lease)
    result = lease.connection.raw.query(call.statement.text, call.output_format, params=dict(call.parameters))
    counts = {"read_rows": int(result.storage_rows_read()), "read_bytes": int(result.storage_bytes_read())}
    counts |= {"written_rows": int(result.rows_written()), "written_bytes": int(result.bytes_written())}
    counts["elapsed_ns"] = int(result.elapsed() * 1e9)
    return Answer(call.output_format if call.answers else None, bytes(result.bytes()), counts)


def _stream(call: Call, lease: Lease) -> Answer:
    stream = lease.connection.raw.send_query(call.statement.text, call.output_format, params=dict(call.parameters))
    pieces = Pieces(stream, lease)
    body: list[bytes] = []
    size = 0
    try:
        while (piece := pieces.next()) is not None:
            body.append(piece)
            size += len(piece)
            if size > _HELD_BYTES and not call.buffered:
                return Answer(call.output_format, b"".join(body), pieces.counts, pieces)
    except BaseException:
        pieces.close()
        raise
    pieces.close()
    return Answer(call.output_format, b"".join(body), pieces.counts)


def _insert(call: Call, data: memoryview, lease: Lease) -> Answer:
    # Leaving the block without `finish` cancels: an INSERT that fails half-way does not store its last block.
    with lease.connection.raw.send_insert(call.statement.text, call.output_format) as stream:
        for begin in range(0, len(data), _APPEND_BYTES):
            stream.append(data[begin : begin + _APPEND_BYTES])
        result = stream.finish()
    counts = {"written_rows": int(result.rows_written), "written_bytes": int(result.bytes_written)}
    return Answer(None, b"", counts | {"elapsed_ns": int(result.elapsed * 1e9)})


def _checked(name: str) -> str:
    if _SETTING_NAME.fullmatch(name) is None:
        raise EngineError(115, "UNKNOWN_SETTING", "The name of a setting or parameter must be an identifier.")
    return name


def quoted(text: str, quote: str = "'") -> str:
    """Return the text as an SQL literal, or with another quote as an identifier."""
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote
