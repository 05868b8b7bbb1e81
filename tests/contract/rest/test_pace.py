"""The pace over REST: for operators only, and what the book says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx

from depesche.analytics.pace.book import PaceBook
from depesche.analytics.pace.rows import row_of
from depesche.api.rest.app import build_app
from depesche.api.rest.models_pace import PaceCauseOut, PaceOut
from depesche.schemas.records import PaceAction, PaceCause, PaceState
from depesche.schemas.service import now_ms

from .conftest import ROOT, a_world

HOUR = 3_600_000


def _state(provider: str, ends_at: int | None, suspended_until: int | None = None) -> PaceState:
    return PaceState(
        decision_id=f"decision of {provider}",
        pool="shared",
        provider=provider,
        at=now_ms() - HOUR,
        action=PaceAction.SUSPENDED if suspended_until else PaceAction.LOWERED,
        per_minute=14.0,
        connections=5,
        suspended_until=suspended_until,
        ends_at=ends_at,
        reason="rate_limited",
        causes=(PaceCause(event_id="e", unit_id="u.0", reply_class="rate_limited", code=421, count=3),),
    )


async def test_an_operator_sees_what_is_limited_and_why(tmp_path: Path) -> None:
    world = await a_world(tmp_path)
    book = PaceBook(world.tools.settings)
    now = now_ms()
    book.apply(_state("gmail", now + HOUR))
    book.apply(_state("yahoo", now + 2 * HOUR, now + HOUR))
    book.apply(_state("gmx", now - 1))
    app = build_app(replace(world.tools, pace=book))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ROOT) as client:
        answer = await client.get("/v1/pace", headers=world.as_operator)
        assert answer.status_code == 200
        rows = {row["provider"]: row for row in answer.json()["data"]}
        assert {provider: row["state"] for provider, row in rows.items()} == {"gmail": "limited", "yahoo": "suspended"}
        assert rows["gmail"]["causes"][0] == {
            "event_id": "e",
            "unit_id": "u.0",
            "reply_class": "rate_limited",
            "code": 421,
            "count": 3,
        }
        every = (await client.get("/v1/pace?all=true", headers=world.as_operator)).json()["data"]
        assert {row["provider"]: row["state"] for row in every}["gmx"] == "free"
        for row in every:
            PaceOut.model_validate(row)
        # It tells about other customers' mail, so a customer's key may not see it.
        assert (await client.get("/v1/pace", headers=world.bearer)).status_code == 403
        assert (await client.get("/v1/pace")).status_code == 401
    await world.client.aclose()
    without = build_app(replace(world.tools, pace=None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=without), base_url=ROOT) as client:
        assert (await client.get("/v1/pace", headers=world.as_operator)).status_code == 503


def test_the_model_has_the_fields_of_the_rows() -> None:
    row = row_of(_state("gmail", None), now_ms())
    assert list(PaceOut.model_fields) == list(row)
    assert list(PaceCauseOut.model_fields) == list(row["causes"][0])
