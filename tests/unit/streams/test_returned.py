"""What the stage says of a unit that came back: the same fact is the same event, and it is no second end."""

from dataclasses import replace

from depesche.analytics.archive.keyring import DataKey
from depesche.analytics.units.lookup import KnownUnit
from depesche.schemas.identity import new_job_id, person_key
from depesche.schemas.records import EventType, ReturnedDetail, ReturnedMail
from depesche.schemas.reply_classes import Kind, ReplyClass
from depesche.schemas.vocabulary import ANNOTATIONS_FROM, FINAL_TYPES
from depesche.streams.mail.returns.meaning import Fact
from depesche.streams.mail.returns.report import Action, Reply, Report, Source, verdict
from depesche.streams.stages.returned import MAX_WORDS, Pen, event_of, id_of

JOB = new_job_id()
UNIT = KnownUnit(
    unit_id=f"{JOB}.0",
    job_id=JOB,
    tenant="10001",
    account="a",
    recipient_key="0" * 32,
    provider="gmx",
    sender_domain="shop.example",
    recipient_domain="example.org",
    recipient="ada@example.org",
    last_sequence=102,
    last_attempt=2,
    final_event="the delivery",
    events=frozenset(),
)
MAIL = ReturnedMail(
    returned_id="r", received_at=7, size=1, sha256=b"", content=(), key_id="_returns/1", sealed_envelope=b""
)
PEN = Pen(DataKey("10001/20261127", b"k" * 32), b"", "returns-a")


def bounced(reply_class: ReplyClass = ReplyClass.RECIPIENT_UNKNOWN, words: str = "no such user") -> Fact:
    said = verdict(reply_class, Kind.HARD, "words:x", suppress=True)
    report = Report("ada@example.org", Action.FAILED, Reply(550, "5.1.1", words, host="mx.example"), said, Source.DSN)
    return Fact(EventType.BOUNCED, report)


def test_the_same_fact_in_other_words_and_from_another_place_is_the_same_event() -> None:
    one = event_of(UNIT, bounced(), MAIL, "mail.returns/0/1", PEN)
    two = event_of(UNIT, bounced(words="unknown user"), replace(MAIL, received_at=9), "mail.returns/1/5", PEN)
    assert one.event_id == two.event_id == id_of(UNIT.unit_id, bounced())
    others = {
        id_of(UNIT.unit_id, bounced(ReplyClass.MAILBOX_FULL)),
        id_of(f"{JOB}.1", bounced()),
        id_of(UNIT.unit_id, replace(bounced(), type=EventType.COMPLAINED)),
    }
    assert one.event_id not in others
    assert len(others) == 3


def test_it_annotates_what_has_ended() -> None:
    event = event_of(UNIT, bounced(), MAIL, "mail.returns/0/1", PEN)
    assert (event.sequence, event.attempt, event.cause_id) == (ANNOTATIONS_FROM, 2, "the delivery")
    later = event_of(replace(UNIT, last_sequence=ANNOTATIONS_FROM + 4), bounced(), MAIL, "mail.returns/0/1", PEN)
    assert later.sequence == ANNOTATIONS_FROM + 5
    assert event.type in FINAL_TYPES
    assert isinstance(event.detail, ReturnedDetail)
    assert (event.detail.suppress, event.detail.reporter, event.detail.place) == (
        True,
        "mx.example",
        "mail.returns/0/1",
    )


def test_nothing_personal_stands_in_clear_and_a_person_has_a_key_only_where_suppression_is_global() -> None:
    event = event_of(UNIT, bounced(words="ada@example.org is gone " * 500), MAIL, "mail.returns/0/1", PEN)
    assert b"ada@" not in repr(event).encode()
    assert event.person_key is None
    assert len(event.sealed_personal) < MAX_WORDS + 200
    shared = event_of(UNIT, bounced(), MAIL, "mail.returns/0/1", replace(PEN, pepper=b"p"))
    assert shared.person_key == person_key(b"p", "ada@example.org")
    erased = event_of(replace(UNIT, recipient=""), bounced(), MAIL, "mail.returns/0/1", replace(PEN, pepper=b"p"))
    assert erased.person_key is None
