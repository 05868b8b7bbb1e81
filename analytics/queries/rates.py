"""How often what happened, each event once however often it was written: counts per type, and what the rates are made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from depesche.analytics.queries.results import rfc3339
from depesche.analytics.queries.scope import Question, Scope
from depesche.analytics.store.client import StoreClient
from depesche.schemas.rates import KINDS, MINUTE_MS, Grain
from depesche.schemas.topics import OUTCOME_TYPES
from depesche.schemas.vocabulary import ANNOTATIONS_FROM

Step = Literal["minute", "hour", "day"]

_STARTS: dict[Step, str] = {"minute": "toStartOfMinute", "hour": "toStartOfHour", "day": "toStartOfDay"}
_HOUR_MS = 3_600_000
# An event is not before its unit's acceptance, but another machine's clock may say so; an hour is far more than that.
_RATES = """SELECT toUnixTimestamp({start}(occurred_at, 'UTC')) * 1000 AS minute, type, provider, count() AS count
FROM events FINAL
WHERE occurred_at >= fromUnixTimestamp64Milli({{since:Int64}}, 'UTC')
    AND occurred_at < fromUnixTimestamp64Milli({{until:Int64}}, 'UTC')
    AND accepted_at < fromUnixTimestamp64Milli({{latest:Int64}}, 'UTC')
    AND has({{types:Array(String)}}, type)
GROUP BY minute, type, provider
ORDER BY minute, type, provider"""
_GRAINS = """SELECT type, if(has({kinds:Array(String)}, said), said, '') AS what,
    type = 'bounced' AND sequence >= {beyond:UInt32} AS late,
    tenant, provider, intDiv(toUnixTimestamp(occurred_at), {step:UInt32}) * {step:UInt32} * 1000 AS start, count() AS count
FROM (
    SELECT type, kind AS said, sequence, tenant, provider, occurred_at
    FROM events FINAL
    WHERE occurred_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
        AND occurred_at < fromUnixTimestamp64Milli({until:Int64}, 'UTC')
        AND accepted_at < fromUnixTimestamp64Milli({latest:Int64}, 'UTC')
        AND has({types:Array(String)}, type)
)
GROUP BY type, what, late, tenant, provider, start"""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many events of a type there were at a provider in the time that begins at ``minute`` (milliseconds)."""

    minute: int
    type: str
    provider: str
    count: int

    def to_json(self) -> dict[str, Any]:
        """The rate as JSON has it."""
        return {"minute": rfc3339(self.minute), "type": self.type, "provider": self.provider, "count": self.count}


class Rates:
    """Counts events."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client

    async def of(
        self,
        scope: Scope,
        since: int,
        until: int,
        *,
        step: Step = "minute",
        types: frozenset[str] = OUTCOME_TYPES,
    ) -> list[Rate]:
        """The counts of a period, in order of time; nothing where nothing happened.

        Args:
            scope: whose events.
            since: begin of the period, in milliseconds since 1970 UTC.
            until: its end, not included.
            step: length of the times that are counted (UTC).
            types: which events.

        Raises:
            StoreUnavailableError: ClickHouse does not answer.
        """
        sql = _RATES.format(start=_STARTS[step])
        parameters = {"since": since, "until": until, "latest": until + _HOUR_MS, "types": sorted(types)}
        answer = await Question(scope, sql, parameters).ask(self._client)
        return [Rate(int(minute), str(kind), str(who), int(count)) for minute, kind, who, count in answer.rows]

    async def grains(self, scope: Scope, since: int, until: int, *, step_ms: int = MINUTE_MS) -> Counter[Grain]:
        """The outcomes of a period as ``schemas.rates`` counts them.

        Args:
            scope: whose events.
            since, until: the period, in milliseconds since 1970 UTC; the end is not included.
            step_ms: how finely time is told apart; ``Grain.minute`` is the begin of such a step.

        Raises:
            StoreUnavailableError: ClickHouse does not answer.
        """
        parameters: dict[str, Any] = {
            "since": since,
            "until": until,
            "latest": until + _HOUR_MS,
            "step": step_ms // 1000,
            "beyond": ANNOTATIONS_FROM,
        }
        parameters |= {"types": sorted(OUTCOME_TYPES), "kinds": list(KINDS)}
        answer = await Question(scope, _GRAINS, parameters).ask(self._client)
        return Counter(
            {
                Grain(str(type_), str(kind), bool(late), str(tenant), str(provider), int(start)): int(count)
                for type_, kind, late, tenant, provider, start, count in answer.rows
            }
        )
