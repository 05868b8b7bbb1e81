"""The REST door as a service: uvicorn inside our own process, so that it starts, stops and fails like everything else."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

import uvicorn

from depesche.api.rest.app import build_app
from depesche.api.rest.tools import Tools
from depesche.schemas.errors import SetupError
from depesche.schemas.settings import Settings

KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 20
"""How long requests under way may take to end; longer than the log's deadline, so that none is cut before its answer."""
MAX_CONNECTIONS = 1000


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers, which would take the process out of the hands of its host."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return contextlib.nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


class RestDoor:
    """Serves the REST application on the configured port until cancelled."""

    name = "rest"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve; when cancelled, take no new connection, let requests under way end, then return.

        Raises:
            SetupError: the port is taken, or the address is open to others without being meant for production.
        """
        config = uvicorn.Config(
            build_app(self._tools),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            limit_concurrency=MAX_CONNECTIONS,
        )
        listener = listening_socket(self._tools.settings)
        server = _Server(config, ready)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="rest-server")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise


def listening_socket(settings: Settings) -> socket.socket:
    """A socket on the door's address.

    Raises:
        SetupError: see ``RestDoor.run``.
    """
    host, port = settings.rest.host, settings.rest.port
    try:
        address = ipaddress.ip_address(host)
    except ValueError as fault:
        raise SetupError(f"{host} is no address.", fix="Set rest.host to an IP address such as 127.0.0.1.") from fault
    if not address.is_loopback and settings.environment != "production":
        raise SetupError(
            f"The REST door would listen on {host}, without TLS, for everybody.",
            fix="Set rest.host to 127.0.0.1, or environment to production behind a proxy that speaks TLS.",
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as fault:
        raise SetupError(
            f"The REST door cannot listen on {host}:{port}: {fault.strerror}.",
            fix="End what listens there, or set rest.port (or port_offset) to another port.",
        ) from fault
    # Connections inherit it. Without it an answer in two pieces waits 40 ms for the other side's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
