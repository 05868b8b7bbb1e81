"""What ClickHouse says of the same extent of the log, added up by ClickHouse itself (invariant I7).

Events are compared up to the very offsets that were read, so mail may go on meanwhile. Units and states have no such edge:
units that have gone on since are left out, and the totals are taken again if more have gone on in between.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from depesche.analytics.audit.checks import Books, StateKey
from depesche.analytics.audit.extent import Extent, Place, Progress
from depesche.analytics.audit.ledger import Side
from depesche.analytics.audit.report import Findings
from depesche.analytics.queries.results import rfc3339
from depesche.analytics.store.client import StoreClient
from depesche.analytics.store.offsets import stored_offsets
from depesche.schemas.topics import DEAD, EVENTS, OUTCOMES

STORED = (EVENTS.name, OUTCOMES.name, DEAD.name)
SECONDS = 600.0
_TRIES = 5
_HOUR = "toUnixTimestamp(toStartOfHour(accepted_at, 'UTC')) * 1000"
_WITHIN = """source_offset < arrayElement({offsets:Array(UInt64)},
    indexOf({places:Array(String)}, concat(source_topic, '/', toString(source_partition))) + 1)"""
_FROM = "accepted_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')"
_EVENTS = f"""SELECT tenant, {_HOUR} AS hour, type, count(), sum(CRC32(toString(event_id))) FROM events FINAL
WHERE {_WITHIN} AND {_FROM} GROUP BY tenant, hour, type"""  # noqa: S608  (texts of this file only)
_LATER = f"SELECT DISTINCT unit_id FROM events WHERE NOT ({_WITHIN})"  # noqa: S608  (texts of this file only)
_UNITS = f"""SELECT tenant, {_HOUR} AS hour, count(), sum(CRC32(unit_id)), sum(size) FROM units FINAL
WHERE {_FROM} AND unit_id NOT IN ({_LATER}) GROUP BY tenant, hour"""  # noqa: S608  (texts of this file only)
_STATES = f"""SELECT tenant, {_HOUR} AS hour, status, final, count(), sum(CRC32(unit_id)) FROM states FINAL
WHERE {_FROM} AND unit_id NOT IN ({_LATER})
GROUP BY tenant, hour, status, final"""  # noqa: S608  (texts of this file only)
_LETTERS = "SELECT count() FROM dead_letters FINAL"


@dataclass(slots=True)
class StoreTotals:
    """What ClickHouse holds, keyed as in ``Books`` and ``Side``.

    Attributes:
        behind: for each partition how many records are missing.
        unsettled: units that have gone on since the extent was taken.
        settled: whether units and states are of one moment.
    """

    events: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)
    units: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    states: dict[StateKey, list[int]] = field(default_factory=dict)
    letters: int = 0
    behind: dict[Place, int] = field(default_factory=dict)
    unsettled: frozenset[str] = frozenset()
    settled: bool = True


class StoreSide:
    """Asks ClickHouse."""

    def __init__(self, client: StoreClient, extent: Extent, since: int) -> None:
        """``since``: only units accepted at or after this time, in milliseconds, are compared."""
        self._client = client
        self._extent = extent
        places = [place for place in extent.ends if place[0] in STORED]
        self._parameters: dict[str, Any] = {
            # Place 1 is for partitions that were not there when the extent was taken: all of theirs is later.
            "offsets": [0, *(extent.ends[place] for place in places)],
            "places": [f"{topic}/{number}" for topic, number in places],
            "since": since,
        }

    async def totals(self, wait_seconds: float, progress: Progress) -> StoreTotals:
        """Everything, once ClickHouse has caught up or ``wait_seconds`` are over.

        Raises:
            StoreUnavailableError: ClickHouse does not answer.
        """
        found = StoreTotals(behind=await self._catch_up(wait_seconds, progress))
        for tenant, hour, kind, count, check in await self._rows(_EVENTS):
            found.events[str(tenant), int(hour), str(kind)] = [int(count), int(check)]
        found.letters = int((await self._rows(_LETTERS))[0][0])
        await self._settled(found)
        return found

    async def _settled(self, found: StoreTotals) -> None:
        for _ in range(_TRIES):
            before = await self._later()
            units, states = await self._rows(_UNITS), await self._rows(_STATES)
            found.unsettled = await self._later()
            found.settled = before == found.unsettled
            found.units = {(str(tenant), int(hour)): [int(n) for n in numbers] for tenant, hour, *numbers in units}
            found.states = {
                (str(tenant), int(hour), str(status), bool(final)): [int(count), int(check)]
                for tenant, hour, status, final, count, check in states
            }
            if found.settled:
                return

    async def _later(self) -> frozenset[str]:
        return frozenset(str(unit) for (unit,) in await self._rows(_LATER))

    async def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        used = {name: value for name, value in self._parameters.items() if f"{{{name}:" in sql}
        return (await self._client.query(sql, used, seconds=SECONDS)).rows

    async def _catch_up(self, wait_seconds: float, progress: Progress) -> dict[Place, int]:
        deadline = time.monotonic() + wait_seconds
        whole = self._extent.total(STORED)
        while True:
            known = await stored_offsets(self._client)
            behind = {
                place: end - max(known.get(place, 0), self._extent.begins[place])
                for place, end in self._extent.ends.items()
                if place[0] in STORED and known.get(place, 0) < end > self._extent.begins[place]
            }
            progress("waiting for ClickHouse", whole - sum(behind.values()), whole)
            if not behind or time.monotonic() > deadline:
                return behind
            await asyncio.sleep(0.2)


def compare(found: StoreTotals, books: Books, side: Side, since: int, findings: Findings) -> None:
    """Note every difference between ClickHouse and the log."""
    for (topic, number), count in found.behind.items():
        findings.add("store_behind", f"{topic}/{number}: {count}", count)
    if found.behind:
        # Totals would differ for this reason alone, and say nothing more.
        return
    wanted = {key: value for key, value in side.events.items() if key[1] >= since}
    for event in sorted(wanted.keys() | found.events.keys()):
        _differ(findings, "store_events", event, wanted.get(event, [0, 0]), found.events.get(event, [0, 0]))
    if found.letters < len(side.letters):
        # More is no difference: they have no edge, and may have come since.
        findings.add("store_dead_letters", f"log {len(side.letters)}, ClickHouse {found.letters}")
    if not found.settled:
        return
    units = {key: value for key, value in books.units.items() if key[1] >= since}
    for unit in sorted(units.keys() | found.units.keys()):
        _differ(findings, "store_units", unit, units.get(unit, [0, 0, 0]), found.units.get(unit, [0, 0, 0]))
    states = {key: value for key, value in books.states.items() if key[1] >= since}
    for state in sorted(states.keys() | found.states.keys()):
        _differ(findings, "store_states", state, states.get(state, [0, 0]), found.states.get(state, [0, 0]))


def _differ(findings: Findings, kind: Any, key: tuple[Any, ...], log: list[int], store: list[int]) -> None:
    if log == store:
        return
    words = [str(part) for part in (key[0], rfc3339(key[1]), *key[2:])]
    same = " (the same number, but not the same ones)" if log[0] == store[0] else ""
    findings.add(kind, f"{' '.join(words)}: log {log[0]}, ClickHouse {store[0]}{same}", max(abs(log[0] - store[0]), 1))
