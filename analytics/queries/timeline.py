"""The life of a mail: every event of a unit, of all units of a job, or of whatever has a message id."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from depesche.analytics.queries import values
from depesche.analytics.queries.grammar import Query, Term
from depesche.analytics.queries.results import Event, Hit, Story
from depesche.analytics.queries.scope import Question, Scope
from depesche.analytics.queries.search import MAX_LIMIT, Place, Search
from depesche.analytics.store.client import StoreClient
from depesche.schemas.identity import job_of
from depesche.schemas.service import Clock, now_ms

EVENT = """toString(event_id) AS event_id, type, unit_id, tenant, account, toUnixTimestamp64Milli(occurred_at) AS occurred_ms,
    sequence, attempt, final, worker, provider, recipient, recipient_domain, reason, stage, host, remote_ip, source_ip, tls,
    code, enhanced_code, step, reply_class, kind, queue_id, millis, toUnixTimestamp64Milli(next_attempt_at) AS next_attempt_ms,
    ambiguous, reply_text, transcript, finding, detail"""
_STORY = f"""SELECT {EVENT} FROM events FINAL
WHERE (accepted_at, unit_id) IN (SELECT fromUnixTimestamp64Milli(pair.1, 'UTC'), pair.2
    FROM (SELECT arrayJoin(arrayZip({{times:Array(Int64)}}, {{units:Array(String)}})) AS pair))
ORDER BY unit_id, sequence, occurred_at, event_id"""  # noqa: S608  (texts of this file only)


class Timeline:
    """Tells stories."""

    def __init__(self, client: StoreClient, clock: Clock = now_ms) -> None:
        self._client = client
        self._search = Search(client, clock)

    async def of(self, scope: Scope, id_: str, limit: int = MAX_LIMIT) -> list[Story]:
        """The stories of at most ``limit`` units that ``id_`` names, in the order of their numbers; none: empty.

        Args:
            scope: whose units.
            id_: of a unit, of a job, or a message id with or without angle brackets.
            limit: 1 to 200.

        Raises:
            InvalidRequestError: the limit is wrong.
            StoreUnavailableError: ClickHouse does not answer.
        """
        id_ = id_.strip()
        job, unit = values.job_id(id_), values.unit_id(id_)
        # An id tells the time; a story is told as long as its events are kept, however old.
        since = values.time_of(unit or job or "") if unit or job else None
        finding = self._search.find(scope, Query(Term("id", id_), since=since), limit)
        if unit:
            # One unit's events need not wait for what else is known of it.
            page, events = await asyncio.gather(finding, self._events(scope, [(values.time_of(unit), unit)]))
            return [Story(hit, tuple(events.get(hit.unit_id, ()))) for hit in page.items]
        hits = sorted((await finding).items, key=_in_order)
        events = await self._events(scope, [(hit.accepted_at, hit.unit_id) for hit in hits])
        return [Story(hit, tuple(events.get(hit.unit_id, ()))) for hit in hits]

    async def _events(self, scope: Scope, places: Sequence[Place]) -> dict[str, list[Event]]:
        if not places:
            return {}
        times, units = zip(*places, strict=True)
        parameters = {"times": list(times), "units": list(units)}
        answer = await Question(scope, _STORY, parameters).ask(self._client)
        found: dict[str, list[Event]] = {}
        for row in answer.named():
            found.setdefault(row["unit_id"], []).append(event_of(row))
        return found


def event_of(row: dict[str, Any]) -> Event:
    """The event in a row with the columns of ``EVENT``."""
    detail = row.pop("detail")
    times = {"occurred_at": row.pop("occurred_ms"), "next_attempt_at": row.pop("next_attempt_ms")}
    return Event(job_id=job_of(row["unit_id"]), detail=orjson.loads(detail) if detail else {}, **times, **row)


def _in_order(hit: Hit) -> tuple[str, int]:
    return hit.job_id, int(hit.unit_id.partition(".")[2])
