"""The allowance of cold addresses at the couriers: what the fold has counted, and what this process has sent since.

The fold tells within about two seconds what was answered; meanwhile a courier goes by its own count. A mail is counted here
before it is sent, so that couriers of one process that open connections at the same time do not share the last place. A place
whose connection could not be opened is free again; one whose kept connection turns out to be dead stays taken, for one mail
too few a day harms nobody.

How far several processes together may pass the allowance: a pool's mail to a provider is one process's, unless the provider
has several shards; then each may send in these two seconds what the others do not know of yet. The same holds for a process
that takes over a route, and after the death of a courier for what nobody has counted yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from depesche.schemas.records import Pool, PoolAddress
from depesche.schemas.service import Clock, now_ms
from depesche.streams.mail.warmup import chosen, day_of, plan_of, room, warm


class Counted(Protocol):
    """Whoever knows what the fold has counted: the book that follows mail.warmup, or a test."""

    def used(self, ip: str, provider: str, day: int) -> int:
        """Attempts that a provider answered to an own address on a day (its start, milliseconds since 1970 UTC)."""
        ...


class Warming:
    """Which own address a courier takes, and whether it may send one more mail from it."""

    def __init__(self, pools: Callable[[str], Pool | None], counted: Counted, clock: Clock = now_ms) -> None:
        """Prepare.

        Args:
            pools: an egress pool by its name.
            counted: what the fold has counted.
            clock: milliseconds since 1970 UTC.
        """
        self._pools = pools
        self._counted = counted
        self._clock = clock
        self._day = 0
        self._own: dict[tuple[str, str], tuple[int, int]] = {}

    def take(self, pool: str, provider: str, *, ipv6: bool, turn: int) -> PoolAddress | None:
        """An own address of ``pool`` for one mail to ``provider``, counted as sent; None: none of this family may send now."""
        own = self._pools(pool)
        if own is None:
            return None
        now = self._clock()
        address = chosen(
            own,
            self._pools(own.overflow_pool) if own.overflow_pool else None,
            ipv6=ipv6,
            used=lambda ip: self._used(ip, provider, day_of(now)),
            now=now,
            turn=turn,
        )
        if address is not None and address in own.addresses and not warm(address, plan_of(own), now):
            self._count(address.ip, provider, day_of(now))
        return address

    def take_again(self, pool: str, provider: str, ip: str) -> bool:
        """Whether one more mail may leave over a connection from ``ip``; it is counted then.

        An address that has been taken out of its pool since sends what its connection was opened for, as a warm one.
        """
        own, now = self._pools(pool), self._clock()
        address = next((one for one in own.addresses if one.ip == ip), None) if own is not None else None
        if own is None or address is None or warm(address, plan_of(own), now):
            return True
        if not room(address, plan_of(own), self._used(ip, provider, day_of(now)), now):
            return False
        self._count(ip, provider, day_of(now))
        return True

    def give_back(self, provider: str, ip: str) -> None:
        """The mail that was counted last was not sent from ``ip``: no connection could be opened."""
        held = self._own.get((ip, provider))
        if held is not None and held[1] > 0:
            self._own[ip, provider] = held[0], held[1] - 1

    def _used(self, ip: str, provider: str, day: int) -> int:
        base, sent = self._own.get((ip, provider), (0, 0)) if day == self._day else (0, 0)
        return max(self._counted.used(ip, provider, day), base + sent)

    def _count(self, ip: str, provider: str, day: int) -> None:
        if day != self._day:
            self._day, self._own = day, {}
        base, sent = self._own.get((ip, provider)) or (self._counted.used(ip, provider, day), 0)
        self._own[ip, provider] = base, sent + 1
