"""Which way a unit goes: egress pool, mailbox provider, shard.

A route is what a courier owns and what pace is kept for. Large providers have many domains and one opinion of a sender, so
their domains share a route. Who the provider is, the mail exchangers say (`providers.toml`); exchangers that nobody has listed
speak for the registrable domain they stand in, so that a hoster's customers share a route too.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from publicsuffixlist import PublicSuffixList

POOL = "shared"
"""The egress pool of senders who have none of their own."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """Whom a recipient domain belongs to.

    Attributes:
        provider: the provider's name.
        why: what it was read from, as ``domain gmail.com``, ``MX .google.com``, ``MX in hoster.example``, ``the domain itself``.
    """

    provider: str
    why: str


class Providers:
    """The table of providers. Immutable, so it may be shared."""

    def __init__(self, table: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Take the table as parsed from TOML: provider to ``domains`` and ``mx``."""
        self.names = frozenset(table)
        self._domains = {domain: name for name, entry in table.items() for domain in entry.get("domains", ())}
        self._endings = {ending: name for name, entry in table.items() for ending in entry.get("mx", ())}

    def of_domain(self, domain: str) -> str:
        """The provider that the name of the domain gives away (A-label, lower case); empty when it does not."""
        return self._domains.get(domain, "")

    def of_exchangers(self, domain: str, exchangers: Sequence[str]) -> Rollup:
        """The provider of a domain with these mail exchangers of lowest preference; none: the domain itself.

        Exchangers of several providers are one vote each, and the alphabet decides between equals: the answer depends on the
        set of exchangers alone.
        """
        votes = Counter(self._of_host(host) for host in exchangers)
        if not votes:
            return Rollup(domain, "the domain itself")
        return min(votes, key=lambda found: (-votes[found], found.provider, found.why))

    def _of_host(self, host: str) -> Rollup:
        labels = host.split(".")
        for start in range(len(labels)):
            ending = ".".join(labels[start:])
            if ending in self._endings:
                return Rollup(self._endings[ending], f"MX .{ending}")
        registrable = _suffixes().privatesuffix(host) or host
        return Rollup(registrable, f"MX in {registrable}")


@cache
def default_providers() -> Providers:
    """The table shipped with this version."""
    text = files("depesche.streams.mail").joinpath("providers.toml").read_text(encoding="utf-8")
    return Providers(tomllib.loads(text)["provider"])


@cache
def _suffixes() -> PublicSuffixList:
    # Without the list's private part: a cloud's regions and a hoster's customers are one mail system.
    return PublicSuffixList(only_icann=True)


def provider_of_domain(domain: str) -> str:
    """The mailbox provider of a recipient domain (A-label, lower case) by its name alone, or the domain itself."""
    return default_providers().of_domain(domain) or domain


def shard_of(recipient_key: str, shards: int) -> int:
    """Which of a provider's shards a recipient's mail takes; by the key's last digits, for the first choose partitions."""
    return int(recipient_key[-8:], 16) % shards if shards > 1 else 0


def with_pool(route: str, pool: str) -> str:
    """The same route by another pool."""
    return "/".join((pool, *route.split("/")[1:]))


def route_of(provider: str, pool: str = POOL, shard: int = 0) -> str:
    """The route string ``pool/provider/shard``."""
    return f"{pool}/{provider}/{shard}"


def pool_of(route: str) -> str:
    """The egress pool that a route leaves from."""
    return route.partition("/")[0]
