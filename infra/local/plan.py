"""What ``depesche up`` does on this machine with these settings: the steps of the start and what each waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from depesche.infra import layout
from depesche.infra.local import kafka_jars, programs, sandbox
from depesche.infra.local.board import Board
from depesche.infra.local.part import Part
from depesche.infra.local.reservations import require_all_free, reservations
from depesche.infra.local.seed import Demo, seed
from depesche.infra.local.steps import Step
from depesche.infra.local.supervisor import Program, Supervisor
from depesche.schemas.errors import SetupError
from depesche.schemas.settings import Settings

_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has of the system's programs.

    Attributes:
        parts: those that run.
        absent: title and reason of those that do not.
        overrides: environment of our processes that follows from it.
    """

    parts: tuple[Part, ...]
    absent: tuple[tuple[str, str], ...]
    overrides: Mapping[str, str]

    @property
    def names(self) -> frozenset[str]:
        """Names of the parts that run."""
        return frozenset(part.name for part in self.parts)


def inspect(settings: Settings) -> Machine:
    """Find out what of the system's programs can run here and is wanted.

    Raises:
        SetupError: ClamAV is the only scanner that the settings name, and it is missing.
    """
    parts: list[Part] = []
    absent: list[tuple[str, str]] = []
    overrides: dict[str, str] = {}
    if settings.sandbox.enabled:
        postfix = sandbox.postfix(settings)
        reason = postfix.available()
        if reason is None:
            parts.append(postfix)
        else:
            absent.append(("Postfix", f"{reason}; mail for inbox.test lands in the sandbox's mailbox instead"))
    if "clamav" in settings.scan.engines and not settings.scan.clamd:
        clamd = programs.clamd(settings)
        reason = clamd.available()
        if reason is None:
            parts.append(clamd)
        elif len(settings.scan.engines) == 1:
            raise SetupError(f"ClamAV is the only scanner in scan.engines: {reason}.", fix="Install it, or add yara.")
        else:
            absent.append(("ClamAV", f"{reason}; mail is scanned by YARA-X only"))
            overrides["DEPESCHE_SCAN__ENGINES"] = ",".join(e for e in settings.scan.engines if e != "clamav")
    return Machine(tuple(parts), tuple(absent), overrides)


class Plan:
    """The steps of one start. ``demo`` is known once they are done."""

    def __init__(self, settings: Settings, supervisor: Supervisor, board: Board) -> None:
        self.demo: Demo | None = None
        self._settings = settings
        self._supervisor = supervisor
        self._board = board

    def steps(self) -> list[Step]:
        """Check the ports, write the zone, and say what is to be done.

        Raises:
            LocalFault, SetupError: something stands in the way; nothing has been started.
        """
        settings = self._settings
        machine = inspect(settings)
        own = layout.processes(settings)
        wanted = reservations(settings, with_postfix="postfix" in machine.names, with_clamd="clamd" in machine.names)
        require_all_free(wanted, settings.port_offset)
        for title, reason in machine.absent:
            self._board.absent(title, reason)
        steps = [*self._log(), *self._store()]
        steps += [self._start(programs.part_program(part), part.name) for part in machine.parts]
        steps += self._own(own, machine.overrides)
        if settings.sandbox.enabled:
            sandbox.write_zone(settings, with_postfix="postfix" in machine.names)
            steps.append(Step("seed", "demo customer", self._seed, ("topics",)))
        return steps

    def _log(self) -> list[Step]:
        topics = Step(
            "topics", "topics of the log", self._topics, () if self._settings.kafka.bootstrap else ("broker",)
        )
        if self._settings.kafka.bootstrap:
            return [topics]
        return [
            Step("jars", "Apache Kafka's published jars", self._fetch_jars),
            self._start(programs.broker_program(self._settings), "Apache Kafka", ("jars",)),
            topics,
        ]

    def _store(self) -> list[Step]:
        tables = Step(
            "tables", "tables of the store", self._tables, () if self._settings.clickhouse.url else ("engine",)
        )
        if self._settings.clickhouse.url:
            return [tables]
        return [self._start(programs.engine_program(self._settings), "ClickHouse"), tables]

    def _own(self, own: Iterable[layout.Process], overrides: Mapping[str, str]) -> list[Step]:
        embedded = {"log": not self._settings.kafka.bootstrap, "store": not self._settings.clickhouse.url}
        server, step = {"log": "broker", "store": "engine"}, {"log": "topics", "store": "tables"}
        steps = []
        for process in own:
            needs = sorted(process.needs)
            after = tuple(server[need] for need in needs if embedded[need])
            program = programs.own_program(process, self._settings, overrides, after)
            title = f"{process.name} ({', '.join(process.services)})" if len(process.services) > 1 else process.name
            steps.append(self._start(program, title, tuple(step[need] for need in needs)))
        return steps

    def _start(self, program: Program, title: str, after: tuple[str, ...] = ()) -> Step:
        async def action() -> str:
            await self._supervisor.start(program)
            return ""

        return Step(program.name, title, action, after)

    async def _fetch_jars(self) -> str:
        def progress(name: str, done: int, total: int) -> None:
            self._board.note("jars", f"{done / _MB:.1f} of {total / _MB:.1f} MB  {name}")

        jars = await asyncio.to_thread(kafka_jars.fetch, programs.kafka(self._settings).jars, progress)
        return f"{len(jars)} jars, each with the pinned SHA-256"

    async def _topics(self) -> str:
        from depesche.analytics.log.topics import correct, create_missing, mismatches

        created = await create_missing(self._settings)
        if not self._settings.kafka.bootstrap:
            await correct(self._settings)
        wrong = await mismatches(self._settings)
        if wrong:
            raise SetupError(
                "The log is not as it must be: " + "; ".join(map(str, wrong)) + ".",
                fix="Correct the topics with Kafka's tools, or set kafka.topic_prefix to have our own.",
            )
        return f"{len(created)} created" if created else "as declared"

    async def _tables(self) -> str:
        from depesche.analytics.store.client import StoreClient
        from depesche.analytics.store.migrate import bootstrap

        client = StoreClient(self._settings, "depesche-up")
        try:
            steps = await bootstrap(client, self._settings)
        finally:
            await client.close()
        return f"{len(steps)} steps" if steps else "up to date"

    async def _seed(self) -> str:
        self.demo = await seed(self._settings)
        return f"sends as {self.demo.domain}"
