"""Ids: the same fact has the same id, different facts have different ones."""

import uuid

from depesche.schemas.identity import event_id, job_of, new_job_id, recipient_key, unit_id
from depesche.schemas.records import DropReason, EventType
from depesche.schemas.topics import ALL, OUTCOME_TYPES, job_partition, partition_of, route_partition
from depesche.schemas.vocabulary import DROP_REASON, MEANING


def test_job_ids_are_uuid_version_7_and_sort_by_time() -> None:
    ids = [new_job_id(1_700_000_000_000 + i) for i in range(50)]
    assert ids == sorted(ids)
    assert {uuid.UUID(id_).version for id_ in ids} == {7}
    assert {uuid.UUID(id_).variant for id_ in ids} == {uuid.RFC_4122}
    assert len({new_job_id(5) for _ in range(1000)}) == 1000


def test_event_ids_are_the_uuid5_of_what_happened() -> None:
    namespace = uuid.UUID("7d8a2c0e-5b0f-5c9e-9a51-3f3a0a6f6f10")
    assert event_id("j.1", "delivered", 2, "t/0/9") == str(uuid.uuid5(namespace, "j.1|delivered|2|t/0/9"))
    assert event_id("j.1", "delivered", 2) != event_id("j.1", "delivered", 3)
    assert event_id("j.1", "delivered", 2) == event_id("j.1", "delivered", 2)


def test_a_unit_names_its_job() -> None:
    assert job_of(unit_id("0193-x", 12)) == "0193-x"


def test_a_recipient_key_tells_tenants_apart_and_letters_case_not() -> None:
    assert recipient_key(b"a", "Ada@Example.org") == recipient_key(b"a", "ada@example.org")
    assert recipient_key(b"a", "ada@example.org") != recipient_key(b"b", "ada@example.org")
    assert len(recipient_key(b"a", "x")) == 32


def test_partitions_stay_in_range_and_are_stable() -> None:
    keys = [recipient_key(b"s", f"{n}@x.test") for n in range(500)]
    assert {partition_of(key, 4) for key in keys} == {0, 1, 2, 3}
    assert route_partition("default/gmail/0", 7) == route_partition("default/gmail/0", 7) < 7
    assert 0 <= job_partition(new_job_id(), 3) < 3


def test_topics_are_told_apart_and_described() -> None:
    assert len({topic.name for topic in ALL}) == len(ALL)
    assert all(topic.purpose.endswith(".") and topic.key for topic in ALL)


def test_every_event_type_and_drop_reason_has_its_sentences() -> None:
    assert set(MEANING) == set(EventType) - {EventType.UNKNOWN}
    assert set(DROP_REASON) == set(DropReason) - {DropReason.UNKNOWN}
    assert {kind.value for kind in EventType} >= OUTCOME_TYPES
    assert all(m.english.endswith(".") and m.german.endswith(".") for m in MEANING.values())
