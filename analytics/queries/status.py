"""How things stand: units by status, and how far the store is behind the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from depesche.analytics.queries.results import rfc3339
from depesche.analytics.queries.scope import Question, Scope
from depesche.analytics.store.client import StoreClient

_COUNTS = """SELECT status, final, count() AS units FROM states FINAL
WHERE accepted_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND accepted_at < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
GROUP BY status, final ORDER BY units DESC, status"""
_FRESH = "SELECT toUnixTimestamp64Milli(max(written_at)), count() FROM sink_offsets"


@dataclass(frozen=True, slots=True)
class Standing:
    """How many units stand at a status. ``final``: whether that is the end of their way."""

    status: str
    final: bool
    units: int

    def to_json(self) -> dict[str, Any]:
        """The count as JSON has it."""
        return {"status": self.status, "final": self.final, "units": self.units}


@dataclass(frozen=True, slots=True)
class Freshness:
    """When the sink last wrote something, in milliseconds; None: never."""

    written_at: int | None

    def to_json(self) -> dict[str, Any]:
        """The time as JSON has it."""
        return {"written_at": rfc3339(self.written_at)}


class Status:
    """Counts units."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client

    async def of(self, scope: Scope, since: int, until: int) -> list[Standing]:
        """Units accepted in a period (milliseconds since 1970 UTC, end not included) by where they stand, most first.

        Raises:
            StoreUnavailableError: ClickHouse does not answer.
        """
        answer = await Question(scope, _COUNTS, {"since": since, "until": until}).ask(self._client)
        return [Standing(str(status), bool(final), int(units)) for status, final, units in answer.rows]

    async def freshness(self) -> Freshness:
        """When the sink last wrote; nothing of any customer is in it.

        Raises:
            StoreUnavailableError: ClickHouse does not answer.
        """
        answer = await self._client.query(_FRESH)
        written, partitions = answer.rows[0]
        return Freshness(int(written) if partitions else None)
