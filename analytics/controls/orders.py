"""The orders in force as a fold of their records: pure, and compiled so that asking about a unit costs a microsecond."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from depesche.schemas.records import Control, ControlAction, ControlScope, ControlState

FIELDS = ("campaign_id", "account", "recipient_domain", "sender_domain", "provider", "tenant")
"""The fields of a scope that a unit has under the same name, the most selective first; ``pool`` is read off its route."""
_STANDING = (ControlAction.DROP, ControlAction.SUSPEND, ControlAction.REROUTE)


class Unit(Protocol):
    """What an order can be about: a record of mail.outbound, or a unit that is about to become one."""

    @property
    def tenant(self) -> str: ...  # noqa: D102
    @property
    def account(self) -> str: ...  # noqa: D102
    @property
    def campaign_id(self) -> str | None: ...  # noqa: D102
    @property
    def provider(self) -> str: ...  # noqa: D102
    @property
    def recipient_domain(self) -> str: ...  # noqa: D102
    @property
    def sender_domain(self) -> str: ...  # noqa: D102
    @property
    def route(self) -> str: ...  # noqa: D102


class Traits(NamedTuple):
    """A ``Unit`` that is nothing else."""

    tenant: str
    account: str
    campaign_id: str | None
    provider: str
    recipient_domain: str
    sender_domain: str
    route: str


@dataclass(frozen=True, slots=True)
class Order:
    """One order, and the offset of its record in mail.controls."""

    control: Control
    offset: int

    def holds(self, now: int) -> bool:
        """Whether it is in force at ``now`` (milliseconds since 1970 UTC); one to retry is done once and holds never."""
        control = self.control
        if control.action not in _STANDING or control.state is not ControlState.ACTIVE:
            return False
        return control.until is None or now < control.until


class Orders:
    """All orders. ``version`` changes with every record."""

    def __init__(self) -> None:
        self.version = 0
        self._orders: dict[str, Order] = {}
        self._by_action: dict[ControlAction, _Index] = {}

    def apply(self, control: Control, offset: int) -> None:
        """Take in the next record of the log."""
        self._orders[control.control_id] = Order(control, offset)
        self._compile()

    def remove(self, control_id: str) -> None:
        """Take in a tombstone."""
        self._orders.pop(control_id, None)
        self._compile()

    def _compile(self) -> None:
        self.version += 1
        self._by_action = {}
        for action in _STANDING:
            chosen = [
                order
                for order in self.all()
                if order.control.action is action and order.control.state is ControlState.ACTIVE
            ]
            if chosen:
                self._by_action[action] = _Index(chosen)

    def find(self, control_id: str) -> Order | None:
        """The order of that id, lifted or not."""
        return self._orders.get(control_id)

    def all(self) -> Iterator[Order]:
        """Every order that is known, the newest first."""
        return iter(sorted(self._orders.values(), key=lambda order: order.offset, reverse=True))

    def active(self, now: int) -> list[Order]:
        """Those in force at ``now``, the newest first."""
        return [order for order in self.all() if order.holds(now)]

    def about(self, unit: Unit, now: int) -> Order | None:
        """The order by which ``unit`` must not simply be sent: one to drop before one to suspend before one to reroute.

        An order to reroute counts only where ``pool_for`` leads to another pool.
        """
        for action, index in self._by_action.items():
            order = index.first(unit, _pool_of(unit), now)
            if order is None:
                continue
            if action is not ControlAction.REROUTE or self.pool_for(unit, now) != _pool_of(unit):
                return order
        return None

    def dropping(self, unit: Unit, now: int) -> Order | None:
        """The order to drop ``unit``, if there is one."""
        index = self._by_action.get(ControlAction.DROP)
        return index.first(unit, _pool_of(unit), now) if index is not None else None

    def pool_for(self, unit: Unit, now: int) -> str:
        """The pool that ``unit`` is to leave by; orders that would send it round in a circle leave it where it is."""
        here = _pool_of(unit)
        index = self._by_action.get(ControlAction.REROUTE)
        pool, seen = here, {here}
        while index is not None:
            order = index.first(unit, pool, now)
            if order is None or order.control.target_pool == pool:
                return pool
            pool = order.control.target_pool
            if pool in seen:
                return here
            seen.add(pool)
        return pool


class _Index:
    """Orders by the most selective field of their scope."""

    def __init__(self, orders: list[Order]) -> None:
        self._everything: list[Order] = []
        self._tables: dict[str, tuple[Callable[[Any], Any], dict[str, list[Order]]]] = {}
        for order in orders:
            scope = order.control.scope
            name = next((name for name in FIELDS if getattr(scope, name) is not None), None)
            if name is None:
                self._everything.append(order)
            else:
                table = self._tables.setdefault(name, (attrgetter(name), {}))[1]
                table.setdefault(getattr(scope, name), []).append(order)

    def first(self, unit: Unit, pool: str, now: int) -> Order | None:
        """The newest order in force that is about ``unit`` on ``pool``."""
        found = [order for order in self._everything if _fits(order.control.scope, unit, pool) and order.holds(now)]
        for value_of, table in self._tables.values():
            for order in table.get(value_of(unit), ()):
                if _fits(order.control.scope, unit, pool) and order.holds(now):
                    found.append(order)
        return max(found, key=lambda order: order.offset) if found else None


def fits(scope: ControlScope, unit: Unit) -> bool:
    """Whether ``unit`` is in ``scope``."""
    return _fits(scope, unit, _pool_of(unit))


def _fits(scope: ControlScope, unit: Unit, pool: str) -> bool:
    if scope.pool is not None and scope.pool != pool:
        return False
    for name in FIELDS:
        wanted = getattr(scope, name)
        if wanted is not None and wanted != getattr(unit, name):
            return False
    return True


def _pool_of(unit: Unit) -> str:
    return unit.route.partition("/")[0]


def described(scope: ControlScope) -> str:
    """A scope in words, as ``provider gmail, customer 10001``; of an empty one ``everything``."""
    words = {
        "tenant": "customer",
        "account": "account",
        "campaign_id": "campaign",
        "provider": "provider",
        "recipient_domain": "recipient domain",
        "sender_domain": "sender domain",
        "pool": "pool",
    }
    parts = [f"{word} {value}" for name, word in words.items() if (value := getattr(scope, name)) is not None]
    return ", ".join(parts) or "everything"
