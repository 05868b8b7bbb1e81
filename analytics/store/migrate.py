"""Builds the tables: numbered, forward-only steps in ``ddl/``, each run once and remembered with its checksum.

A step that has run is history and is never edited; a change is a new step. Every statement can be repeated, so that a
step that was interrupted is simply run again. ``tables/`` has the shape that all steps together must give.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

import pyarrow as pa

from depesche.analytics.store.client import StoreClient
from depesche.schemas.errors import SetupError
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import ClickHouseSettings, Settings

_FILE = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql\Z")
_ENGINE = re.compile(r"\{engine:(?P<family>\w+MergeTree|MergeTree)(?:\((?P<arguments>[^{}]*)\))?\}")
_COMMENT = re.compile(r"^--.*\n?", re.MULTILINE)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MIGRATIONS = """CREATE TABLE IF NOT EXISTS migrations {on_cluster}
(
    number UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC')
)
ENGINE = {engine:ReplacingMergeTree(applied_at)}
ORDER BY number"""


@dataclass(frozen=True, slots=True)
class Step:
    """One numbered step.

    Attributes:
        number: its place, from 1.
        name: what it makes, in words of the file name.
        template: SQL with the placeholders ``{on_cluster}``, ``{engine:...}`` and ``{deduplication}``.
    """

    number: int
    name: str
    template: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the template, so that an edit is noticed."""
        return hashlib.sha256(self.template.encode()).hexdigest()

    def statements(self, settings: ClickHouseSettings) -> list[str]:
        """The SQL to run, for one server or for a cluster."""
        sql = rendered(_COMMENT.sub("", self.template), settings)
        return [statement.strip() for statement in sql.split(";\n") if statement.strip(" \n;")]

    def __str__(self) -> str:
        return f"{self.number:04d} {self.name}"


@dataclass(frozen=True, slots=True)
class StepStatus:
    """A step and when it ran, in milliseconds since 1970 UTC; None: not yet."""

    step: Step
    applied_at: int | None


def rendered(template: str, settings: ClickHouseSettings) -> str:
    """Fill in the placeholders: nothing for one server, ``ON CLUSTER`` and Replicated engines for a cluster.

    A cluster here is one shard with replicas; ``{uuid}``, ``{shard}`` and ``{replica}`` are ClickHouse's own macros.

    Raises:
        SetupError: the cluster's or database's name is no identifier.
    """
    for name in filter(None, (settings.cluster, settings.database)):
        if not _IDENTIFIER.match(name):
            raise SetupError(
                f"{name!r} is no name for a cluster or database.", fix="Use letters, digits and underscores."
            )
    cluster = bool(settings.cluster)

    def engine(match: re.Match[str]) -> str:
        family, arguments = match["family"], match["arguments"] or ""
        if not cluster:
            return f"{family}({arguments})" if arguments else family
        place = "'/clickhouse/tables/{uuid}/{shard}', '{replica}'"
        return f"Replicated{family}({place}{', ' + arguments if arguments else ''})"

    # A replicated table remembers its last blocks by itself.
    window = "" if cluster else ", non_replicated_deduplication_window = 1000"
    text = template.replace(" {on_cluster}", f" ON CLUSTER {settings.cluster}" if cluster else "")
    return _ENGINE.sub(engine, text).replace("{deduplication}", window)


def steps() -> tuple[Step, ...]:
    """All steps in order.

    Raises:
        SetupError: a number is missing or there twice.
    """
    found = []
    for file in resources.files("depesche.analytics.store.ddl").iterdir():
        match = _FILE.match(file.name)
        if match:
            found.append(Step(int(match["number"]), match["name"], file.read_text("utf-8")))
    found.sort(key=lambda step: step.number)
    if [step.number for step in found] != list(range(1, len(found) + 1)):
        raise SetupError("The steps in analytics/store/ddl are not numbered 1, 2, 3 ...", fix="Number them anew.")
    return tuple(found)


async def status(client: StoreClient) -> list[StepStatus]:
    """Every step with when it ran here.

    Raises:
        SetupError: the store has steps that we do not know or that were edited since.
        StoreUnavailableError: it cannot be asked.
    """
    applied = await _applied(client)
    known = steps()
    for step in known:
        if step.number in applied and applied[step.number][0] != step.checksum:
            raise SetupError(
                f"Step {step} was changed after it had been run here.",
                fix="Put the file back as it was and write the change as a new step.",
            )
    last = max(applied, default=0)
    if last > len(known):
        raise SetupError(f"The tables were made by a newer Depesche (step {last}).", fix="Run that version or a later.")
    if set(applied) != set(range(1, last + 1)):
        raise SetupError("A step was left out in this store.", fix="Restore the table migrations from a backup.")
    return [StepStatus(step, applied[step.number][1] if step.number in applied else None) for step in known]


async def plan(client: StoreClient) -> list[Step]:
    """The steps that have not run here yet; raises as ``status`` does."""
    return [found.step for found in await status(client) if found.applied_at is None]


async def apply(client: StoreClient, clock: Clock = now_ms) -> list[Step]:
    """Run the steps that have not run here yet, in order; gives them. Raises as ``status`` does."""
    await client.command(rendered(_MIGRATIONS, client.settings))
    pending = await plan(client)
    for step in pending:
        for statement in step.statements(client.settings):
            await client.command(statement)
        await client.insert("migrations", _record(step, clock()), f"migration-{step.number}-{step.checksum}")
    return pending


async def bootstrap(client: StoreClient, settings: Settings) -> list[Step]:
    """Create the database if it is missing and bring its tables up to date; gives the steps that ran.

    Several processes may do this at once. Raises as ``status`` does.
    """
    clickhouse = settings.clickhouse
    database = rendered(f"CREATE DATABASE IF NOT EXISTS {clickhouse.database} {{on_cluster}}", clickhouse)
    await client.command(database, anywhere=True)
    return await apply(client)


async def shapes(client: StoreClient) -> dict[str, str]:
    """Table name to its definition as ClickHouse tells it, without the database's name."""
    tables = await client.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND name != 'migrations' ORDER BY name"
    )
    found = {}
    for (name,) in tables.rows:
        shown = await client.query(f"SHOW CREATE TABLE {name}")
        found[name] = str(shown.rows[0][0]).replace(f"{client.database}.", "") + "\n"
    return found


async def _applied(client: StoreClient) -> dict[int, tuple[str, int]]:
    there = await client.query(
        "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'migrations'"
    )
    if not there.rows[0][0]:
        return {}
    found = await client.query(
        "SELECT number, checksum, toUnixTimestamp64Milli(applied_at) FROM migrations FINAL ORDER BY number"
    )
    return {int(number): (str(checksum), int(at)) for number, checksum, at in found.rows}


def _record(step: Step, at_ms: int) -> pa.Table:
    return pa.table(
        {
            "number": pa.array([step.number], pa.uint32()),
            "name": [step.name],
            "checksum": [step.checksum],
            "applied_at": pa.array([at_ms], pa.timestamp("ms", "UTC")),
        }
    )
