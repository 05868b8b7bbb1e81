"""The one place where real parts are chosen and joined: a service by its name, with the tools it is handed.

Tools are made once per process, on first use, and closed in the reverse order after the services have ended. Imports stand
inside the makers, so that a process loads only what its services need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

from depesche.infra.layout import check_names
from depesche.schemas.service import Service
from depesche.schemas.settings import Settings


class Toolbox:
    """The tools of one process."""

    def __init__(self, settings: Settings, process: str, stack: AsyncExitStack) -> None:
        """``process`` is the name this process keeps over restarts: its member name in consumer groups."""
        self.settings = settings
        self.process = process
        self._stack = stack


class Standing:
    """A service made of a server that only has start and stop."""

    def __init__(self, name: str, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._start = start
        self._stop = stop

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled."""
        await self._start()
        try:
            ready()
            await asyncio.get_running_loop().create_future()
        finally:
            await self._stop()


async def _dns(tools: Toolbox) -> Service:
    from depesche.infra.local import sandbox
    from depesche.infra.local.dns import DNSServer

    server = DNSServer(sandbox.zone_folder(tools.settings), "127.0.0.1", tools.settings.sandbox.dns_port)
    return Standing("dns", server.start, server.stop)


async def _mailbox(tools: Toolbox) -> Service:
    from depesche.infra.local import sandbox
    from depesche.infra.local.sink.server import Sink

    sink = Sink(sandbox.sink_settings(tools.settings))
    return Standing("mailbox", sink.start, sink.stop)


async def _agents(tools: Toolbox) -> Service:
    from depesche.streams.agents.service import Agents

    return Agents(tools.settings, tools.process)


MAKERS: Final[Mapping[str, Callable[[Toolbox], Awaitable[Service]]]] = {
    "agents": _agents,
    "dns": _dns,
    "mailbox": _mailbox,
}


async def assemble(names: Sequence[str], settings: Settings, process: str, stack: AsyncExitStack) -> list[Service]:
    """The services called ``names``, ready to run; their tools are closed with ``stack``.

    Raises:
        SetupError: there is no such service, or the machine lacks something.
        DepescheError: a tool could not be made.
    """
    check_names(tuple(names))
    tools = Toolbox(settings, process, stack)
    return [await MAKERS[name](tools) for name in names]
