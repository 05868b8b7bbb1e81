"""Egress pools: the own addresses that a group of sender domains sends from. They belong to the operator of the service.

A pool has a name that stands in routes, and addresses that stand in no other pool: a reputation belongs to one address, and
what is shared by chance is spoilt by chance.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from depesche.analytics.directory.book import Book
from depesche.schemas.errors import ConflictError, InvalidRequestError
from depesche.schemas.records import DirectoryKind, Pool, PoolAddress, SenderDomain
from depesche.schemas.values import domain_name

OPERATOR = "*"
"""Customer number under which what belongs to the operator of the service stands."""
SHARED = "shared"
"""The pool of senders who have none of their own; without a record it has the addresses of ``deliver.source_ips``."""
_FORMER_NAMES = {"default": SHARED, "": SHARED}
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z")


def pool_name(name: str) -> str:
    """The name of a pool as it is meant now; domains that were registered early say ``default``."""
    return _FORMER_NAMES.get(name, name)


def pool_address(text: str) -> PoolAddress:
    """An own address from ``IP`` or ``IP=NAME``, the name being what it says in EHLO.

    Raises:
        InvalidRequestError: not an IP address, or not a host name.
    """
    ip, _, helo = text.partition("=")
    try:
        address = str(ipaddress.ip_address(ip.strip()))
    except ValueError as fault:
        public = f"{ip.strip()!r} is not an IPv4 or IPv6 address"
        raise InvalidRequestError("pool address", public=public, pointer="/addresses") from fault
    return PoolAddress(ip=address, helo=domain_name(helo.strip()) if helo else "")


def check_pool(book: Book, name: str, value: Pool) -> None:
    """See that a pool can be as it is wanted.

    Raises:
        InvalidRequestError: its name, the number of its addresses, its plan or the pool that helps is not possible.
        ConflictError: an address is in another pool, or twice in this one.
    """
    if not _NAME.match(name):
        public = "A pool's name has letters a to z, digits and hyphens, at most 64"
        raise InvalidRequestError("pool name", public=public, pointer="/name")
    if not value.addresses:
        raise InvalidRequestError("no address", public="A pool needs an address to send from", pointer="/addresses")
    if any(mails < 0 for mails in value.warm_up_plan):
        public = "A warm-up plan says how many mails a day: none below 0"
        raise InvalidRequestError("warm-up plan", public=public, pointer="/warm_up_plan")
    if value.overflow_pool == name:
        public = f"{name} cannot help itself: its own warm addresses take what its cold ones may not send anyway"
        raise InvalidRequestError("overflow pool", public=public, pointer="/overflow_pool")
    if value.overflow_pool:
        check_known(book, value.overflow_pool, "/overflow_pool")
    taken = {address.ip: other for other, pool in pools_of(book) if other != name for address in pool.addresses}
    seen: set[str] = set()
    for address in value.addresses:
        if address.ip in seen:
            raise ConflictError("twice", public=f"{address.ip} is named twice", pointer="/addresses")
        if address.ip in taken:
            public = f"{address.ip} is in the pool {taken[address.ip]} already"
            raise ConflictError("another pool", public=public, pointer="/addresses")
        seen.add(address.ip)


def check_known(book: Book, name: str, pointer: str = "/pool") -> None:
    """See that mail may be sent by this pool.

    Args:
        book: the directory.
        name: the pool's name.
        pointer: where the name stands in what was asked for.

    Raises:
        InvalidRequestError: there is no such pool.
    """
    if pool_name(name) != SHARED and pool_of(book, name) is None:
        known = ", ".join(sorted({SHARED, *(other for other, _ in pools_of(book))}))
        public = f"There is no egress pool {name}; there are {known}"
        raise InvalidRequestError(f"no pool {name}", public=public, pointer=pointer)


def check_unused(book: Book, name: str) -> None:
    """See that nobody sends from this pool any more.

    Raises:
        ConflictError: sender domains name it, or it helps another pool.
    """
    helped = [other for other, pool in pools_of(book) if pool.overflow_pool == name]
    if helped:
        public = f"{', '.join(sorted(helped))} overflows into the pool {name}; give it another first"
        raise ConflictError("overflow pool", public=public)
    users = [
        entry.record.id
        for entry in book.all(DirectoryKind.DOMAIN)
        if isinstance(entry.record.value, SenderDomain) and entry.record.value.pool == name
    ]
    if users and name != SHARED:
        more = f" and {len(users) - 3} more" if len(users) > 3 else ""
        public = f"{', '.join(users[:3])}{more} send from the pool {name}; give them another first"
        raise ConflictError(f"{len(users)} domains", public=public)


def pool_of(book: Book, name: str) -> Pool | None:
    """The pool of this name."""
    entry = book.find(DirectoryKind.POOL, pool_name(name))
    return entry.record.value if entry is not None and isinstance(entry.record.value, Pool) else None


def pools_of(book: Book) -> Iterable[tuple[str, Pool]]:
    """All pools by name."""
    for entry in book.all(DirectoryKind.POOL):
        if isinstance(entry.record.value, Pool):
            yield entry.record.id, entry.record.value
