"""What happens now: the events that have come into the store since a cursor, each once and none left out.

The cursor is a place in the log, not a time: for each partition the next offset. Rows of one partition come in the order of
their offsets, so nothing can slip in behind a cursor. The time at which rows were written only narrows the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from depesche.analytics.queries.compile import KEY, Compiler
from depesche.analytics.queries.grammar import Query
from depesche.analytics.queries.results import Event, cursor_of, place_of
from depesche.analytics.queries.scope import Question, Scope
from depesche.analytics.queries.timeline import EVENT, event_of
from depesche.analytics.store.client import StoreClient
from depesche.analytics.store.offsets import Place
from depesche.schemas.errors import InvalidRequestError
from depesche.schemas.topics import EVENTS, OUTCOMES

MAX_EVENTS = 1_000
_SLACK_MS = 600_000
_NEW = """written_at >= fromUnixTimestamp64Milli({written:Int64}, 'UTC')
    AND source_offset >= arrayElement({offsets:Array(UInt64)},
        indexOf({places:Array(String)}, concat(source_topic, '/', toString(source_partition))) + 1)"""
_STORED = """SELECT topic, partition, max(next_offset), toUnixTimestamp64Milli(max(written_at)) FROM sink_offsets
WHERE has({topics:Array(String)}, topic) GROUP BY topic, partition"""
_PLACES = "source_topic, source_partition, source_offset, toUnixTimestamp64Milli(written_at) AS written_ms"


@dataclass(frozen=True, slots=True)
class Position:
    """How far somebody has followed. ``written_at``: when the newest row seen was written, in milliseconds."""

    offsets: Mapping[Place, int]
    written_at: int

    def cursor(self) -> str:
        """As text, for the one who follows."""
        return cursor_of([self.written_at, [[topic, number, next_] for (topic, number), next_ in self.offsets.items()]])

    @classmethod
    def of(cls, cursor: str) -> Position:
        """The position in a cursor.

        Raises:
            InvalidRequestError: it is none.
        """
        return place_of(cursor, _position)


@dataclass(frozen=True, slots=True)
class Followed:
    """New events in the order in which they happened, and the cursor after them. ``more``: ask again at once."""

    events: tuple[Event, ...]
    cursor: str
    more: bool

    def to_json(self) -> dict[str, Any]:
        """The events as JSON has them."""
        return {"data": [event.to_json() for event in self.events], "next_cursor": self.cursor, "has_more": self.more}


class Tail:
    """Follows the log through the store."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client

    async def now(self) -> str:
        """The cursor of what comes from now on (or came within the last second).

        Raises:
            StoreUnavailableError: ClickHouse does not answer.
        """
        return (await self._stored()).cursor()

    async def since(self, scope: Scope, query: Query, cursor: str, limit: int = 200) -> Followed:
        """The events after ``cursor`` that match, at most ``limit`` (1 to 1,000).

        What a search says of a status, a code or a provider is here about each event, and the rest about its unit.

        Raises:
            InvalidRequestError: the cursor or the limit is wrong.
            StoreUnavailableError: ClickHouse does not answer.
        """
        if not 1 <= limit <= MAX_EVENTS:
            raise InvalidRequestError("limit", public=f"The limit is 1 to {MAX_EVENTS}", pointer="limit")
        start = Position.of(cursor)
        stored = await self._stored()
        answer = await Question(scope, *_statement(query, start, limit)).ask(self._client)
        rows = answer.named()
        offsets, written = dict(start.offsets), start.written_at
        if len(rows) < limit:
            # All that was stored before the question has been seen, whether it matched or not.
            written = max(written, stored.written_at)
            offsets |= {place: max(offsets.get(place, 0), next_) for place, next_ in stored.offsets.items()}
        events: dict[str, Event] = {}
        for row in rows:
            place = (row.pop("source_topic"), row.pop("source_partition"))
            offsets[place] = max(offsets.get(place, 0), row.pop("source_offset") + 1)
            written = max(written, row.pop("written_ms"))
            events.setdefault(row["event_id"], event_of(row))
        ordered = sorted(events.values(), key=lambda event: (event.occurred_at, event.unit_id, event.sequence))
        return Followed(tuple(ordered), Position(offsets, written).cursor(), len(rows) == limit)

    async def _stored(self) -> Position:
        answer = await self._client.query(_STORED, {"topics": [EVENTS.name, OUTCOMES.name]})
        offsets = {(str(topic), int(number)): int(next_) for topic, number, next_, _ in answer.rows}
        return Position(offsets, max((int(row[3]) for row in answer.rows), default=0))


def _statement(query: Query, start: Position, limit: int) -> tuple[str, dict[str, Any]]:
    places = list(start.offsets)
    parameters: dict[str, Any] = {
        # Place 1 is for partitions that the cursor does not know: all of theirs is new.
        "offsets": [0, *(start.offsets[place] for place in places)],
        "places": [f"{topic}/{number}" for topic, number in places],
        "written": max(start.written_at - _SLACK_MS, 0),
        "most": limit,
    }
    conditions = [_NEW]
    if query.expression is not None:
        bounds = f"{KEY} IN (SELECT accepted_at, unit_id FROM events WHERE {_NEW})"  # noqa: S608  (values are bound)
        conditions.append(Compiler("events", bounds, parameters).condition(query.expression))
    for name, moment, sign in (("since", query.since, ">="), ("until", query.until, "<")):
        if moment is not None:
            parameters[name] = moment
            conditions.append(f"occurred_at {sign} fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')")
    # Offsets in order within each partition: what the limit cuts off comes with the next cursor.
    order = "ORDER BY source_offset, source_topic, source_partition LIMIT {most:UInt32}"
    sql = f"SELECT {EVENT}, {_PLACES} FROM events WHERE {' AND '.join(conditions)} {order}"  # noqa: S608
    return sql, parameters


def _position(value: Any) -> Position:
    written, offsets = value
    known = {(str(topic), int(number)): int(next_) for topic, number, next_ in offsets}
    if any(number < 0 or next_ < 0 for (_, number), next_ in known.items()):
        raise ValueError("negative")
    return Position(known, int(written))
