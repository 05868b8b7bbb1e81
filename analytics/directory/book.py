"""The directory as a fold of its records: pure, so that every process that has read the same log holds the same book.

First registration wins: a domain belongs to the customer whose record came first. A later record of the same thing by the
same customer is a new version; one by another customer is a claim that lost and changes nothing. Compaction may take away
the first record of a thing, therefore every later version repeats the offset of the first one in ``claimed_at``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from depesche.analytics.directory.things import OwnedDomain
from depesche.schemas.records import (
    Account,
    Credential,
    Customer,
    DirectoryKind,
    DirectoryRecord,
    SenderDomain,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing as it is now, with the offset that its owner first claimed it at."""

    record: DirectoryRecord
    claim: int


def record_key(kind: DirectoryKind, id_: str, tenant: str) -> bytes:
    """The key under which a thing stands in mail.directory; the tenant is in it so that rival claims do not overwrite."""
    return f"{kind.value}/{id_}/{tenant}".encode()


class Book:
    """All things of the directory by kind and id."""

    def __init__(self) -> None:
        self._claims: dict[tuple[DirectoryKind, str], dict[str, Entry]] = {}
        self._by_ip: dict[str, str] = {}
        self.version = 0

    def apply(self, record: DirectoryRecord, offset: int) -> None:
        """Take in the next record of the log."""
        claims = self._claims.setdefault((record.kind, record.id), {})
        held = claims.get(record.tenant)
        if record.value is None:
            claims.pop(record.tenant, None)
        else:
            first = record.claimed_at if record.claimed_at is not None else held.claim if held else offset
            claims[record.tenant] = Entry(record, first)
        self.version += 1
        if record.kind is DirectoryKind.ACCOUNT:
            self._index_addresses()

    def remove(self, key: bytes) -> None:
        """Take in a tombstone."""
        kind, id_, tenant = key.decode().split("/", 2)
        self._claims.get((DirectoryKind(kind), id_), {}).pop(tenant, None)
        self.version += 1

    def _index_addresses(self) -> None:
        self._by_ip = {
            address: entry.record.id
            for entry in self.all(DirectoryKind.ACCOUNT)
            if isinstance(entry.record.value, Account) and entry.record.value.login_by_ip
            for address in entry.record.value.source_ips
        }

    def find(self, kind: DirectoryKind, id_: str) -> Entry | None:
        """The thing, as its first claimant has it."""
        claims = self._claims.get((kind, id_))
        if not claims:
            return None
        return min(claims.values(), key=lambda entry: entry.claim)

    def claim_of(self, kind: DirectoryKind, id_: str, tenant: str) -> Entry | None:
        """What ``tenant`` itself registered, whether it won or not."""
        return self._claims.get((kind, id_), {}).get(tenant)

    def all(self, kind: DirectoryKind, tenant: str | None = None) -> Iterator[Entry]:
        """All things of a kind that are in force, of one customer or of all, by id."""
        for found_kind, id_ in sorted(self._claims, key=lambda pair: (pair[0].value, pair[1])):
            if found_kind is kind:
                entry = self.find(kind, id_)
                if entry is not None and tenant in (None, entry.record.tenant):
                    yield entry

    def customer(self, tenant: str) -> Customer | None:
        """Level 1."""
        entry = self.find(DirectoryKind.CUSTOMER, tenant)
        return entry.record.value if entry and isinstance(entry.record.value, Customer) else None

    def account(self, id_: str) -> tuple[str, Account] | None:
        """Level 2: customer number and account."""
        entry = self.find(DirectoryKind.ACCOUNT, id_)
        return (entry.record.tenant, entry.record.value) if entry and isinstance(entry.record.value, Account) else None

    def domain(self, name: str) -> OwnedDomain | None:
        """Level 3, as its first claimant has it."""
        entry = self.find(DirectoryKind.DOMAIN, name)
        if entry is None or not isinstance(entry.record.value, SenderDomain):
            return None
        return OwnedDomain(name, entry.record.tenant, entry.record.value)

    def credential(self, key_id: str) -> tuple[str, Credential] | None:
        """Customer number and credential."""
        entry = self.find(DirectoryKind.KEY, key_id)
        return (
            (entry.record.tenant, entry.record.value) if entry and isinstance(entry.record.value, Credential) else None
        )

    def account_by_ip(self, address: str) -> str | None:
        """The account that may log in from ``address`` without a password."""
        return self._by_ip.get(address)
