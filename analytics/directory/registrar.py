"""Changes to the directory: one record to mail.directory, the same to mail.audit, and an answer only after it was read back.

First registration wins. Two processes may register the same domain at the same time; both write, both read back, the log's
order decides, and the loser takes its claim away again and says ``ConflictError``.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TypeVar

from aiokafka import AIOKafkaProducer

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.directory.book import record_key
from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.dkim_keys import Algorithm, NewDKIMKey, new_dkim_key
from depesche.analytics.directory.pools import OPERATOR, check_known, check_pool, check_unused, pool_name
from depesche.analytics.directory.secrets import NewSecret, new_secret
from depesche.analytics.log.client import acknowledged, full_name
from depesche.schemas.codec import encode
from depesche.schemas.errors import ConflictError, InvalidRequestError, NotFoundError
from depesche.schemas.records import (
    Account,
    Credential,
    CredentialUse,
    Customer,
    DirectoryKind,
    DirectoryRecord,
    DKIMKey,
    Interface,
    Pool,
    SenderDomain,
    Status,
)
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import AUDIT, DIRECTORY
from depesche.schemas.values import domain_name

Thing = Customer | Account | SenderDomain | Credential | Pool
T = TypeVar("T", Customer, Account, SenderDomain, Credential, Pool)

TLS_POLICIES = ("may", "must")
"""What a sender domain can ask of TLS towards the far side: encrypted when it works, or else not delivered."""

_KIND: dict[type, DirectoryKind] = {
    Customer: DirectoryKind.CUSTOMER,
    Account: DirectoryKind.ACCOUNT,
    SenderDomain: DirectoryKind.DOMAIN,
    Credential: DirectoryKind.KEY,
    Pool: DirectoryKind.POOL,
}


class Registrar:
    """Writes the directory."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        producer: AIOKafkaProducer,
        keyring: Keyring,
        clock: Clock = now_ms,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._producer = producer
        self._keyring = keyring
        self._clock = clock

    async def add_customer(self, tenant: str, name: str, by: str, hourly_capacity: int = 5000) -> Customer:
        """Register a customer under its number.

        Raises:
            ConflictError: the number is taken.
            LogUnavailableError: no acknowledgement; whether it was written is unknown, asking again is safe.
        """
        secret = self._keyring.seal_secret("recipient", tenant, uuid.uuid4().bytes + uuid.uuid4().bytes)
        value = Customer(name=name, status=Status.ACTIVE, hourly_capacity=hourly_capacity, recipient_secret=secret)
        return await self._register(tenant, tenant, value, by)

    async def add_account(self, tenant: str, account: Account, by: str, id_: str = "") -> str:
        """Register a technical account; gives its id, ``<customer number>_<region>_<uuid>`` (wire note 1).

        Raises:
            NotFoundError: there is no such customer.
        """
        self._require_customer(tenant)
        account_id = id_ or f"{tenant}_local_{uuid.uuid4()}"
        await self._register(tenant, account_id, account, by)
        return account_id

    async def add_domain(
        self, tenant: str, name: str, by: str, *, accounts: tuple[str, ...] = (), tls: str = "may"
    ) -> SenderDomain:
        """Register a sender domain with a fresh RSA-2048 DKIM key.

        Args:
            tenant: customer number.
            name: the domain.
            by: who asks.
            accounts: accounts that may use it; none: all of the customer.
            tls: one of ``TLS_POLICIES``.

        Raises:
            ConflictError: another customer registered it first, or this one did already.
            InvalidRequestError: not a domain name, or no such TLS policy.
            NotFoundError: there is no such customer.
        """
        self._require_customer(tenant)
        if tls not in TLS_POLICIES:
            raise InvalidRequestError(f"tls {tls!r}", public="tls is may or must", pointer="/tls")
        key = self._sealed(tenant, await _made("rsa-sha256"), "d1")
        value = SenderDomain(accounts=accounts, status=Status.ACTIVE, tls=tls, dkim=(key,))
        return await self._register(tenant, domain_name(name), value, by)

    async def add_pool(self, name: str, value: Pool, by: str) -> Pool:
        """Make an egress pool; it belongs to the operator.

        Raises:
            ConflictError: there is one of this name, or one of the addresses is in another.
            InvalidRequestError: the name is not possible, or there is no address.
        """
        check_pool(self._directory.book, name, value)
        return await self._register(OPERATOR, name, value, by)

    async def rotate_dkim(self, name: str, tenant: str, by: str, algorithm: Algorithm = "rsa-sha256") -> DKIMKey:
        """Add a new active key under the next selector; the old one stays active until it is retired.

        Raises:
            NotFoundError: this customer has no such domain.
        """
        self._own(SenderDomain, name, tenant)
        fresh = await _made(algorithm)
        # Looked up after the key was made, or a change of the meantime would be undone.
        domain = self._own(SenderDomain, name, tenant)
        numbers = [int(k.selector[1:]) for k in domain.dkim if k.selector[1:].isdigit()]
        key = self._sealed(tenant, fresh, f"d{max(numbers, default=0) + 1}")
        await self.change(tenant, name, replace(domain, dkim=(*domain.dkim, key)), by)
        return key

    async def add_key(self, account_id: str, name: str, use: CredentialUse, by: str, tenant: str = "") -> NewSecret:
        """Make a credential; the secret in the answer is shown once and never stored.

        Args:
            account_id: account it logs in as; empty for an operator's key.
            name: display name.
            use: how it will be presented.
            by: who asks.
            tenant: customer number, needed only for an operator's key.

        Raises:
            NotFoundError: there is no such account.
        """
        if use is not CredentialUse.OPERATOR:
            found = self._directory.book.account(account_id)
            if found is None:
                raise NotFoundError(f"no account {account_id}")
            tenant = found[0]
        fresh = new_secret(self._keyring.pepper("credential"))
        value = Credential(
            account=account_id, name=name, use=use, secret_hash=fresh.hash, hint=fresh.secret[-4:], status=Status.ACTIVE
        )
        await self._register(tenant, fresh.key_id, value, by)
        return fresh

    async def change(self, tenant: str, id_: str, value: Thing, by: str) -> None:
        """Write a new version of a thing that exists.

        Raises:
            NotFoundError: this customer has no such thing.
            InvalidRequestError: a sender domain names a pool that is not there, or a pool cannot be like this.
            ConflictError: a pool takes an address that is in another.
        """
        kind = _KIND[type(value)]
        if isinstance(value, SenderDomain):
            check_known(self._directory.book, value.pool)
            value = replace(value, pool=pool_name(value.pool))
        elif isinstance(value, Pool):
            check_pool(self._directory.book, id_, value)
        if self._directory.book.claim_of(kind, id_, tenant) is None:
            raise NotFoundError(f"no {kind.value} {id_} of {tenant}")
        await self._write(kind, id_, tenant, value, by)

    async def remove(self, kind: DirectoryKind, id_: str, tenant: str, by: str) -> None:
        """Remove a thing; the audit topic keeps that it was there.

        Raises:
            NotFoundError: this customer has no such thing.
            ConflictError: sender domains still name this pool.
        """
        if kind is DirectoryKind.POOL:
            check_unused(self._directory.book, id_)
        if self._directory.book.claim_of(kind, id_, tenant) is None:
            raise NotFoundError(f"no {kind.value} {id_}")
        await self._write(kind, id_, tenant, None, by)

    async def _register(self, tenant: str, id_: str, value: T, by: str) -> T:
        kind = _KIND[type(value)]
        if self._directory.book.find(kind, id_) is not None:
            raise ConflictError(f"{kind.value} {id_} is registered", public=f"{id_} is registered already")
        await self._write(kind, id_, tenant, value, by)
        winner = self._directory.book.find(kind, id_)
        if winner is None or winner.record.tenant != tenant:
            await self._write(kind, id_, tenant, None, by)
            raise ConflictError(
                f"{kind.value} {id_}: another customer was first", public=f"{id_} is registered already"
            )
        return value

    async def _write(self, kind: DirectoryKind, id_: str, tenant: str, value: Thing | None, by: str) -> None:
        held = self._directory.book.claim_of(kind, id_, tenant)
        record = DirectoryRecord(
            kind=kind,
            id=id_,
            tenant=tenant,
            changed_at=self._clock(),
            changed_by=by,
            claimed_at=held.claim if held else None,
            value=value,
        )
        key, encoded = record_key(kind, id_, tenant), encode(record)
        deadline = self._settings.kafka.deadline_seconds
        audit = await self._producer.send(full_name(self._settings.kafka, AUDIT.name), encoded, key=key, partition=0)
        await acknowledged(audit, deadline)
        current = encoded if value is not None else None
        sent = await self._producer.send(full_name(self._settings.kafka, DIRECTORY.name), current, key=key, partition=0)
        written = await acknowledged(sent, deadline)
        await self._directory.wait_for(written.offset, deadline)

    def _sealed(self, tenant: str, fresh: NewDKIMKey, selector: str) -> DKIMKey:
        return DKIMKey(
            selector=selector,
            algorithm=fresh.algorithm,
            public_key=fresh.public_key,
            sealed_private_key=self._keyring.seal_secret("dkim", tenant, fresh.private_key),
            active=True,
        )

    def _own(self, kind: type[T], id_: str, tenant: str) -> T:
        entry = self._directory.book.find(_KIND[kind], id_)
        if entry is None or entry.record.tenant != tenant or not isinstance(entry.record.value, kind):
            raise NotFoundError(f"no {_KIND[kind].value} {id_} of {tenant}")
        return entry.record.value

    def _require_customer(self, tenant: str) -> None:
        if self._directory.book.customer(tenant) is None:
            raise NotFoundError(f"no customer {tenant}", public=f"There is no customer {tenant}")


async def _made(algorithm: Algorithm) -> NewDKIMKey:
    # An RSA key takes a tenth of a second and more, in which this process would answer nobody.
    return await asyncio.to_thread(new_dkim_key, algorithm)


def new_account(
    name: str, *interfaces: Interface, source_ips: tuple[str, ...] = (), login_by_ip: bool = False
) -> Account:
    """An active account with the usual defaults; without interfaces it may use both doors."""
    return Account(
        name=name,
        status=Status.ACTIVE,
        interfaces=interfaces or (Interface.REST, Interface.SMTP),
        source_ips=source_ips,
        login_by_ip=login_by_ip,
    )
