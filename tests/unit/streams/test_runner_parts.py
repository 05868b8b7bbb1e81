"""The pace of polling, the dead letter, and what counts as a fault of the infrastructure."""

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import ConsumerRecord

from depesche.schemas.codec import encode
from depesche.schemas.errors import ArchiveUnavailableError, ContentLostError, ScannerUnavailableError, UndecodableError
from depesche.streams.runner.guard import dead_letter, guarded, guarded_await, is_infrastructure
from depesche.streams.runner.pace import Pace
from depesche.streams.runner.stage import Flight
from depesche.streams.runner.tracker import CompletionTracker


class Witnessed:
    """Who is told how flights end."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.faults: list[Exception] = []

    def finished(self, flight: Flight) -> None:
        self.done.append(flight.record.offset)

    def failed(self, flight: Flight, fault: Exception) -> None:
        self.faults.append(fault)


def flight_of(value: bytes | None = b"value", owner: Witnessed | None = None) -> Flight:
    record = ConsumerRecord("mail.jobs", 1, 7, 0, 0, b"key", value, None, 3, len(value or b""), ())
    return Flight(record, CompletionTracker(), owner or Witnessed())


def test_a_lone_record_is_not_kept_waiting() -> None:
    pace = Pace()
    now = 0.0
    for _ in range(20):
        now += 1.0
        assert pace.pause(1, now) < 0.0002


def test_under_load_polls_are_twelve_milliseconds_apart_at_most() -> None:
    pace = Pace()
    pauses = [pace.pause(10, number * 0.01) for number in range(200)]
    assert pauses[-1] == pytest.approx(0.012)
    assert max(pauses) <= 0.012


def test_an_empty_poll_is_followed_by_the_next_one() -> None:
    pace = Pace()
    for number in range(200):
        pace.pause(10, number * 0.01)
    assert pace.pause(0, 12.0) == 0.0


@pytest.mark.parametrize(
    "fault",
    [ArchiveUnavailableError("x"), ScannerUnavailableError("x"), KafkaError(), KafkaConnectionError(), OSError(5, "x")],
)
def test_a_fault_of_the_machine_is_nobodys_record(fault: Exception) -> None:
    assert is_infrastructure(fault)


@pytest.mark.parametrize("fault", [UndecodableError("x"), ContentLostError("x"), ValueError("x"), RecursionError()])
def test_a_fault_of_the_record_is_not_the_machines(fault: Exception) -> None:
    assert not is_infrastructure(fault)


def test_what_a_stage_raises_ends_the_flight_and_not_the_loop() -> None:
    owner = Witnessed()

    def work(text: str) -> None:
        raise ValueError(text)

    guarded(flight_of(owner=owner), work, "x")
    assert [type(fault) for fault in owner.faults] == [ValueError]


async def test_what_a_coroutine_raises_ends_the_flight_and_not_the_loop() -> None:
    owner = Witnessed()

    async def work() -> None:
        raise UndecodableError("x")

    await guarded_await(flight_of(owner=owner), work())
    assert [type(fault) for fault in owner.faults] == [UndecodableError]


def _raised(fault: Exception) -> Exception:
    try:
        raise fault
    except Exception as raised:
        return raised


def test_a_dead_letter_names_the_place_and_never_quotes_a_strange_exception() -> None:
    letter = dead_letter("prepare", flight_of(), _raised(ValueError("ada@example.org")), 5)
    assert letter.cause == "ValueError"
    assert "test_runner_parts.py" in letter.explanation
    assert b"ada@example.org" not in encode(letter)
    assert (letter.topic, letter.partition, letter.offset, letter.record_value) == ("mail.jobs", 1, 7, b"value")


def test_a_dead_letter_says_what_an_error_of_ours_says() -> None:
    flight = flight_of()
    flight.tenant, flight.unit_id = "26124DE", "job"
    letter = dead_letter("prepare", flight, UndecodableError("expected schema 1"), 5)
    assert (letter.cause, letter.explanation) == ("undecodable", "expected schema 1")
    assert (letter.tenant, letter.unit_id) == ("26124DE", "job")


def test_a_dead_letter_of_the_largest_record_still_fits_into_the_log() -> None:
    letter = dead_letter("prepare", flight_of(b"x" * (1 << 20)), UndecodableError("x"), 5)
    assert len(encode(letter)) < (1 << 20) - 1024
    assert "cut" in letter.explanation


def test_a_tombstone_can_be_buried() -> None:
    assert dead_letter("prepare", flight_of(None), UndecodableError("x"), 5).record_value is None
