"""Runs the Faust app as one of our services: alone in its process, because a fold that must die takes the process along.

A watchdog ends it when records wait and none is committed: once, after a broker that had stood still for longer than a session,
Faust was thrown out of its group, said that it joined anew, and took nothing any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import faust
import structlog
from aiokafka.structs import TopicPartition
from faust.tables.manager import TableManager
from faust.types import TopicT

from depesche.analytics.log.client import full_name
from depesche.analytics.log.sums import read_sums
from depesche.analytics.warmup.pools import PoolBook
from depesche.schemas.settings import Settings
from depesche.streams.agents.app import APP_ID, build_app, client_of, die
from depesche.streams.agents.outcomes import Outcomes
from depesche.streams.agents.pace import Pace
from depesche.streams.agents.rates import Rates
from depesche.streams.agents.sieve import Sieve
from depesche.streams.agents.suppression import Suppressions
from depesche.streams.agents.transport import Consumer
from depesche.streams.agents.warmup import Warmup
from depesche.streams.runner.parts import until_one_ends
from depesche.streams.runner.watchdog import LagWitness, StalledError, Watchdog

log = structlog.get_logger(__name__)

START_SECONDS = 60.0
PATIENCE_SECONDS = 60.0
"""As long as a start may take: whoever restores tables after a change of members needs no longer."""


class Agents:
    """All folds in one Faust app."""

    name = "agents"

    def __init__(self, settings: Settings, member: str = "1", patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Prepare to run.

        Args:
            settings: where the log is.
            member: name that this worker keeps over restarts; two live workers never share one.
            patience_seconds: how long records may wait while none is committed.
        """
        self._settings = settings
        self._member = member
        self._patience = patience_seconds

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
            await until_one_ends(app.wait_until_stopped(), self._watchdog(app).watch())
            die("the Faust app has stopped by itself")
        except StalledError as fault:
            # A Faust that stands still does not stop either.
            die("the Faust app stands still", fault)
        finally:
            await app.stop()
            await pools.stop()

    def _watchdog(self, app: faust.App) -> Watchdog:
        consumer = cast(Consumer, app.consumer)
        changelogs = app.tables.changelog_topics
        topics = sorted({topic for agent in app.agents.values() for topic in cast(TopicT, agent.channel).topics})

        def owned() -> set[TopicPartition]:
            return {TopicPartition(*place) for place in consumer.assignment() if place.topic not in changelogs}

        group, client_id = full_name(self._settings.kafka, APP_ID), client_of(self._member)
        witness = LagWitness(self._settings, group, client_id, topics, owned)
        return Watchdog(consumer.committed, witness, lambda: None, self._patience)
