"""The framing and the bytes of records, judged by Apache's own Avro and by round trips."""

import io
import json
import struct

import avro.io
import avro.schema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.schemas import records
from depesche.schemas.codec import codec, decode, encode, event_from, schema_ids, self_contained
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import (
    AcceptedDetail,
    ArchiveRef,
    AttemptDetail,
    AttemptMark,
    AttemptMarks,
    AttemptPhase,
    DroppedDetail,
    DropReason,
    EventType,
    Interface,
    MailEvent,
    RateSum,
)

REF = ArchiveRef(segment="s", offset=1, length=2, size=3, key_id="k")
DETAILS = (
    None,
    AcceptedDetail(
        interface=Interface.SMTP, message_id="a@b", size=1, body_sha256=bytes(32), content=(REF,), block=0, expires_at=5
    ),
    DroppedDetail(reason=DropReason.VIRUS_DETECTED, engine="yara"),
    AttemptDetail(
        host="mx.example",
        remote_ip="::1",
        source_ip="",
        tls="",
        code=250,
        enhanced_code="2.0.0",
        step="dot",
        reply_class="",
        kind="",
        queue_id="",
        millis=3,
        next_attempt_at=9,
    ),
)


def an_event(detail: object = None, **changes: object) -> MailEvent:
    values: dict[str, object] = {
        "event_id": "e", "type": EventType.ACCEPTED, "unit_id": "j.0", "job_id": "j", "tenant": "1", "account": "a",
        "recipient_key": "00ff", "occurred_at": 1_700_000_000_000, "sequence": 10, "attempt": 0, "worker": "w", "detail": detail,
    }  # fmt: skip
    return MailEvent(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("detail", DETAILS, ids=lambda d: type(d).__name__)
def test_an_event_comes_back_as_it_went(detail: object) -> None:
    event = an_event(detail)
    assert event_from(encode(event)) == event


@given(st.text(), st.binary(), st.integers(0, 2**53), st.integers(0, 2**31 - 1))
def test_any_text_bytes_and_number_come_back(text: str, blob: bytes, moment: int, sequence: int) -> None:
    text = text.encode("utf-8", "ignore").decode()
    event = an_event(unit_id=text, sealed_personal=blob, occurred_at=moment, sequence=sequence)
    assert event_from(encode(event)) == event


def test_the_framing_is_a_zero_byte_and_the_schema_id() -> None:
    magic, schema_id = struct.unpack(">BI", encode(an_event())[:5])
    assert (magic, schema_id) == (0, schema_ids()["MailEvent"])


@pytest.mark.parametrize("detail", DETAILS, ids=lambda d: type(d).__name__)
def test_apache_avro_reads_our_bytes_and_writes_the_same(detail: object) -> None:
    schema = avro.schema.parse(json.dumps(self_contained("MailEvent")))
    ours = encode(an_event(detail))[5:]
    read = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(io.BytesIO(ours)))
    assert read["unit_id"] == "j.0"
    out = io.BytesIO()
    avro.io.DatumWriter(schema).write(read, avro.io.BinaryEncoder(out))
    assert out.getvalue() == ours


@pytest.mark.parametrize("name", sorted(schema_ids()))
def test_every_schema_in_the_lock_is_valid_for_apache_avro(name: str) -> None:
    avro.schema.parse(json.dumps(self_contained(name)))
    assert codec(getattr(records, name)).schema_id == schema_ids()[name]


def test_schema_ids_are_unique() -> None:
    ids = schema_ids()
    assert len(set(ids.values())) == len(ids)


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: b"\x01" + value[1:],
        lambda value: value[:4] + b"\x07" + value[5:],
        lambda value: value[:20],
        lambda value: b"",
        lambda value: value[:5] + b"\xff" * 40,
    ],
    ids=["magic", "schema", "cut", "empty", "rubbish"],
)
def test_a_damaged_value_is_refused_by_name(damage: object) -> None:
    with pytest.raises(UndecodableError):
        event_from(damage(encode(an_event(DETAILS[1]))))  # type: ignore[operator]


def test_another_record_is_refused() -> None:
    value = encode(
        RateSum(type=EventType.DELIVERED, provider="gmx", minute=0, source_partition=0, count=1, watermark=0)
    )
    with pytest.raises(UndecodableError):
        event_from(value)


def test_records_in_records_come_back() -> None:
    mark = AttemptMark(unit_id="j.0", tenant="1", attempt=1, phase=AttemptPhase.COMMITTING)
    marks = AttemptMarks(worker="w", occurred_at=1, marks=(mark, mark))
    assert decode(AttemptMarks, encode(marks)) == marks
