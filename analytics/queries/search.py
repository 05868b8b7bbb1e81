"""Live Search: find units by whatever is known of them, newest first (mission E3).

Two things keep it quick at a hundred million events. What only few mails can match (ids, recipients, references) is found
by the tables' skip indexes over the whole period. Everything else is looked for in windows that reach back further and
further, because the newest page is nearly always in the first ones and a window costs what it holds, not what the store
holds (20 million units: 5 to 25 ms against 0.3 to 4 s over the whole period).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from depesche.analytics.queries.compile import KEY, Compiler, Table, needles, tables_of
from depesche.analytics.queries.grammar import Expression, Query
from depesche.analytics.queries.results import Hit, Page, cursor_of, place_of
from depesche.analytics.queries.scope import Question, Scope
from depesche.analytics.store.client import StoreClient
from depesche.schemas.errors import InvalidRequestError
from depesche.schemas.identity import job_of
from depesche.schemas.service import Clock, now_ms

DAY_MS = 86_400_000
RETENTION_DAYS = 45
MAX_LIMIT = 200
WINDOWS_MS = (900_000, 2 * 3_600_000, 16 * 3_600_000, 5 * DAY_MS)

Row = dict[str, Any]
Place = tuple[int, str]
"""Time of acceptance in milliseconds and unit id."""

_UNIT = """unit_id, tenant, toUnixTimestamp64Milli(accepted_at) AS accepted_ms, account, interface, recipient,
    recipient_domain, mail_from, header_from, sender_domain, subject, client, message_id, size, reference_job, reference,
    cost_center, campaign_id, toUnixTimestamp64Milli(expires_at) AS expires_ms"""
_STATE = """unit_id, tenant, toUnixTimestamp64Milli(accepted_at) AS accepted_ms, account, sender_domain, recipient_domain,
    status, final, toUnixTimestamp64Milli(changed_at) AS changed_ms, attempts, provider, host, reason, code, enhanced_code,
    reply_class, kind, reply_text, toUnixTimestamp64Milli(next_attempt_at) AS next_attempt_ms, ambiguous"""
_COLUMNS: dict[Table, str] = {"units": _UNIT, "states": _STATE}
_SOURCES: dict[Table, str] = {"units": "units", "states": "states FINAL"}
_BOUNDS = """accepted_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND accepted_at < fromUnixTimestamp64Milli({until:Int64}, 'UTC')"""
_BEFORE = f"{KEY} < (fromUnixTimestamp64Milli({{before_at:Int64}}, 'UTC'), {{before_unit:String}})"
_THESE = f"""{KEY} IN (SELECT fromUnixTimestamp64Milli(pair.1, 'UTC'), pair.2
    FROM (SELECT arrayJoin(arrayZip({{times:Array(Int64)}}, {{units:Array(String)}})) AS pair))"""  # noqa: S608  (texts of this file only)
_ABSENT_UNIT: Row = {
    **dict.fromkeys(("interface", "recipient", "mail_from", "header_from", "subject", "client", "message_id"), ""),
    **dict.fromkeys(("reference_job", "reference", "cost_center", "campaign_id"), ""),
    "size": 0,
    "expires_ms": None,
}
_ABSENT_STATE: Row = {
    **dict.fromkeys(("provider", "host", "reason", "enhanced_code", "reply_class", "kind", "reply_text"), ""),
    **dict.fromkeys(("attempts", "code"), 0),
    **dict.fromkeys(("changed_ms", "next_attempt_ms"), None),
    **dict.fromkeys(("final", "ambiguous"), False),
    "status": "accepted",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A search made ready: the table it reads and the condition on it."""

    home: Table
    condition: str
    parameters: dict[str, Any]
    whole: bool

    @property
    def sql(self) -> str:
        """The statement; ``since``, ``until``, ``most`` are still to be bound, and the place it goes on from."""
        source = f"SELECT {_COLUMNS[self.home]} FROM {_SOURCES[self.home]}"  # noqa: S608  (texts of this file)
        return f"{source} WHERE {_BOUNDS} AND {self.condition} ORDER BY accepted_at DESC, unit_id DESC LIMIT {{most:UInt32}}"


