"""Which addresses a courier may connect to: none inside anybody's house (threat 9: an MX record as a way to the inside).

Whoever registers a domain chooses its MX records, and so chooses what our machines connect to. The list is our own and not
``ipaddress.is_global``, whose answer changes from one Python to the next.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_NEVER_V4 = {
    IPv4Network("0.0.0.0/8"): "unspecified",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",
}
_PRIVATE_V4 = {
    IPv4Network("10.0.0.0/8"): "private",
    IPv4Network("100.64.0.0/10"): "carrier-grade NAT",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("169.254.0.0/16"): "link-local",
    IPv4Network("172.16.0.0/12"): "private",
    IPv4Network("192.0.0.0/24"): "protocol assignments",
    IPv4Network("192.0.2.0/24"): "documentation",
    IPv4Network("192.88.99.0/24"): "6to4 relay",
    IPv4Network("192.168.0.0/16"): "private",
    IPv4Network("198.18.0.0/15"): "benchmarking",
    IPv4Network("198.51.100.0/24"): "documentation",
    IPv4Network("203.0.113.0/24"): "documentation",
}
_NEVER_V6 = {
    IPv6Network("::/128"): "unspecified",
    IPv6Network("ff00::/8"): "multicast",
}
_PRIVATE_V6 = {
    IPv6Network("::1/128"): "loopback",
    IPv6Network("64:ff9b:1::/48"): "local NAT64",
    IPv6Network("100::/64"): "discard",
    IPv6Network("2001::/32"): "Teredo",
    IPv6Network("2001:db8::/32"): "documentation",
    IPv6Network("3fff::/20"): "documentation",
    IPv6Network("5f00::/16"): "segment routing",
    IPv6Network("fc00::/7"): "private",
    IPv6Network("fe80::/10"): "link-local",
    IPv6Network("fec0::/10"): "site-local",
}
_EMBEDDING_V6 = {
    IPv6Network("::ffff:0:0/96"): "v4-mapped",
    IPv6Network("::ffff:0:0:0/96"): "v4-translated",
    IPv6Network("64:ff9b::/96"): "NAT64",
    IPv6Network("2002::/16"): "6to4",
    IPv6Network("::/96"): "v4-compatible",
}
"""A mail host has no reason to hide an IPv4 address in an IPv6 one: it has an A record for that."""


def objection(address: str, *, allow_private: bool) -> str:
    """Why ``address`` must not be connected to, in two or three words; empty when it may be.

    Args:
        address: an IPv4 or IPv6 address in text form.
        allow_private: whether private, loopback and documentation addresses are fine (sandbox and tests). Unspecified and
            multicast addresses never are, nor is an IPv4 address dressed up as IPv6.

    Raises:
        ValueError: not an address.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv4Address):
        return _objection_v4(parsed, allow_private)
    return _objection_v6(parsed, allow_private)


def _objection_v4(address: IPv4Address, allow_private: bool) -> str:
    refused = _NEVER_V4 if allow_private else _NEVER_V4 | _PRIVATE_V4
    return next((reason for network, reason in refused.items() if address in network), "")


def _objection_v6(address: IPv6Address, allow_private: bool) -> str:
    if address.scope_id is not None:
        return "scoped"
    refused = _NEVER_V6 if allow_private else _NEVER_V6 | _PRIVATE_V6
    if address != IPv6Address("::1"):
        refused = refused | _EMBEDDING_V6
    return next((reason for network, reason in refused.items() if address in network), "")
