"""What an answer means for a unit, and what the log says about it."""

from dataclasses import replace

import pytest

from depesche.schemas.codec import decode, encode
from depesche.schemas.identity import event_id
from depesche.schemas.records import AttemptDetail, EventType, FailedDetail, MailEvent, MailUnit, Personal
from depesche.schemas.settings import DeliverSettings
from depesche.streams.mail.attempt import Finding, Scribe, next_form
from depesche.streams.mail.reply import queue_id

SEALED: list[tuple[str, str, Personal]] = []


def seal(tenant: str, id_: str, personal: Personal) -> tuple[str, bytes]:
    SEALED.append((tenant, id_, personal))
    return "1/20260101", b"sealed"


def unit(attempt: int = 1, expires_at: int = 10**10) -> MailUnit:
    return MailUnit(
        unit_id="j.0",
        job_id="j",
        tenant="1",
        account="main",
        recipient_key="00ff",
        route="shared/example.org/0",
        provider="example.org",
        sender_domain="shop.test",
        recipient_domain="example.org",
        accepted_at=0,
        expires_at=expires_at,
        due_at=0,
        attempt=attempt,
        sequence=100 + attempt,
        content=(),
        header_size=1,
        size=1,
        signature=b"",
        leading_dots=False,
        eight_bit=False,
        smtputf8=False,
        key_id="1/20260101",
        sealed_envelope=b"x",
    )


def scribe(**changes: object) -> Scribe:
    return Scribe(DeliverSettings.model_validate(changes), "courier-1", seal)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2.0.0 Ok: queued as 4XyZ12abc", "4XyZ12abc"),
        ("OK id=1tEfGh-0001Ab-2C", "1tEfGh-0001Ab-2C"),
        ("2.6.0 <a@b> [InternalId=123456789, Hostname=X] Queued mail for delivery", "123456789"),
        ("2.0.0 OK  1700000000 ffacd0b85a97d-38a9 - gsmtp", "ffacd0b85a97d-38a9"),
        ("2.0.0 Ok: kept in s-17", "s-17"),
        ("2.0.0 Thank you", ""),
        ("x" * 2000, ""),
    ],
)
def test_the_far_sides_queue_id_is_recognised(text: str, found: str) -> None:
    assert queue_id(text) == found


def test_a_delivery_ends_the_unit() -> None:
    done = scribe().conclude(unit(), Finding("dot", 250, "2.0.0", "queued as ABCD", recipient="a@example.org"), 5)
    assert (done.event.type, done.next_unit, done.next_try) == (EventType.DELIVERED, None, None)
    assert done.event.event_id == event_id("j.0", "delivered", 1)
    assert isinstance(done.event.detail, AttemptDetail)
    assert done.event.detail.queue_id == "ABCD"
    assert SEALED[-1] == ("1", done.event.event_id, Personal(recipient="a@example.org", reply_text="queued as ABCD"))
    assert decode(MailEvent, encode(done.event)) == done.event


def test_a_deferral_names_the_next_try_and_the_unit_counts_on() -> None:
    done = scribe().conclude(unit(2), Finding("rcpt", 451, "4.2.0"), 1000)
    assert done.event.type is EventType.DEFERRED
    assert done.next_try is not None
    assert done.next_unit is not None
    assert (done.next_try.rung, done.next_try.due_at) == ("5m", 301_000)
    assert (done.next_unit.attempt, done.next_unit.sequence, done.next_unit.due_at) == (3, 103, 301_000)
    assert done.next_unit.last_reply == "451 4.2.0"
    assert next_form(unit(2), decode(MailEvent, encode(done.event))) == done.next_unit


def test_a_deferral_that_would_come_too_late_is_the_end() -> None:
    done = scribe().conclude(unit(expires_at=50_000), Finding("rcpt", 451, "4.2.0"), 1000)
    assert (done.event.type, done.next_unit) == (EventType.EXPIRED, None)


def test_a_unit_that_expires_for_want_of_tls_says_so_and_what_was_asked() -> None:
    must = replace(unit(), tls="must")
    refused = scribe().conclude(must, Finding("starttls", 0, "4.7.5", "the host offers no TLS"), 1_000)
    assert refused.next_unit is not None
    end = scribe().conclude(refused.next_unit, Finding("", 0, "4.4.7"), 10**10).event
    for event, type_ in ((refused.event, EventType.DEFERRED), (end, EventType.EXPIRED)):
        assert isinstance(event.detail, AttemptDetail)
        assert (event.type, event.detail.reply_class, event.detail.tls_policy) == (type_, "tls", "must")
    busy = replace(must, last_reply="421 4.3.2")
    other = scribe().conclude(busy, Finding("", 0, "4.4.7"), 10**10).event.detail
    assert isinstance(other, AttemptDetail)
    assert other.reply_class == "expired"


def test_an_ambiguous_attempt_is_tried_again_or_held_as_the_settings_say() -> None:
    lost = Finding("dot", ambiguous=True)
    again = scribe().conclude(unit(), lost, 0).event
    held = scribe(after_ambiguity="hold").conclude(unit(), lost, 0)
    assert (again.type, held.event.type, held.next_unit) == (EventType.DEFERRED, EventType.FAILED, None)
    for event in (again, held.event):
        assert isinstance(event.detail, AttemptDetail)
        assert event.detail.ambiguous


def test_what_we_cannot_process_fails() -> None:
    event = scribe().failed(unit(), "content_lost", "deliver", "a@example.org", 7)
    assert (event.type, event.detail) == (EventType.FAILED, FailedDetail(code="content_lost", stage="deliver"))
    assert event.event_id == event_id("j.0", "failed", 1)