class Search:
    """Finds units."""

    def __init__(self, client: StoreClient, clock: Clock = now_ms) -> None:
        self._client = client
        self._clock = clock

    async def find(self, scope: Scope, query: Query, limit: int = 50, cursor: str | None = None) -> Page[Hit]:
        """The newest units that match, at most ``limit`` (1 to 200), from ``cursor`` on.

        Without a period it looks at the 45 days for which search is kept.

        Raises:
            InvalidRequestError: the limit or the cursor is wrong.
            StoreUnavailableError: ClickHouse does not answer.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidRequestError("limit", public=f"The limit is 1 to {MAX_LIMIT}", pointer="limit")
        before = place_of(cursor, _place) if cursor else None
        now = self._clock()
        since = query.since if query.since is not None else now - RETENTION_DAYS * DAY_MS
        # Another machine's clock may be ahead of ours; what it accepted is still the newest.
        until = min(query.until if query.until is not None else now + DAY_MS, before[0] + 1 if before else 1 << 45)
        statement = prepared(query.expression, before)
        found: dict[str, Row] = {}
        newest, high, step = min(until, now), until, 0
        while high > since and len(found) <= limit:
            low = since if statement.whole else max(reach(newest, step), since)
            before_this = len(found)
            if low < high:
                await self._look(scope, statement, (low, high), limit + 1, found)
                high = low
            # Where little was found, the next small step would find little too.
            step += 1 if (len(found) - before_this) * 8 > limit else 2
        rows = list(found.values())[:limit]
        hits = await self._completed(scope, statement.home, rows)
        last = (rows[-1]["accepted_ms"], rows[-1]["unit_id"]) if len(found) > limit else None
        return Page(hits, cursor_of(last) if last else None)

    async def units(self, scope: Scope, places: Sequence[Place]) -> tuple[Hit, ...]:
        """The units at these places, newest first; places where there is none are left out.

        Raises:
            StoreUnavailableError: ClickHouse does not answer.
        """
        rows = await self._rows(scope, "units", places)
        return await self._completed(scope, "units", sorted(rows.values(), key=_newest_first, reverse=True))

    async def _look(
        self, scope: Scope, statement: Statement, window: tuple[int, int], wanted: int, found: dict[str, Row]
    ) -> None:
        """Add what a window holds to ``found``, until it holds ``wanted`` or the window is empty."""
        most = wanted - len(found)
        while True:
            parameters = {**statement.parameters, "since": window[0], "until": window[1], "most": most}
            answer = await Question(scope, statement.sql, parameters).ask(self._client)
            for row in answer.named():
                found.setdefault(row["unit_id"], row)
            if len(answer.rows) < most or len(found) >= wanted:
                return
            # Some were the same unit, written twice and not merged yet.
            most *= 2

    async def _completed(self, scope: Scope, home: Table, rows: Sequence[Row]) -> tuple[Hit, ...]:
        """Rows of one table with what the other knows."""
        if not rows:
            return ()
        places = [(row["accepted_ms"], row["unit_id"]) for row in rows]
        other: Table = "states" if home == "units" else "units"
        more = await self._rows(scope, other, places)
        absent = {**_ABSENT_UNIT, **_ABSENT_STATE}
        return tuple(_hit({**absent, **row, **more.get(row["unit_id"], {})}) for row in rows)

    async def _rows(self, scope: Scope, table: Table, places: Sequence[Place]) -> dict[str, Row]:
        if not places:
            return {}
        times, units = zip(*places, strict=True)
        sql = f"SELECT {_COLUMNS[table]} FROM {_SOURCES[table]} WHERE {_THESE}"  # noqa: S608  (texts of this file only)
        answer = await Question(scope, sql, {"times": list(times), "units": list(units)}).ask(self._client)
        return {row["unit_id"]: row for row in answer.named()}


def prepared(expression: Expression | None, before: Place | None) -> Statement:
    """The statement for a search that goes on at ``before``."""
    parameters: dict[str, Any] = {"before_at": before[0], "before_unit": before[1]} if before else {}
    edge = f"{_BEFORE} AND " if before else ""
    if expression is None:
        return Statement("units", f"{edge}1", parameters, whole=False)
    tables = tables_of(expression, "units")
    home: Table = "states" if "states" in tables and "units" not in tables else "units"
    needle = needles(expression)
    compiler = Compiler(home, _BOUNDS, parameters)
    if needle is not None and not tables:
        # The other tables need only be asked about the few units that the needle leaves.
        few = compiler.condition(needle)
        left = f"SELECT accepted_at, unit_id FROM units WHERE {_BOUNDS} AND {few}"  # noqa: S608  (values are bound)
        compiler.bounds = f"{_BOUNDS} AND {KEY} IN ({left})"
    return Statement(home, edge + compiler.condition(expression), compiler.parameters, whole=needle is not None)


def reach(newest: int, step: int) -> int:
    """How far back the windows of a search reach after so many steps, in milliseconds since 1970 UTC."""
    return newest - WINDOWS_MS[step] if step < len(WINDOWS_MS) else 0


def _place(value: Any) -> Place:
    at, unit = value
    return int(at), str(unit)


def _newest_first(row: Row) -> Place:
    return row["accepted_ms"], row["unit_id"]


def _hit(row: Row) -> Hit:
    times = {
        "accepted_at": row.pop("accepted_ms"),
        "expires_at": row.pop("expires_ms"),
        "changed_at": row.pop("changed_ms"),
        "next_attempt_at": row.pop("next_attempt_ms"),
    }
    return Hit(job_id=job_of(row["unit_id"]), **times, **row)
