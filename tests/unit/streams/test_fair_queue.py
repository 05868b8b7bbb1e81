"""Tenants take turns, and nothing that waits is lost."""

from collections import Counter
from types import SimpleNamespace
from typing import cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from depesche.streams.stages.errand import Errand
from depesche.streams.stages.fair_queue import FairQueue


def errand(tenant: str, number: int = 0) -> Errand:
    return cast(Errand, SimpleNamespace(unit=SimpleNamespace(tenant=tenant), number=number))


def tenant_of(one: Errand) -> str:
    return one.unit.tenant


def test_one_among_a_hundred_thousand_is_second() -> None:
    queue = FairQueue()
    for number in range(100_000):
        queue.append(errand("large", number))
    queue.append(errand("small"))
    assert queue.before("small") <= 4
    assert queue.before("large") == 100_001
    assert [tenant_of(queue.pop()) for _ in range(3)] == ["large", "small", "large"]


class Queue(RuleBasedStateMachine):
    """The queue beside a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue()
        self.model: list[Errand] = []
        self.number = 0

    @rule(tenant=st.sampled_from("abc"))
    def append(self, tenant: str) -> None:
        self.number += 1
        one = errand(tenant, self.number)
        self.queue.append(one)
        self.model.append(one)

    @precondition(lambda self: self.model)
    @rule(back=st.booleans())
    def pop(self, back: bool) -> None:
        one = self.queue.pop()
        assert one is next(other for other in self.model if tenant_of(other) == tenant_of(one))
        if back:
            self.queue.put_back(one)
            assert self.queue.pop() is one
        self.model.remove(one)

    @rule(tenant=st.sampled_from("abc"))
    def take(self, tenant: str) -> None:
        taken = self.queue.take(lambda one: tenant_of(one) == tenant)
        assert taken == [one for one in self.model if tenant_of(one) == tenant]
        self.model = [one for one in self.model if tenant_of(one) != tenant]

    @rule(data=st.data())
    def take_oldest(self, data: st.DataObject) -> None:
        limit = data.draw(st.integers(0, self.number))
        taken = self.queue.take_oldest(lambda one: cast(int, one.number) <= limit)  # type: ignore[attr-defined]
        assert all(one in self.model for one in taken)
        self.model = [one for one in self.model if one not in taken]

    @precondition(lambda self: len(self.model) > 3)
    @rule()
    def rounds(self) -> None:
        counts = Counter(map(tenant_of, self.model))
        first = [tenant_of(self.queue.pop()) for _ in range(len(counts))]
        assert sorted(first) == sorted(counts)
        for tenant in first:
            self.model.remove(next(one for one in self.model if tenant_of(one) == tenant))

    @invariant()
    def agree(self) -> None:
        assert len(self.queue) == len(self.model)
        assert sorted(one.number for one in self.queue) == sorted(one.number for one in self.model)  # type: ignore[attr-defined]
        assert bool(self.queue) == bool(self.model)


TestQueue = Queue.TestCase
TestQueue.settings = settings(deadline=None, max_examples=50)
