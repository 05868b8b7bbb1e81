"""Units, events and rates as the API shows them. The fields are those of the queries' results; a test holds them equal.

Texts are empty and numbers 0 where there is nothing to say; what names people is empty when it has expired or was erased.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

Time = datetime


class UnitState(BaseModel):
    """One recipient of one mail: what was accepted, and where it stands."""

    unit_id: str
    job_id: str
    tenant: str = Field(description="Customer number.")
    account: str
    accepted_at: Time
    interface: str = Field(description="The front door: rest or smtp.")
    recipient: str
    recipient_domain: str
    mail_from: str
    header_from: str
    sender_domain: str
    subject: str
    client: str = Field(description="Address of the submitting machine.")
    message_id: str
    size: int = Field(description="Bytes; billing counts units of 200 KB of it.")
    reference_job: str
    reference: str
    cost_center: str
    campaign_id: str
    expires_at: Time | None = Field(description="When delivery is given up.")
    status: str = Field(
        description="The last step, such as accepted, deferred, delivered, bounced, dropped. A mail that came back after "
        "it had been delivered is bounced."
    )
    final: bool = Field(description="Whether that is the end of its way.")
    changed_at: Time | None
    attempts: int
    provider: str
    host: str = Field(description="Mail server that answered last.")
    reason: str = Field(description="Why it was dropped or failed.")
    code: int = Field(description="Last reply code; 0: none.")
    enhanced_code: str
    reply_class: str
    kind: str
    reply_text: str
    next_attempt_at: Time | None
    ambiguous: bool = Field(description="Nobody can know whether the far side took it.")


class EventOut(BaseModel):
    """One step of a unit, as the log tells it."""

    event_id: str
    type: str
    unit_id: str
    job_id: str
    tenant: str
    account: str
    occurred_at: Time
    sequence: int = Field(description="Grows within a unit.")
    attempt: int
    final: bool = Field(description="Whether it ended the unit's way; what came back later (a late bounce) does not.")
    worker: str
    provider: str
    recipient: str
    recipient_domain: str
    reason: str
    stage: str
    host: str = Field(description="Mail server that answered, or who reported what came back.")
    remote_ip: str
    source_ip: str
    tls: str
    code: int
    enhanced_code: str
    step: str
    reply_class: str
    kind: str
    queue_id: str
    millis: int
    next_attempt_at: Time | None
    ambiguous: bool
    reply_text: str
    transcript: str
    finding: str
    detail: dict[str, Any] = Field(description="What only this type of event has.")


class StoryOut(BaseModel):
    """A unit with all its events in order."""

    unit: UnitState
    events: list[EventOut]


class UnitPage(BaseModel):
    """A page of units."""

    data: list[UnitState]
    next_cursor: str | None = Field(description="`cursor` of the next page; null: this was the last one.")
    has_more: bool


class Stories(BaseModel):
    """The stories of at most 200 units."""

    data: list[StoryOut]
    has_more: bool = Field(description="Whether there are more than 200; ask for those unit by unit.")


class OutcomeCount(BaseModel):
    """How many events of a type there were at a provider, in the time that begins at `minute`."""

    minute: Time
    type: str
    provider: str
    count: int


class OutcomeCounts(BaseModel):
    """Counts in order of time; nothing where nothing happened."""

    since: Time
    until: Time
    step: str
    data: list[OutcomeCount]


class RateOut(BaseModel):
    """How delivery went in the window that begins at `start`, and the rates with what they are shares of."""

    start: Time
    tenant: str = Field(description="Customer number; empty: all that the key may see, added up.")
    provider: str = Field(description="Mailbox provider; empty: all of them, added up.")
    sent: int = Field(description="Units whose way ended out there: delivered, refused at the door, or given up.")
    delivered: int
    soft_bounced: int = Field(description="Refused for good, or came back, for any reason but the next two.")
    hard_bounced: int = Field(description="Refused for good, or came back, because the address is dead.")
    blocked: int = Field(description="Refused for good, or came back, because sender or mail are unwelcome.")
    returned: int = Field(description="Those of the three that came back after they had been delivered.")
    expired: int = Field(description="Given up after their time was over.")
    deferred: int = Field(description="Attempts that are made again.")
    complained: int = Field(description="Complaints of recipients.")
    answered: int = Field(description="Delivered and bounced: what the hard-bounce rate is a share of.")
    hard_bounce_rate: float | None = Field(description="hard_bounced / answered; null where nothing was answered.")
    complaint_rate: float | None = Field(description="complained / delivered, at most 1.")


class RateList(BaseModel):
    """Rates in order of time; nothing where nothing happened."""

    since: Time
    until: Time
    window: str
    by: str
    data: list[RateOut]
