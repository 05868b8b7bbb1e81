"""Which offsets may be committed: per partition the lowest one not yet finished, while many are under way in any order.

Kafka knows one number per partition, "everything below is done". Committing more than that loses work at the next crash,
committing less repeats it. This is the one place that decides (design section 4); no connection is in it, and a model test
holds it under every order of finishing, revoking and assigning again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from aiokafka.structs import TopicPartition


class CompletionTracker:
    """The offsets of one partition during one ownership of it; every call costs the same, however many are under way.

    A partition that is assigned again gets a new tracker. The old one is ``closed``: what still ends on it changes
    nothing that is ever committed.
    """

    __slots__ = ("_begun", "_next", "_unfinished", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._begun: deque[int] = deque()
        self._unfinished: set[int] = set()
        self._next: int | None = None

    def begin(self, offset: int) -> None:
        """Work on ``offset`` begins. Offsets come in the log's order; gaps are fine (compaction, transactions).

        Raises:
            ValueError: not above every offset begun before; the record would be behind what may be committed.
        """
        if self._next is not None and offset < self._next:
            raise ValueError(f"offset {offset} begins after {self._next - 1}")
        self._begun.append(offset)
        self._unfinished.add(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> None:
        """Everything that follows from ``offset`` is safe; it never needs to be read again.

        Raises:
            KeyError: it was not under way, so somebody finished it twice, which is a bug of ours.
        """
        unfinished = self._unfinished
        unfinished.remove(offset)
        begun = self._begun
        while begun and begun[0] not in unfinished:
            begun.popleft()

    @property
    def committable(self) -> int | None:
        """The offset to commit, that is where a successor starts to read; None when nothing has begun."""
        return self._begun[0] if self._begun else self._next

    @property
    def in_flight(self) -> int:
        """How many offsets are begun and not finished."""
        return len(self._unfinished)

    @property
    def span(self) -> int:
        """How many records a crash now would make a successor read again."""
        return len(self._begun)


class Assignment:
    """The partitions that this process owns now, each with its tracker and what the broker was last told."""

    def __init__(self) -> None:
        self.committed: dict[TopicPartition, int] = {}
        self._trackers: dict[TopicPartition, CompletionTracker] = {}

    def tracker(self, partition: TopicPartition) -> CompletionTracker:
        """The tracker of ``partition`` in its present ownership."""
        found = self._trackers.get(partition)
        if found is None:
            found = self._trackers[partition] = CompletionTracker()
        return found

    @property
    def in_flight(self) -> int:
        """Records under way in all partitions."""
        return sum(tracker.in_flight for tracker in self._trackers.values())

    @property
    def span(self) -> int:
        """The longest ``CompletionTracker.span``."""
        return max((tracker.span for tracker in self._trackers.values()), default=0)

    def news(self, partitions: Iterable[TopicPartition] | None = None) -> dict[TopicPartition, int]:
        """What may be committed and has not been, of all partitions or of some."""
        chosen = self._trackers if partitions is None else partitions
        found = {}
        for partition in chosen:
            tracker = self._trackers.get(partition)
            offset = tracker.committable if tracker is not None else None
            if offset is not None and offset != self.committed.get(partition):
                found[partition] = offset
        return found

    def gain(self, offsets: dict[TopicPartition, int]) -> int:
        """How many records a successor would be spared by a commit of ``offsets``; gaps in the log count as records."""
        return sum(offset - self.committed.get(partition, 0) for partition, offset in offsets.items())

    def told(self, offsets: dict[TopicPartition, int]) -> None:
        """The broker has taken ``offsets``; those of partitions given away meanwhile are of no interest."""
        self.committed.update(
            {partition: offset for partition, offset in offsets.items() if partition in self._trackers}
        )

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """The partitions are another's now: whatever is unfinished on them, their next owner reads again."""
        for partition in partitions:
            tracker = self._trackers.pop(partition, None)
            if tracker is not None:
                tracker.closed = True
            self.committed.pop(partition, None)
