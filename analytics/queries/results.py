"""What questions give back: frozen values with times in milliseconds, and their JSON form with RFC 3339 times.

Field names are the words of the log; ``to_json`` is what REST answers and the command line prints.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

import orjson

from depesche.schemas.errors import InvalidRequestError


class Answer(Protocol):
    """Something with a JSON form."""

    def to_json(self) -> dict[str, Any]:
        """The value as JSON has it."""
        ...


T = TypeVar("T", bound=Answer)
T2 = TypeVar("T2")


def rfc3339(ms: int | None) -> str | None:
    """A time in milliseconds since 1970 UTC as text, with milliseconds and Z."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(value: Any) -> dict[str, Any]:
    """Fields by name; a field ``x_at`` is a time."""
    found = {one.name: getattr(value, one.name) for one in fields(value)}
    return {name: rfc3339(item) if name.endswith("_at") else item for name, item in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One unit as a search finds it: what was accepted, and where it stands.

    Personal fields are empty when they have expired or the person was erased.
    """

    unit_id: str
    job_id: str
    tenant: str
    account: str
    accepted_at: int
    interface: str
    recipient: str
    recipient_domain: str
    mail_from: str
    header_from: str
    sender_domain: str
    subject: str
    client: str
    message_id: str
    size: int
    reference_job: str
    reference: str
    cost_center: str
    campaign_id: str
    expires_at: int | None
    status: str
    final: bool
    changed_at: int | None
    attempts: int
    provider: str
    host: str
    reason: str
    code: int
    enhanced_code: str
    reply_class: str
    kind: str
    reply_text: str
    next_attempt_at: int | None
    ambiguous: bool

    def to_json(self) -> dict[str, Any]:
        """The unit as JSON has it."""
        return _json(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of a unit, as the log tells it. ``detail`` is what only its type has."""

    event_id: str
    type: str
    unit_id: str
    job_id: str
    tenant: str
    account: str
    occurred_at: int
    sequence: int
    attempt: int
    final: bool
    worker: str
    provider: str
    recipient: str
    recipient_domain: str
    reason: str
    stage: str
    host: str
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
    next_attempt_at: int | None
    ambiguous: bool
    reply_text: str
    transcript: str
    finding: str
    detail: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The event as JSON has it."""
        return _json(self)


@dataclass(frozen=True, slots=True)
class Story:
    """A unit with all its events in order."""

    unit: Hit
    events: tuple[Event, ...]

    def to_json(self) -> dict[str, Any]:
        """The story as JSON has it."""
        return {"unit": self.unit.to_json(), "events": [event.to_json() for event in self.events]}


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a long answer. ``next_cursor`` asks for the part after it; None: this was the last."""

    items: tuple[T, ...]
    next_cursor: str | None

    def to_json(self) -> dict[str, Any]:
        """The page as JSON has it."""
        return {
            "data": [item.to_json() for item in self.items],
            "next_cursor": self.next_cursor,
            "has_more": self.next_cursor is not None,
        }


def cursor_of(place: Any) -> str:
    """A place in an answer as text that means nothing to anybody else."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).rstrip(b"=").decode()


def place_of(cursor: str, read: Callable[[Any], T2]) -> T2:
    """The place that ``cursor_of`` was given.

    Args:
        cursor: what the caller sent back.
        read: makes the place of the parsed value; may raise what Python raises for a wrong type or value.

    Raises:
        InvalidRequestError: it is none of our cursors.
    """
    try:
        return read(orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, binascii.Error) as fault:
        raise InvalidRequestError("a cursor of nobody", public="The cursor is not valid", pointer="cursor") from fault
