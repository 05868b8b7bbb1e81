"""The embedded ClickHouse engine behind ClickHouse's own HTTP interface: a store for one machine that is no special case.

The engine is chDB, which is ClickHouse as a library; the server in front of it makes it a URL like any other. By
itself: `python -m depesche.infra.local.engine DIRECTORY PORT`, with the password in DEPESCHE_ENGINE_PASSWORD.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvicorn

from depesche.infra.local.engine_request import Credentials
from depesche.infra.local.engine_server import EngineServer
from depesche.infra.local.engine_store import EmbeddedEngine
from depesche.infra.local.fault import LocalFault
from depesche.infra.local.ports import require_free, require_loopback

PASSWORD_VARIABLE = "DEPESCHE_ENGINE_PASSWORD"  # noqa: S105  (the name of a variable, not a password)
DRAIN_SECONDS = 20
"""How long running queries may take to finish after SIGTERM before they are cancelled."""

_MAX_HEADER_BYTES = 1024 * 1024
_MAX_CONNECTIONS = 200
_IDLE_SECONDS = 75

_log = structlog.get_logger(__name__)


async def serve_engine(directory: Path, host: str, port: int, user: str, password: str) -> None:
    """Open the engine on `directory` and serve it on `host:port` until SIGTERM, SIGINT or cancellation.

    Running queries are finished (at most DRAIN_SECONDS), then the engine is closed in order. Raises LocalFault when the
    address is not of the loopback, the port is taken, the directory is in use or broken, or the password is empty.
    """
    require_loopback(host, "The embedded ClickHouse")
    if not password:
        raise LocalFault("The embedded ClickHouse has no password.", "Set one in the settings.")
    require_free(host, port, "ClickHouse")
    engine = EmbeddedEngine(directory)
    await asyncio.to_thread(engine.open)
    try:
        application = EngineServer(engine, Credentials(user, password))
        try:
            await _serve(application, host, port)
        finally:
            application.sessions.close()
    finally:
        await asyncio.shield(asyncio.to_thread(engine.close))
        _log.info("engine.closed")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: after them it would end the process before the engine is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(application: EngineServer, host: str, port: int) -> None:
    config = uvicorn.Config(
        application,
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
    )
    server = _Server(config)
    with _listening(host, port) as listener, _stopped_by_signals(server):
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        _log.info("engine.listening", host=host, port=port)
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off for each connection; without it every answer
    # waits 40 ms for the client's delayed acknowledgement.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
        yield listener


@contextlib.contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def main(arguments: list[str]) -> int:
    """`DIRECTORY PORT [USER]`, password in DEPESCHE_ENGINE_PASSWORD; returns the exit code."""
    directory, port, user = Path(arguments[0]), int(arguments[1]), (arguments[2:] or ["default"])[0]
    try:
        asyncio.run(serve_engine(directory, "127.0.0.1", port, user, os.environ.get(PASSWORD_VARIABLE, "")))
    except LocalFault as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
