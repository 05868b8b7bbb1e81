"""A queue in which tenants take turns: one tenant's hundred thousand let another's single mail pass at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from depesche.streams.stages.errand import Errand


class FairQueue:
    """Errands that wait, oldest first within a tenant, tenants in turn."""

    def __init__(self) -> None:
        self._by_tenant: dict[str, deque[Errand]] = {}
        self._turn: deque[str] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Errand]:
        for queue in self._by_tenant.values():
            yield from queue

    def append(self, errand: Errand) -> None:
        """An errand begins to wait."""
        tenant = errand.unit.tenant
        queue = self._by_tenant.get(tenant)
        if queue is None:
            queue = self._by_tenant[tenant] = deque()
            self._turn.append(tenant)
        queue.append(errand)
        self._length += 1

    def put_back(self, errand: Errand) -> None:
        """An errand that was taken out goes on waiting, as the next of all."""
        tenant = errand.unit.tenant
        if tenant in self._by_tenant:
            self._turn.remove(tenant)
        self._by_tenant.setdefault(tenant, deque()).appendleft(errand)
        self._turn.appendleft(tenant)
        self._length += 1

    def pop(self) -> Errand:
        """The next errand: the oldest of the tenant whose turn it is.

        Raises:
            IndexError: nobody waits.
        """
        tenant = self._turn.popleft()
        queue = self._by_tenant[tenant]
        errand = queue.popleft()
        self._length -= 1
        if queue:
            self._turn.append(tenant)
        else:
            del self._by_tenant[tenant]
        return errand

    def before(self, tenant: str) -> int:
        """How many errands leave about before one of this tenant that came now: its own, and as many of each other's."""
        own = len(self._by_tenant.get(tenant, ()))
        return min(self._length, (own + 1) * len(self._by_tenant))

    def take(self, chosen: Callable[[Errand], bool]) -> list[Errand]:
        """Take out all for which ``chosen`` is true."""
        taken: list[Errand] = []
        for tenant, queue in list(self._by_tenant.items()):
            gone = [errand for errand in queue if chosen(errand)]
            if gone:
                self._keep(tenant, [errand for errand in queue if not chosen(errand)])
                taken += gone
        return taken

    def take_oldest(self, stale: Callable[[Errand], bool]) -> list[Errand]:
        """Take out from the head of each tenant's queue as long as ``stale`` is true; costs what is taken, and the tenants."""
        taken: list[Errand] = []
        for tenant, queue in list(self._by_tenant.items()):
            while queue and stale(queue[0]):
                taken.append(queue.popleft())
                self._length -= 1
            if not queue:
                self._drop(tenant)
        return taken

    def _keep(self, tenant: str, errands: list[Errand]) -> None:
        self._length += len(errands) - len(self._by_tenant[tenant])
        self._by_tenant[tenant] = deque(errands)
        if not errands:
            self._drop(tenant)

    def _drop(self, tenant: str) -> None:
        del self._by_tenant[tenant]
        self._turn.remove(tenant)
