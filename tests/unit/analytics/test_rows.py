"""From events to rows: what fits is there, what a person asked to forget is not, and a record that cannot be is told apart."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.analytics.store.batch import Item, event_blocks, letter_blocks, spans, token_of
from depesche.analytics.store.rows import EventRows, accepted_at_of, is_final, rank_of
from depesche.schemas.codec import encode
from depesche.schemas.errors import ContentLostError
from depesche.schemas.identity import event_id, new_job_id, unit_id
from depesche.schemas.records import (
    AcceptedDetail,
    AttemptDetail,
    EventType,
    FailedDetail,
    Interface,
    MailEvent,
    Personal,
    ReturnedDetail,
    ScannedDetail,
)
from depesche.schemas.vocabulary import ANNOTATIONS_FROM

NOW = 1_795_400_000_000
JOB = new_job_id(NOW)
ATTEMPT = AttemptDetail(
    host="mx",
    remote_ip="192.0.2.1",
    source_ip="",
    tls="",
    code=451,
    enhanced_code="4.2.0",
    step="rcpt",
    reply_class="later",
    kind="soft",
    queue_id="",
    millis=3,
    next_attempt_at=NOW + 60_000,
)
ACCEPTED = AcceptedDetail(
    interface=Interface.REST,
    message_id="m@x",
    size=5,
    body_sha256=b"",
    content=(),
    block=0,
    expires_at=NOW + 1,
)


class Keys:
    """A keyring whose one key seals nothing."""

    def __init__(self, *, erased: bool = False) -> None:
        self.erased = erased

    def key(self, key_id: str) -> "Keys":
        if self.erased:
            raise ContentLostError("erased")
        return self

    def open(self, sealed: bytes, aad: bytes) -> bytes:
        assert aad.startswith(b"event|")
        return sealed


@dataclass
class Record:
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = None


def event(kind: str, sequence: int, attempt: int = 0, **more: object) -> MailEvent:
    unit = unit_id(JOB, 0)
    made = MailEvent(
        event_id=event_id(unit, kind, attempt),
        type=EventType(kind),
        unit_id=unit,
        job_id=JOB,
        tenant="1",
        account="a",
        recipient_key="ab",
        occurred_at=NOW + sequence,
        sequence=sequence,
        attempt=attempt,
        worker="w",
    )
    return replace(made, **more)  # type: ignore[arg-type]


def items(*events: MailEvent) -> list[Item]:
    return [Item("mail.events", Record(0, number, encode(one))) for number, one in enumerate(events)]


def rows_of(keys: Keys, *events: MailEvent) -> EventRows:
    rows = EventRows(keys)
    for offset, one in enumerate(events):
        rows.add("mail.events", 3, offset, encode(one))
    return rows


def test_one_unit_gives_one_row_each_of_what_was_accepted_and_where_it_stands() -> None:
    personal = encode(Personal(recipient="Ada@example.org", subject="Grüße", mail_from="s@x"))
    accepted = event("accepted", 10, detail=ACCEPTED, sealed_personal=personal, key_id="1/20261123")
    scanned = event("scanned", 20, detail=ScannedDetail(engines=("clamav/1",), millis=4))
    deferred = event("deferred", 101, 1, detail=ATTEMPT, provider="example.org")
    # Told in another order than it happened.
    tables = rows_of(Keys(), deferred, accepted, scanned).tables()
    assert tables.events.num_rows == 3
    unit = tables.units.to_pylist()
    assert [(row["recipient"], row["subject"], row["size"], row["interface"]) for row in unit] == [
        ("Ada@example.org", "Grüße", 5, "rest")
    ]
    state = tables.states.to_pylist()
    assert [(row["status"], row["attempts"], row["code"], row["provider"]) for row in state] == [
        ("deferred", 1, 451, "example.org")
    ]
    assert state[0]["next_attempt_at"].timestamp() * 1000 == NOW + 60_000
    assert {row["accepted_at"].timestamp() * 1000 for row in tables.events.to_pylist()} == {NOW}
    told = {row["type"]: row for row in tables.events.to_pylist()}
    assert told["scanned"]["detail"] == '{"engines":["clamav/1"],"millis":4}'
    assert told["deferred"]["source_partition"] == 3
    assert told["deferred"]["detail"] == ""


def test_which_tls_policy_was_in_force_is_told_with_the_attempt() -> None:
    attempted = event("deferred", 101, 1, detail=replace(ATTEMPT, tls_policy="sts-enforce"))
    [row] = rows_of(Keys(), attempted).tables().events.to_pylist()
    assert row["detail"] == '{"tls_policy":"sts-enforce"}'


def test_what_nobody_can_open_leaves_a_row_without_the_person() -> None:
    sealed = event("accepted", 10, detail=ACCEPTED, sealed_personal=encode(Personal(recipient="a@b")), key_id="1/1")
    rows = rows_of(Keys(erased=True), sealed)
    assert rows.tables().units.to_pylist()[0]["recipient"] is None
    assert rows.erased == 1


RETURNED = ReturnedDetail(
    source="dsn",
    place="mail.returns/0/7",
    code=550,
    enhanced_code="5.1.1",
    reply_class="recipient_unknown",
    kind="hard",
)


def test_of_what_happens_after_the_end_only_a_late_bounce_changes_where_a_unit_stands() -> None:
    final = event("delivered", 102, 2, detail=ATTEMPT)
    late = event("bounced", ANNOTATIONS_FROM, 2, detail=RETURNED)
    complained = event("complained", ANNOTATIONS_FROM + 1, 2, detail=RETURNED)
    again = event("delivered", ANNOTATIONS_FROM + 2, 2, detail=ATTEMPT)
    opened = event("opened", ANNOTATIONS_FROM + 3, 2)
    for told in ((final, complained, again, opened), (late, opened, final, complained, again)):
        tables = rows_of(Keys(), *told).tables()
        [state] = tables.states.to_pylist()
        assert (state["status"], state["final"]) == ("bounced" if late in told else "delivered", True)
        assert sum(row["final"] for row in tables.events.to_pylist()) == 1
    assert (state["code"], state["reply_class"], state["kind"], state["attempts"]) == (
        550,
        "recipient_unknown",
        "hard",
        2,
    )


@pytest.mark.parametrize("kind", ["complained", "unsubscribed", "opened"])
def test_a_batch_of_nothing_but_annotations_has_events_and_no_states(kind: str) -> None:
    detail = None if kind == "opened" else RETURNED
    tables = rows_of(Keys(), event(kind, ANNOTATIONS_FROM, 2, detail=detail)).tables()
    assert (tables.events.num_rows, tables.units.num_rows, tables.states.num_rows) == (1, 0, 0)
    blocks, poison = event_blocks(items(event(kind, ANNOTATIONS_FROM, 2, detail=detail)), Keys())
    assert ([block.table for block in blocks], poison) == (["events"], [])


def test_what_a_report_said_stands_in_its_event_and_where_it_lies_does_not() -> None:
    told = event("bounced", ANNOTATIONS_FROM, 2, detail=replace(RETURNED, reporter="mx.example.org", suppress=True))
    [row] = rows_of(Keys(), told).tables().events.to_pylist()
    assert (row["code"], row["enhanced_code"], row["host"], row["final"]) == (550, "5.1.1", "mx.example.org", False)
    assert row["detail"] == (
        '{"source":"dsn","feedback_type":"","rule":"","rules_version":0,"suppress":true,"place":"mail.returns/0/7"}'
    )


@given(st.permutations(range(5)))
def test_the_last_step_stands_whatever_the_order_of_telling(order: list[int]) -> None:
    told = [
        event("accepted", 10, detail=ACCEPTED),
        event("scanned", 20, detail=ScannedDetail(engines=(), millis=0)),
        event("deferred", 101, 1, detail=ATTEMPT),
        event("failed", 103, 3, detail=FailedDetail(code="content_lost", stage="deliver")),
        event("deferred", 104, 4, detail=ATTEMPT),
    ]
    states = rows_of(Keys(), *(told[number] for number in order)).tables().states.to_pylist()
    assert [(row["status"], row["final"], row["reason"]) for row in states] == [("failed", True, "content_lost")]


def test_of_two_tellings_of_a_step_the_first_in_the_log_stands() -> None:
    first = event("delivered", 101, 1, detail=ATTEMPT, worker="first")
    second = replace(first, occurred_at=NOW + 5_000)
    states = rows_of(Keys(), first, second).tables().states.to_pylist()
    assert states[0]["changed_at"].timestamp() * 1000 == first.occurred_at


@pytest.mark.parametrize("job", ["", "x" * 36, JOB[:14] + "4" + JOB[15:], "ffffffff-ffff-7fff-8fff-ffffffffffff"])
def test_an_id_that_tells_no_time_is_refused(job: str) -> None:
    with pytest.raises(ValueError, match="job id"):
        accepted_at_of(f"{job}.0", job)


def test_a_unit_of_another_job_is_refused() -> None:
    with pytest.raises(ValueError, match="not of this job"):
        accepted_at_of(unit_id(new_job_id(NOW + 1), 0), JOB)


@given(
    st.lists(
        st.sampled_from(["good", "no event", "another job", "attempt too large", "negative size", "nothing"]),
        max_size=12,
    )
)
def test_exactly_the_records_that_cannot_be_are_told_apart(kinds: list[str]) -> None:
    def value(kind: str) -> bytes | None:
        good = event("accepted", 10, detail=ACCEPTED)
        made = {
            "good": good,
            "another job": replace(good, unit_id="x.0"),
            "attempt too large": replace(good, attempt=70_000),
            "negative size": replace(good, detail=replace(ACCEPTED, size=-1)),
        }.get(kind)
        return encode(made) if made else (None if kind == "nothing" else b"no event")

    told = [Item("mail.events", Record(0, offset, value(kind))) for offset, kind in enumerate(kinds)]
    blocks, poison = event_blocks(told, Keys())
    assert {one.item.record.offset for one in poison} == {n for n, kind in enumerate(kinds) if kind != "good"}
    assert sum(block.rows.num_rows for block in blocks if block.table == "events") == kinds.count("good")
    assert all(block.token == token_of(block.items) for block in blocks)


def test_no_records_give_no_rows() -> None:
    assert event_blocks([], Keys()) == ([], [])
    assert letter_blocks([]) == ([], [])


def test_the_token_stands_for_the_places_and_nothing_else() -> None:
    some = items(event("accepted", 10, detail=ACCEPTED), event("scanned", 20))
    assert token_of(some) == token_of(list(some))
    assert token_of(some) != token_of(some[:1])
    other = [Item("mail.outcomes", item.record) for item in some]
    assert token_of(other) != token_of(some)
    assert spans([*some, *other]) == {("mail.events", 0): (0, 1), ("mail.outcomes", 0): (0, 1)}


def test_final_steps_outrank_all_others() -> None:
    assert rank_of("bounced", 101) > (rank_of("deferred", ANNOTATIONS_FROM - 1) or 0)  # type: ignore[operator]
    assert rank_of("opened", 101) is None
    assert rank_of("delivered", ANNOTATIONS_FROM) is None
    assert rank_of("bounced", ANNOTATIONS_FROM) > (rank_of("delivered", ANNOTATIONS_FROM - 1) or 0)  # type: ignore[operator]
    assert not is_final("bounced", ANNOTATIONS_FROM)
    assert is_final("dropped", 20)
    assert not is_final("deferred", 101)
