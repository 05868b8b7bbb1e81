"""Who may connect how often, and how long a wrong password takes: counted per source, in bounded memory."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from typing import Any

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
FORGET_SECONDS = 600.0
MAX_REMEMBERED = 10_000


class ConnectionLimit:
    """Counts open connections in all and per source address."""

    def __init__(self, limit: int, limit_per_source: int) -> None:
        self._limit = limit
        self._limit_per_source = limit_per_source
        self._total = 0
        self._by_source: Counter[str] = Counter()

    def enter(self, source: str) -> bool:
        """Count a connection of ``source`` in; false (and not counted) if it is one too many."""
        if self._total >= self._limit or self._by_source[source] >= self._limit_per_source:
            return False
        self._total += 1
        self._by_source[source] += 1
        return True

    def leave(self, source: str) -> None:
        """Count a connection out again."""
        self._total -= 1
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]


class LoginDelay:
    """How long a source waits for the answer to a wrong password: twice as long after each, up to a few seconds.

    Only failures wait, and only from the same network (IPv4 /24, IPv6 /48): nobody can lock an owner out by guessing
    at his name from elsewhere, and a right password is never slowed down (threat 6 of the reliability note).
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def after_failure(self, source: str, now: float) -> float:
        """Count a failure of ``source`` at ``now`` (monotonic seconds) and say how many seconds its answer waits."""
        network = network_of(source)
        count, last = self._failures.pop(network, (0, now))
        if now - last > FORGET_SECONDS:
            count = 0
        self._failures[network] = (count + 1, now)
        if len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)
        return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * (1 << min(count, 16)))


def network_of(source: str) -> str:
    """The network that one subscriber usually has: /24 of an IPv4 address, /48 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def source_of(peername: Any) -> str:
    """The source address in a socket's ``peername``: without port and scope, an IPv4-mapped IPv6 address as IPv4."""
    if not isinstance(peername, tuple) or not peername:
        return ""
    try:
        address = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
