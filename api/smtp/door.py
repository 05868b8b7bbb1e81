"""The SMTP door as a service: its ports, and the watch over its connections."""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable, Mapping

import structlog

from depesche.analytics.directory.directory import Directory
from depesche.api.smtp.dialogue import Dialogue, SubmissionLobby
from depesche.api.smtp.guard import ConnectionLimit, LoginDelay
from depesche.api.smtp.intake import Budget
from depesche.api.smtp.server import Connection, Listener, Lobby
from depesche.api.smtp.submission import Acceptance, Reception
from depesche.schemas.errors import SetupError
from depesche.schemas.settings import Settings

log = structlog.get_logger(__name__)

MAX_UNFINISHED_BYTES = 256 << 20
"""Contents under way on all connections together; beyond it new ones are put off with 452."""
SWEEP_SECONDS = 1.0
FAREWELL_SECONDS = 10.0
BACKLOG = 512


class Doorway:
    """The ports of a door, and the watch over its connections."""

    def __init__(
        self,
        lobby: Lobby,
        protocol: Callable[[Listener], Connection],
        ports: Mapping[Listener, int],
        settings: str,
    ) -> None:
        """Make it; it opens in ``serve``.

        Args:
            lobby: what its connections share; also where it listens.
            protocol: makes a connection.
            ports: what to listen on; 0: not there.
            settings: names of the settings that move the ports, for whoever finds one taken.
        """
        self._lobby = lobby
        self._protocol = protocol
        self._ports = {listener: port for listener, port in ports.items() if port}
        self._named = settings

    async def serve(self, ready: Callable[[], None]) -> None:
        """Open the ports and serve until cancelled; then give every mail that is being accepted its answer.

        Raises:
            SetupError: a port is taken.
        """
        # aiosmtpd would log every command, with addresses, at INFO.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        servers: list[asyncio.Server] = []
        try:
            for listener, port in self._ports.items():
                servers.append(await self._listen(listener, port))
            ready()
            while True:
                await asyncio.sleep(min(SWEEP_SECONDS, self._lobby.settings.command_seconds / 4))
                now = asyncio.get_running_loop().time()
                for connection in list(self._lobby.open):
                    connection.expire(now)
        finally:
            for server in servers:
                server.close()
            await self._say_farewell()

    async def _listen(self, listener: Listener, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        host = self._lobby.settings.host
        context = self._lobby.tls if listener is Listener.TLS else None
        protocol = functools.partial(self._protocol, listener)
        try:
            return await loop.create_server(protocol, host, port, ssl=context, backlog=BACKLOG)
        except OSError as fault:
            raise SetupError(
                f"Port {port} on {host} cannot be opened ({fault.strerror}).",
                fix=f"Stop what uses it, or choose another port ({self._named}).",
            ) from fault

    async def _say_farewell(self) -> None:
        """Tell everybody; whoever has sent a whole mail still hears whether it was taken."""
        for connection in list(self._lobby.open):
            connection.dismiss("421 4.3.2 Shutting down")
        running = [connection.conversation() for connection in self._lobby.open]
        if running:
            await asyncio.wait(running, timeout=FAREWELL_SECONDS)


class SMTPDoor:
    """Authenticated submission over SMTP: STARTTLS, implicit TLS, and by source address on a port without TLS."""

    name = "smtp"

    def __init__(
        self, settings: Settings, hallway: Acceptance, directory: Directory, tls: ssl.SSLContext | None
    ) -> None:
        """Make the door; it opens in ``run``.

        Args:
            settings: ports, limits and times are in ``settings.smtp``.
            hallway: takes the submissions, and tells whether it can.
            directory: started by whoever made it.
            tls: for STARTTLS and implicit TLS (see ``tls.server_context``).

        Raises:
            SetupError: a port with TLS is to be opened, but there is no certificate.
        """
        smtp = settings.smtp
        if tls is None and (smtp.port or smtp.tls_port):
            raise SetupError("The SMTP door has no certificate.", fix="Set smtp.certificate and smtp.private_key.")
        lobby = SubmissionLobby(
            settings=smtp,
            gate=hallway,
            directory=directory,
            reception=Reception(smtp, hallway, directory),
            tls=tls,
            connections=ConnectionLimit(smtp.max_connections, smtp.max_connections_per_ip),
            delay=LoginDelay(),
            budget=Budget(MAX_UNFINISHED_BYTES),
        )
        ports = {Listener.STARTTLS: smtp.port, Listener.TLS: smtp.tls_port, Listener.RELAY: smtp.relay_port}
        names = "smtp.port, smtp.tls_port, smtp.relay_port"
        self._doorway = Doorway(lobby, functools.partial(Dialogue, lobby), ports, names)

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled; see ``Doorway.serve``."""
        await self._doorway.serve(ready)
