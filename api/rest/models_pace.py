"""The pace as the API shows it. The fields are those of ``analytics/pace/rows.py``; a test holds them equal."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class PaceCauseOut(BaseModel):
    """An outcome that led to a decision."""

    event_id: str
    unit_id: str
    reply_class: str = Field(description="Class of the answer; empty: it was delivered, or it is an operator's order.")
    code: int = Field(description="SMTP reply code; 0 without one.")
    count: int = Field(description="How many such answers it stands for.")


class PaceOut(BaseModel):
    """The newest decision about a pool at a provider, and what it means now."""

    pool: str
    provider: str
    state: Literal["suspended", "limited", "free"]
    per_minute: float | None = Field(description="Attempts a minute over all couriers; null: no limit.")
    connections: int | None = Field(description="Connections over all couriers; null: no limit.")
    suspended_until: datetime | None
    ends_at: datetime | None = Field(description="When the limit ends unless a new refusal renews it.")
    since: datetime
    action: Literal["lowered", "raised", "lifted", "suspended", "resumed"]
    reason: str = Field(description="Class of the answers behind it, such as rate_limited.")
    meaning: str = Field(description="What that class means.")
    explanation: str
    achieved_per_minute: float | None = Field(description="Delivered in the minute before, as far as known.")
    refused_share: float | None
    decision_id: str
    causes: list[PaceCauseOut]


class PaceList(BaseModel):
    """The pace in force, by pool and provider."""

    data: list[PaceOut]
