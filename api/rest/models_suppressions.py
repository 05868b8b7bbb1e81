"""The suppression list as the API shows and takes it. The fields are those of ``analytics/suppressions/desk.py``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from depesche.api.rest.models_directory import CustomerId, Given
from depesche.api.rest.models_search import Time

ReasonWord = Literal["manual", "bounced", "temporary", "complained", "unsubscribed"]
StateWord = Literal["active", "ended", "pending", "lifted", "all"]
Note = Annotated[str, Field(max_length=500, description="Why, in your words.")]


class SuppressionNew(Given):
    """An address that shall get no more mail."""

    customer: CustomerId | None = Field(None, description="Needed with an operator's key; else it is yours.")
    address: str = Field(min_length=3, max_length=254, examples=["ada@example.org"])
    reason: ReasonWord = Field("manual", description="Why; other than manual: what another system had found out.")
    days: int = Field(0, ge=0, le=3650, description="How long; 0: until lifted.")
    note: Note = ""


class SuppressionEvidenceOut(BaseModel):
    """One fact behind an entry."""

    event_id: str = Field(description="The event, as in an email's story, or the request.")
    type: str = Field(description="Type of the event; request: somebody asked for it.")
    unit_id: str
    at: Time
    host: str = Field(description="Who answered or reported.")
    code: int
    enhanced_code: str
    reply_class: str
    reply_text: str | None = Field(description="The far side's words; kept for the youngest fact, until they expire.")


class SuppressionOut(BaseModel):
    """An entry of the suppression list."""

    address: str | None = Field(description="Null when it has expired or was erased; the entry holds all the same.")
    customer: str
    state: str = Field(description="active, ended, pending (hard bounces are counted, not enough yet) or lifted.")
    reason: str
    code: str = Field(description="What a mail to it is dropped for.")
    reply_class: str
    domain: str
    since: Time | None
    until: Time | None = Field(description="When it ends by itself; null with active: when it is lifted.")
    renewed_at: Time | None = Field(description="When a blocked send renewed it last.")
    blocked: int = Field(description="How many sends it has blocked.")
    hard_bounces: int
    by: str
    note: str
    lifted_at: Time | None
    lifted_by: str
    lifted_note: str
    evidence: list[SuppressionEvidenceOut]


class SuppressionPage(BaseModel):
    """A page of entries."""

    data: list[SuppressionOut]
    next_cursor: str | None = Field(description="`cursor` of the next page; null: this was the last one.")
    has_more: bool


class SuppressionAnswer(BaseModel):
    """Whether a mail to an address would be sent now, and why not."""

    address: str
    would_be_sent: bool
    code: str | None = Field(description="What it would be dropped for.")
    detail: str
    finding: str | None = Field(description="When and why, as the dropped event tells it.")
    suppression: SuppressionOut | None = Field(description="What is known of it, in force or not.")
