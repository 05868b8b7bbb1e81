"""Which way a unit goes: egress pool, mailbox provider, shard.

A route is what a courier owns and what pace is kept for. Large providers have many domains and one opinion of a sender, so
their domains share a route; every other domain is its own provider until its MX records say more.
"""

from __future__ import annotations

POOL = "shared"
"""The egress pool of senders who have none of their own."""

_DOMAINS: dict[str, tuple[str, ...]] = {
    "gmail": ("gmail.com", "googlemail.com"),
    "microsoft": (
        "outlook.com",
        "outlook.de",
        "outlook.fr",
        "outlook.es",
        "outlook.it",
        "hotmail.com",
        "hotmail.de",
        "hotmail.fr",
        "hotmail.es",
        "hotmail.it",
        "hotmail.co.uk",
        "live.com",
        "live.de",
        "live.fr",
        "live.nl",
        "live.co.uk",
        "msn.com",
    ),
    "yahoo": (
        "yahoo.com",
        "yahoo.de",
        "yahoo.fr",
        "yahoo.es",
        "yahoo.it",
        "yahoo.co.uk",
        "yahoo.co.in",
        "yahoo.com.br",
        "ymail.com",
        "rocketmail.com",
        "aol.com",
        "aol.de",
        "aim.com",
    ),
    "apple": ("icloud.com", "me.com", "mac.com"),
    "gmx": ("gmx.de", "gmx.net", "gmx.at", "gmx.ch", "gmx.com", "gmx.eu", "gmx.org", "gmx.info"),
    "web.de": ("web.de", "email.de"),
    "t-online": ("t-online.de", "magenta.de"),
    "freenet": ("freenet.de",),
    "mail.ru": ("mail.ru", "bk.ru", "inbox.ru", "list.ru"),
    "proton": ("proton.me", "protonmail.com", "protonmail.ch", "pm.me"),
}
_PROVIDER = {domain: provider for provider, domains in _DOMAINS.items() for domain in domains}


def provider_of_domain(domain: str) -> str:
    """The mailbox provider of a recipient domain (A-label, lower case): its name, or the domain itself."""
    return _PROVIDER.get(domain, domain)


def route_of(provider: str, pool: str = POOL, shard: int = 0) -> str:
    """The route string ``pool/provider/shard``."""
    return f"{pool}/{provider}/{shard}"
