"""Asks blocklists: address records and their reasons, over the resolvers that are set for it. Never raises for what DNS says."""

from __future__ import annotations

from typing import cast

import dns.asyncresolver
import dns.exception
import dns.rdtypes.ANY.TXT
import dns.resolver

from depesche.schemas.settings import DNSSettings, Settings
from depesche.streams.mail.dnsbl import Answer, plain_reason
from depesche.streams.wire.dns import stub


class BlocklistResolver:
    """Asks without a cache of its own: a list's answer is wanted as it is now, and its resolver has one."""

    def __init__(self, settings: DNSSettings) -> None:
        """``settings``: which resolvers, and how long to wait."""
        self._stub: dns.asyncresolver.Resolver = stub(settings)
        self._seconds = settings.timeout_seconds

    async def addresses(self, name: str) -> Answer:
        """The IPv4 addresses of ``name``."""
        try:
            found = await self._ask(name, "A")
        except dns.resolver.NXDOMAIN:
            return Answer("none")
        except dns.resolver.LifetimeTimeout:
            return Answer("failed", (), "no answer in time")
        except (dns.exception.DNSException, OSError, EOFError) as fault:
            return Answer("failed", (), f"the question failed ({type(fault).__name__})")
        if found.rrset is None:
            return Answer("none")
        return Answer("found", tuple(record.to_text() for record in found))

    async def reason(self, name: str) -> str:
        """The list's words about ``name``; empty when it has none or does not answer."""
        try:
            found = await self._ask(name, "TXT")
        except (dns.exception.DNSException, OSError, EOFError):
            return ""
        records = [cast(dns.rdtypes.ANY.TXT.TXT, record) for record in found]
        return plain_reason(tuple(b"".join(record.strings).decode("utf-8", "replace") for record in records))

    async def _ask(self, name: str, kind: str) -> dns.resolver.Answer:
        return await self._stub.resolve(
            name + ".", kind, raise_on_no_answer=False, search=False, lifetime=self._seconds
        )


def blocklist_resolver(settings: Settings) -> BlocklistResolver:
    """The one that the settings want: over the resolvers of ``dnsbl.servers``, or else those of everything."""
    servers = settings.dnsbl.servers or settings.dns.servers
    return BlocklistResolver(settings.dns.model_copy(update={"servers": servers}))
