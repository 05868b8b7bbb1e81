"""Owns the directory of the embedded ClickHouse engine: opens it once, runs calls in threads, and closes it in order.

One process per directory and one directory per process are chDB's rules; everybody else talks to the HTTP server in
front of this.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from depesche.infra.local.engine_errors import EngineError
from depesche.infra.local.engine_query import Answer, Call, Connection, Pieces, execute, quoted
from depesche.infra.local.fault import LocalFault

READING_THREADS = 4
WRITING_THREADS = 2
"""Inserts have threads of their own, so that a few long reports do not keep events from being stored."""

# What a server's configuration would say. Rows are on the disk before an INSERT is answered, so that a power cut loses
# nothing that the sink has committed in Kafka; and the caches are sized for a machine that does other work as well.
_CONFIGURATION = """\
<clickhouse>
    <merge_tree>
        <fsync_after_insert>1</fsync_after_insert>
        <fsync_part_directory>1</fsync_part_directory>
    </merge_tree>
    <mark_cache_size>268435456</mark_cache_size>
    <max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>
    <logger>
        <log>{log}</log>
        <size>10M</size>
        <count>2</count>
    </logger>
</clickhouse>
"""


class EmbeddedEngine:
    """The engine on one directory. `open()` and `close()` block; the rest is for an event loop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.version = ""
        self.timezone = "UTC"
        self._path = ""
        self._keeper: Connection | None = None
        self._reading = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="engine-read")
        self._writing = ThreadPoolExecutor(WRITING_THREADS, thread_name_prefix="engine-write")

    def open(self) -> None:
        """Open the directory, creating it if needed; raises LocalFault when that is not possible. Takes 0.1 s and up."""
        data = self.directory / "data"
        try:
            data.mkdir(parents=True, exist_ok=True)
            configuration = self.directory / "engine.xml"
            configuration.write_text(_CONFIGURATION.format(log=self.directory / "engine.log"), "utf-8")
        except OSError as error:
            raise LocalFault(
                f"The directory {self.directory} of ClickHouse cannot be written: {error.strerror}.",
                "Make room or correct its owner, then start again.",
            ) from error
        _require_unused(data)
        self._path = str(data.resolve())
        with _captured_stderr() as said:
            try:
                self._keeper = Connection(f"{self._path}?config-file={configuration.resolve()}&log-level=warning")
                found = self._keeper.run("SELECT version(), timezone()")
            except (RuntimeError, EngineError) as error:
                raise _not_opened(data, said() or str(error)) from error
        self.version, self.timezone = bytes(found.bytes()).decode().strip().split("\t")

    def connect(self) -> Connection:
        """Return a connection to be kept by a session; the caller closes it. Blocks for 0.1 ms."""
        return Connection(self._path)

    async def run(self, call: Call, session: Connection | None = None) -> Answer:
        """Run a call in a thread; raises EngineError. When the wait is cancelled, so is the query, before this returns."""
        pool = self._writing if call.changes else self._reading
        work = pool.submit(execute, self._path, call, session)
        result = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            if not work.cancel():
                work.add_done_callback(_discard)
                await self._cancel(call, result)
            raise

    async def read(self, pieces: Pieces) -> AsyncGenerator[bytes, None]:
        """Yield the further pieces of a streamed answer, each fetched in a thread; raises EngineError on the way."""
        loop = asyncio.get_running_loop()
        while (piece := await loop.run_in_executor(self._reading, pieces.next)) is not None:
            yield piece

    async def discard(self, pieces: Pieces) -> None:
        """Give a streamed answer up, or back when it was read to its end; afterwards its connection is free again."""
        # Not in the pool for reading, which may be full of queries that take long.
        await asyncio.shield(asyncio.to_thread(pieces.close))

    async def _cancel(self, call: Call, result: "asyncio.Future[Answer]") -> None:
        """Ask the engine to stop this call until it has: the thread may not even have reached the engine yet."""
        while not result.done():
            await asyncio.to_thread(self._kill, f"Settings['log_comment'] = {quoted(call.tag)}")
            await asyncio.wait((result,), timeout=0.2)

    def close(self) -> None:
        """Stop what still runs, wait for its threads, and close the directory."""
        if self._keeper is None:
            return
        self._kill("query NOT ILIKE 'KILL QUERY%'")
        self._reading.shutdown(wait=True, cancel_futures=True)
        self._writing.shutdown(wait=True, cancel_futures=True)
        self._keeper.close()
        self._keeper = None

    def _kill(self, condition: str) -> None:
        connection = Connection(self._path)
        found = f"SELECT query_id FROM system.processes WHERE {condition}"  # noqa: S608  (conditions of ours only)
        try:
            connection.run(f"KILL QUERY WHERE query_id IN ({found}) ASYNC")
        finally:
            connection.close()


def _discard(work: "Future[Answer]") -> None:
    """Close the answer that nobody waits for any more."""
    if not work.cancelled() and work.exception() is None and (rest := work.result().rest) is not None:
        rest.close()


def _require_unused(data: Path) -> None:
    status = data / "status"
    if not status.exists():
        return
    with status.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = re.search(rb"PID: (\d+)", file.read())
            process = f"process {holder.group(1).decode()}" if holder else "another process"
            raise LocalFault(
                f"ClickHouse's directory {data} is in use by {process}.",
                "Stop that process, or talk to it over HTTP: only one can own the directory.",
            ) from error


def _not_opened(data: Path, reason: str) -> LocalFault:
    found = re.search(r"Code: \d+\..*", reason, re.DOTALL)
    text = " ".join((found.group() if found else reason).split())[:500]
    return LocalFault(
        f"ClickHouse's directory {data} cannot be opened: {text}",
        "Free disk space or correct the owner if that is the cause; otherwise move the directory away and let the "
        "history be read into a new one from Kafka.",
    )


@contextlib.contextmanager
def _captured_stderr() -> Iterator["_Said"]:
    """Keep what is written to standard error meanwhile: chDB tells only there why it cannot open a directory."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield _Said(file.fileno())
        finally:
            os.dup2(saved, 2)
            os.close(saved)


class _Said:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self) -> str:
        size = os.fstat(self._descriptor).st_size
        return os.pread(self._descriptor, size, 0).decode("utf-8", "replace").strip()
