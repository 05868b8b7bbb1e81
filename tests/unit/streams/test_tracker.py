"""Whatever the order of finishing, revoking and crashing: nothing unfinished is ever committed past."""

from dataclasses import dataclass, field

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from depesche.streams.runner.tracker import Assignment, CompletionTracker

PARTITIONS = (TopicPartition("mail.jobs", 0), TopicPartition("mail.jobs", 1))


@dataclass(frozen=True)
class Work:
    """One record under way, as the worker that holds it sees it."""

    partition: TopicPartition
    tracker: CompletionTracker
    offset: int


@dataclass
class Broker:
    """What the far side of one partition knows: its records (with gaps), the committed offset, what anybody finished."""

    records: list[int] = field(default_factory=list)
    committed: int = 0
    finished: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    position: int = 0
    owned: bool = False

    def next(self) -> int | None:
        return next((offset for offset in self.records if offset >= self.position), None)


class Group(RuleBasedStateMachine):
    """Two partitions with gaps, a broker that keeps one number for each, and an owner that comes, goes and crashes.

    The model knows plain sets only: what is in the log, what anybody ever finished, what the broker was told.
    """

    under_way = Bundle("under_way")

    def __init__(self) -> None:
        super().__init__()
        self.assignment = Assignment()
        self.brokers = {partition: Broker() for partition in PARTITIONS}

    @initialize(gaps=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=40))
    def logs_with_gaps(self, gaps: list[tuple[int, int]]) -> None:
        for number, partition in enumerate(PARTITIONS):
            offset = number
            for pair in gaps:
                self.brokers[partition].records.append(offset)
                offset += pair[number]

    @rule(partition=st.sampled_from(PARTITIONS))
    def assign(self, partition: TopicPartition) -> None:
        broker = self.brokers[partition]
        if not broker.owned:
            broker.owned, broker.position, broker.open = True, broker.committed, set()

    @rule(target=under_way, partition=st.sampled_from(PARTITIONS))
    def begin(self, partition: TopicPartition) -> MultipleResults[Work] | Work:
        broker = self.brokers[partition]
        offset = broker.next()
        if not broker.owned or offset is None:
            return multiple()
        tracker = self.assignment.tracker(partition)
        tracker.begin(offset)
        broker.open.add(offset)
        broker.position = offset + 1
        return Work(partition, tracker, offset)

    @rule(work=consumes(under_way))
    def finish(self, work: Work) -> None:
        work.tracker.finish(work.offset)
        broker = self.brokers[work.partition]
        broker.finished.add(work.offset)
        if not work.tracker.closed:
            broker.open.discard(work.offset)

    @rule(work=consumes(under_way))
    def fail(self, work: Work) -> None:
        """It is never finished: its worker holds it until the partition goes or the process dies."""

    @rule()
    def commit(self) -> None:
        self._tell(self.assignment.news())

    @rule(partition=st.sampled_from(PARTITIONS), in_time=st.booleans())
    def revoke(self, partition: TopicPartition, in_time: bool) -> None:
        if in_time:
            self._tell(self.assignment.news([partition]))
        self.assignment.forget([partition])
        self.brokers[partition].owned = False

    @rule()
    def crash(self) -> None:
        # Closing stands for the process being gone: nothing that still runs has any effect on what comes after.
        self.assignment.forget(PARTITIONS)
        self.assignment = Assignment()
        for broker in self.brokers.values():
            broker.owned = False

    @invariant()
    def nothing_unfinished_is_below_a_commit(self) -> None:
        for broker in self.brokers.values():
            assert all(offset in broker.finished for offset in broker.records if offset < broker.committed)
            assert not broker.owned or all(broker.committed <= offset for offset in broker.open)

    @invariant()
    def the_tracker_offers_the_lowest_unfinished_offset(self) -> None:
        owned = {partition: broker for partition, broker in self.brokers.items() if broker.owned}
        assert self.assignment.in_flight == sum(len(broker.open) for broker in owned.values())
        for partition, broker in owned.items():
            if broker.open:
                assert self.assignment.tracker(partition).committable == min(broker.open)
            elif broker.position > broker.committed:
                assert self.assignment.tracker(partition).committable == broker.position

    def _tell(self, offsets: dict[TopicPartition, int]) -> None:
        for partition, offset in offsets.items():
            self.brokers[partition].committed = offset
        self.assignment.told(offsets)


Group.TestCase.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
TestEveryInterleaving = Group.TestCase


def test_an_offset_that_goes_backwards_is_refused() -> None:
    tracker = CompletionTracker()
    tracker.begin(7)
    with pytest.raises(ValueError, match="7"):
        tracker.begin(7)


def test_finishing_twice_is_a_bug_that_shows() -> None:
    tracker = CompletionTracker()
    tracker.begin(1)
    tracker.finish(1)
    with pytest.raises(KeyError):
        tracker.finish(1)


def test_nothing_is_offered_before_anything_began() -> None:
    assert CompletionTracker().committable is None


def test_a_slow_record_holds_the_commit_and_not_the_work() -> None:
    tracker = CompletionTracker()
    for offset in range(10_000):
        tracker.begin(offset)
    for offset in range(1, 10_000):
        tracker.finish(offset)
    assert (tracker.committable, tracker.in_flight, tracker.span) == (0, 1, 10_000)
    tracker.finish(0)
    assert (tracker.committable, tracker.in_flight) == (10_000, 0)


def test_a_commit_is_told_once() -> None:
    assignment = Assignment()
    assignment.tracker(PARTITIONS[0]).begin(5)
    assert assignment.news() == {PARTITIONS[0]: 5}
    assignment.told({PARTITIONS[0]: 5})
    assert assignment.news() == {}
    assignment.tracker(PARTITIONS[0]).finish(5)
    assert assignment.news() == {PARTITIONS[0]: 6}


def test_a_commit_that_returns_after_the_partition_went_leaves_nothing_behind() -> None:
    assignment = Assignment()
    assignment.tracker(PARTITIONS[0]).begin(5)
    news = assignment.news()
    assignment.forget(PARTITIONS)
    assignment.told(news)
    assignment.tracker(PARTITIONS[0]).begin(5)
    assert assignment.news() == {PARTITIONS[0]: 5}


def test_the_gain_of_a_commit_is_what_a_successor_need_not_read() -> None:
    assignment = Assignment()
    place, other = TopicPartition("t", 0), TopicPartition("t", 1)
    for offset in range(5, 10):
        assignment.tracker(place).begin(offset)
        assignment.tracker(place).finish(offset)
    assignment.tracker(other).begin(3)
    assignment.told({place: 6, other: 3})
    assert assignment.gain(assignment.news()) == 4
