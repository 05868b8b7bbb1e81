"""Finds the provider of a recipient domain in time: by its name where that is enough, else by its mail exchangers.

A route is chosen when a unit is prepared, so the question to DNS stands in the way of every mail to a domain that was not seen
lately. It has a short bound: a domain whose name servers do not answer is its own provider, which is what it was before anybody
asked, and its courier finds out the rest.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from depesche.streams.mail.route import Providers, Rollup, default_providers
from depesche.streams.mail.shaping.shape import Shape

BOUND_SECONDS = 2.0
_REMEMBERED = 50_000


class Exchangers(Protocol):
    """Whoever knows mail exchangers: the resolver, or a test."""

    async def exchangers(self, domain: str) -> tuple[str, ...]:
        """See ``wire.dns.Resolver.exchangers``."""
        ...


class Routing:
    """Provider by domain. One per process and event loop."""

    def __init__(
        self,
        resolver: Exchangers,
        providers: Providers | None = None,
        bound_seconds: float = BOUND_SECONDS,
        shapes: Callable[[str], Shape] | None = None,
    ) -> None:
        """Prepare to ask.

        Args:
            resolver: knows exchangers, and remembers them as long as DNS allows.
            providers: the table of providers; default: the one shipped.
            bound_seconds: the longest wait for DNS.
            shapes: the shape of a provider as it is now; None: nobody has shards.
        """
        self._shapes = shapes
        self._resolver = resolver
        self._providers = providers or default_providers()
        self._bound = bound_seconds
        self._rollups: OrderedDict[str, tuple[tuple[str, ...], Rollup]] = OrderedDict()

    def shards(self, provider: str) -> int:
        """How many routes the provider's mail is spread over."""
        return self._shapes(provider).shards if self._shapes is not None else 1

    async def providers_of(self, domains: Iterable[str]) -> dict[str, str]:
        """The provider of each domain (A-labels, lower case); takes at most the bound, whatever DNS does."""
        found: dict[str, str] = {}
        unknown: list[str] = []
        for domain in set(domains):
            name = self._providers.of_domain(domain)
            if name:
                found[domain] = name
            else:
                unknown.append(domain)
        if unknown:
            rollups = await asyncio.gather(*map(self.rollup, unknown))
            found.update(zip(unknown, (rollup.provider for rollup in rollups), strict=True))
        return found

    async def rollup(self, domain: str) -> Rollup:
        """Whom a domain belongs to, and what that was read from."""
        name = self._providers.of_domain(domain)
        if name:
            return Rollup(name, f"domain {domain}")
        try:
            async with asyncio.timeout(self._bound):
                exchangers = await self._resolver.exchangers(domain)
        except TimeoutError:
            return Rollup(domain, "the domain itself, for DNS did not answer in time")
        return self._remembered(domain, exchangers)

    def _remembered(self, domain: str, exchangers: tuple[str, ...]) -> Rollup:
        known = self._rollups.get(domain)
        if known is not None and known[0] == exchangers:
            return known[1]
        rollup = self._providers.of_exchangers(domain, exchangers)
        self._rollups[domain] = (exchangers, rollup)
        self._rollups.move_to_end(domain)
        if len(self._rollups) > _REMEMBERED:
            self._rollups.popitem(last=False)
        return rollup
