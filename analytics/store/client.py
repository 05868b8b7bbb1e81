"""One way to speak to ClickHouse: its HTTP interface through clickhouse-connect, whatever stands behind the URL.

The driver blocks, so every call runs in a thread of this client's own. Whatever goes wrong leaves as a
``StoreUnavailableError``: search then says that it is not available, and mail goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_connect.driver.httputil import get_pool_manager

from depesche.schemas.errors import SetupError, StoreUnavailableError
from depesche.schemas.settings import ClickHouseSettings, Settings

if TYPE_CHECKING:
    # Only who writes needs it; whoever asks from a terminal shall not wait a fifth of a second for it.
    import pyarrow as pa

T = TypeVar("T")

CONNECT_SECONDS = 5
READ_SECONDS = 30
WRITE_SECONDS = 120
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
#: ClickHouse's codes for rows that cannot be: unparsable, out of range, of the wrong type, too long.
_ABOUT_THE_DATA = frozenset({6, 27, 38, 41, 53, 69, 70, 72, 117, 131, 349})


class StoreRefusedError(StoreUnavailableError):
    """ClickHouse answered, and the answer was an error.

    Attributes:
        number: ClickHouse's error code; 0 when it gave none.
    """

    def __init__(self, detail: str, number: int) -> None:
        super().__init__(detail)
        self.number = number

    @property
    def about_the_data(self) -> bool:
        """Whether the same rows will be refused again, however often they are sent."""
        return self.number in _ABOUT_THE_DATA


@dataclass(frozen=True, slots=True)
class Rows:
    """What a query gave: the columns' names and the rows as tuples."""

    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def named(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column name."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


class StoreClient:
    """A connection to ClickHouse for one process. Safe to use from one event loop; connects on first use."""

    def __init__(self, settings: Settings, name: str, *, threads: int = 4) -> None:
        """Prepare to connect.

        Args:
            settings: where it is; with the password, also of the embedded engine.
            name: who asks, for ClickHouse's own log of queries.
            threads: how many calls may run at once.
        """
        self.settings = settings.clickhouse
        self.database = settings.clickhouse.database
        self._name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._lock = threading.Lock()
        self._raw: Client | None = None

    async def query(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        seconds: float = READ_SECONDS,
    ) -> Rows:
        """Ask a question with bound parameters (``{name:Type}``).

        Args:
            sql: one SELECT, SHOW or EXPLAIN.
            parameters: values for the placeholders.
            settings: ClickHouse settings for this query.
            seconds: ClickHouse gives up after so long.

        Raises:
            StoreUnavailableError: no answer, or an error for an answer.
        """
        limits = {"max_execution_time": seconds, **(settings or {})}
        return await self.run_in_thread(partial(self._query, sql, dict(parameters or {}), limits))

    async def command(self, sql: str, *, anywhere: bool = False) -> None:
        """Run a statement that has no result.

        Args:
            sql: the statement.
            anywhere: run it outside our database, which may not be there yet.

        Raises:
            StoreUnavailableError: it was not run, or nobody knows.
        """
        await self.run_in_thread(partial(self._command, sql, anywhere))

    async def insert(self, table: str, columns: pa.Table, token: str) -> None:
        """Insert rows as one block; the same token again within ClickHouse's window is the same block and counts once.

        Raises:
            StoreUnavailableError: nobody knows whether they are in; send them again with the same token.
        """
        await self.run_in_thread(partial(self._insert, table, columns, token))

    async def close(self) -> None:
        """Let go of the connection and the threads."""
        raw, self._raw = self._raw, None
        if raw is not None:
            await asyncio.to_thread(raw.close)
        self._pool.shutdown(wait=False)

    async def run_in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work that prepares a call, such as building columns, in one of this client's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _query(self, sql: str, parameters: dict[str, Any], settings: dict[str, Any]) -> Rows:
        found = self._guarded(lambda raw: raw.query(sql, parameters=parameters, settings=settings))
        return Rows(tuple(found.column_names), [tuple(row) for row in found.result_rows])

    def _command(self, sql: str, anywhere: bool) -> None:
        settings = {"database": "default"} if anywhere else {}
        self._guarded(lambda raw: raw.command(sql, settings=settings))

    def _insert(self, table: str, columns: pa.Table, token: str) -> None:
        # Asynchronous inserts (the server's default) would wait for company that does not come.
        settings = {"async_insert": 0, "insert_deduplication_token": token, "insert_deduplicate": 1}
        self._guarded(lambda raw: raw.insert_arrow(table, columns, settings=settings))

    def _guarded(self, work: Callable[[Client], T]) -> T:
        try:
            return work(self._connected())
        except ClickHouseError as fault:
            number = getattr(fault, "code", None)
            if number:
                raise StoreRefusedError(_short(fault), int(number)) from fault
            raise StoreUnavailableError(_short(fault)) from fault
        except (OSError, EOFError) as fault:
            raise StoreUnavailableError(_short(fault)) from fault

    def _connected(self) -> Client:
        with self._lock:
            if self._raw is None:
                self._raw = self._connect()
            return self._raw

    def _connect(self) -> Client:
        address = urlsplit(address_of(self.settings))
        near = address.hostname in _LOOPBACK
        raw = clickhouse_connect.get_client(
            interface=address.scheme,
            host=address.hostname,
            port=address.port or (8443 if address.scheme == "https" else 8123),
            username=unquote(address.username or self.settings.user),
            password=unquote(address.password or self.settings.password.get_secret_value()),
            proxy_path=address.path.strip("/"),
            compress=not near,
            connect_timeout=CONNECT_SECONDS,
            send_receive_timeout=WRITE_SECONDS,
            client_name=f"depesche-{self._name}",
            # A session would serialise the calls of several threads.
            autogenerate_session_id=False,
            # With a pool of its own the driver asks no environment variable for a proxy.
            pool_mgr=get_pool_manager() if near else None,
            dedicated_pool=not near,
        )
        # Named only now, because the driver asks the server who it is first, and the database may not be there yet.
        raw.database = self.database
        return raw


def address_of(settings: ClickHouseSettings) -> str:
    """The URL in force.

    Raises:
        SetupError: it is no http or https address.
    """
    url = settings.url or f"http://127.0.0.1:{settings.port}"
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise SetupError(
            "The address of ClickHouse is no http or https URL.", fix="Set clickhouse.url, as in http://host:8123."
        )
    return url


def _short(fault: BaseException) -> str:
    text = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {text[:500]}" if text else type(fault).__name__
