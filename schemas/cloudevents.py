"""CloudEvents 1.0 headers in Kafka's binary mode, so that a reader filters without decoding (design section 3)."""

from __future__ import annotations

from datetime import UTC, datetime

from depesche.schemas.records import MailEvent

Headers = list[tuple[str, bytes]]

_FIXED: Headers = [("ce_specversion", b"1.0"), ("ce_source", b"/depesche"), ("content-type", b"application/avro")]


def headers(id_: str, type_: str, subject: str, time_ms: int, traceparent: str | None = None) -> Headers:
    """The headers of one record.

    Args:
        id_: event id.
        type_: ``email.`` and the event type.
        subject: the unit or job it is about.
        time_ms: when it happened, milliseconds since 1970 UTC.
        traceparent: W3C trace context, if there is one.
    """
    moment = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    own = [
        ("ce_id", id_.encode()),
        ("ce_type", type_.encode()),
        ("ce_subject", subject.encode()),
        ("ce_time", moment.encode()),
    ]
    trace = [("traceparent", traceparent.encode())] if traceparent else []
    return [*_FIXED, *own, *trace]


def of_event(event: MailEvent) -> Headers:
    """The headers of an event record."""
    return headers(event.event_id, f"email.{event.type.value}", event.unit_id, event.occurred_at)
