"""Runs the Faust app as one of our services: alone in its process, because a fold that must die takes the process along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import structlog
from faust.tables.manager import TableManager

from depesche.analytics.log.sums import read_sums
from depesche.analytics.warmup.pools import PoolBook
from depesche.schemas.settings import Settings
from depesche.streams.agents.app import build_app, die
from depesche.streams.agents.outcomes import Outcomes
from depesche.streams.agents.pace import Pace
from depesche.streams.agents.rates import Rates
from depesche.streams.agents.sieve import Sieve
from depesche.streams.agents.suppression import Suppressions
from depesche.streams.agents.warmup import Warmup

log = structlog.get_logger(__name__)

START_SECONDS = 60.0


class Agents:
    """All folds in one Faust app."""

    name = "agents"

    def __init__(self, settings: Settings, member: str = "1") -> None:
        self._settings = settings
        self._member = member

    async def run(self, ready: Callable[[], None]) -> None:
        """See ``schemas.service.Service``. Ready when the tables are recovered and the agents are fed."""
        app, pools = build_app(self._settings, self._member), PoolBook(self._settings)
        rates = Rates(app, self._settings, lambda since: read_sums(self._settings, since))
        warmup = Warmup(app, self._settings, pools)
        Outcomes(app, self._settings, [rates, Suppressions(app, self._settings), Sieve(app, self._settings), warmup])
        Pace(app, self._settings)
        app.finalize()
        try:
            # Before the first outcome: the fold must know which addresses are cold.
            await pools.start()
            # Inside: a start that is cancelled halfway leaves tasks that only the app's own stop ends.
            await app.start()
            async with asyncio.timeout(START_SECONDS):
                await cast(TableManager, app.tables).recovery.completed.wait()
            ready()
            await app.wait_until_stopped()
            die("the Faust app has stopped by itself")
        finally:
            await app.stop()
            await pools.stop()
