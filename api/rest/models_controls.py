"""An operator's orders, and what waits, as the API shows and takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from depesche.api.rest.models_directory import CustomerId, Given

ActionWord = Literal["suspend", "drop", "reroute", "retry"]
ByWord = Literal["provider", "pool", "customer", "account", "campaign", "domain", "sender-domain", "rung", "why"]
Word = Annotated[str, Field(min_length=1, max_length=255)]


class ScopeIn(Given):
    """Which mail an order is about: what fits every field that is given."""

    customer: CustomerId | None = None
    account: Word | None = None
    campaign: Word | None = Field(None, description="Needs customer or account beside it.")
    provider: Word | None = Field(None, examples=["gmail"])
    domain: Word | None = Field(None, description="Recipient domain.")
    sender_domain: Word | None = None
    pool: Word | None = Field(None, description="Egress pool.")


class ControlNew(Given):
    """An order to be given."""

    action: ActionWord
    scope: ScopeIn = ScopeIn.model_validate({})
    all: bool = Field(False, description="Must be true for an order without a scope: it is about everything.")
    to_pool: Word | None = Field(None, description="Of reroute: the pool that takes the mail.")
    until: datetime | None = Field(None, description="When it ends by itself; null: when it is lifted.")
    reason: str = Field("", max_length=500, description="Why; kept with the order and with each mail it cancels.")


class ScopeOut(BaseModel):
    """Which mail an order is about."""

    customer: str | None
    account: str | None
    campaign: str | None
    provider: str | None
    domain: str | None
    sender_domain: str | None
    pool: str | None


class ControlOut(BaseModel):
    """An order."""

    id: str
    action: str
    about: str = Field(description="The scope in words.")
    scope: ScopeOut
    to_pool: str
    state: str = Field(description="holds, lifted, over (its time was up), or done (of retry).")
    at: datetime
    until: datetime | None
    by: str
    reason: str
    changed_at: datetime
    changed_by: str


class ControlList(BaseModel):
    """The orders, the newest first."""

    data: list[ControlOut]


class GroupOut(BaseModel):
    """Units that wait and have a trait in common."""

    name: str
    waiting: int
    with_couriers: int = Field(description="How many of them with their courier, and not on the ladder.")
    oldest_seconds: int = Field(description="How long ago the oldest was accepted.")
    next_in_seconds: int | None = Field(description="When the first one on the ladder is tried; null: none is there.")
    why: dict[str, int] = Field(description="The most frequent reasons: a reply, no room, suspended, scheduled, new.")


class QueueOut(BaseModel):
    """What waits, counted from the log."""

    by: ByWord
    waiting: int
    data: list[GroupOut]
