"""Where a domain's mail goes and what the domain asks of TLS: the one question that couriers have about a domain."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from depesche.schemas.settings import Settings
from depesche.streams.wire.dns import Hosts, Resolver
from depesche.streams.wire.sts import StsPolicies
from depesche.streams.wire.sts_shelf import StsShelf

_ENTRIES = 50_000
_LOOK_AGAIN_SECONDS = 300.0
"""After so long a domain is asked again for its policy's version, if DNS does not say sooner."""


class Destinations:
    """Hosts with their domain's policies. One per process and event loop."""

    def __init__(
        self, resolver: Resolver, policies: StsPolicies | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare to find.

        Args:
            resolver: finds hosts, and what DNSSEC says of them.
            policies: finds MTA-STS policies; None: nobody asks for them.
            clock: the resolver's monotonic seconds.
        """
        self.resolver = resolver
        self._policies = policies
        self._clock = clock
        self._known: OrderedDict[str, Hosts] = OrderedDict()

    def known_hosts(self, domain: str) -> Hosts | None:
        """The hosts of ``domain`` if they are known just now; costs a microsecond."""
        hosts = self._known.get(domain)
        if hosts is None or hosts.expires <= self._clock():
            return None
        self._known.move_to_end(domain)
        return hosts

    async def mail_hosts(self, domain: str) -> Hosts:
        """The hosts that take mail for ``domain`` (an A-label in lower case) under its policy; never raises for either."""
        known = self.known_hosts(domain)
        if known is not None:
            return known
        if self._policies is None:
            hosts = await self.resolver.mail_hosts(domain)
        else:
            # Both at once: a policy host that is slow must not wait for a name server that is.
            hosts, found = await asyncio.gather(self.resolver.mail_hosts(domain), self._policies.find(domain))
            if hosts.verdict == "found":
                expires = min(hosts.expires, self._clock() + _LOOK_AGAIN_SECONDS)
                hosts = replace(hosts, sts=found.policy, sts_problem=found.problem, expires=expires)
        self._known[domain] = hosts
        self._known.move_to_end(domain)
        if len(self._known) > _ENTRIES:
            self._known.popitem(last=False)
        return hosts

    async def close(self) -> None:
        """Give up what is on its way."""
        await self.resolver.close()


def shelf_of(home: Path) -> StsShelf:
    """Where the policies of all processes of one home are kept."""
    return StsShelf(home / "sts")


def destinations(settings: Settings, resolver: Resolver | None = None) -> Destinations:
    """Destinations as the settings want them, with ``resolver`` or one of their own."""
    resolver = resolver or Resolver(settings.dns, allow_private=settings.deliver.allow_private)
    policies = StsPolicies(settings.tls, resolver, shelf_of(settings.home)) if settings.tls.sts else None
    return Destinations(resolver, policies)
