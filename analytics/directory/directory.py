"""The directory as a running process sees it: follows mail.directory and answers from memory."""

from __future__ import annotations

import hmac

import structlog
from aiokafka.structs import ConsumerRecord

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.directory.book import Book
from depesche.analytics.directory.pools import pool_of
from depesche.analytics.directory.secrets import hash_of, split_token
from depesche.analytics.directory.things import OwnedDomain, Principal, SigningKey
from depesche.analytics.log.follower import Follower
from depesche.schemas.codec import decode
from depesche.schemas.errors import UnauthorizedError, UndecodableError
from depesche.schemas.records import (
    Account,
    Credential,
    CredentialUse,
    Customer,
    DirectoryRecord,
    Pool,
    PoolAddress,
    Status,
)
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import DIRECTORY

log = structlog.get_logger(__name__)

_NOBODY = Credential(
    account="", name="", use=CredentialUse.UNKNOWN, secret_hash="0" * 64, hint="", status=Status.DISABLED
)


class Directory(Follower):
    """Customers, accounts, domains and credentials, as far as the log has been read."""

    def __init__(self, settings: Settings, keyring: Keyring, clock: Clock = now_ms) -> None:
        """Prepare to follow.

        Args:
            settings: where the log is.
            keyring: opens the secrets that stand in the directory.
            clock: the time in milliseconds, against which credentials expire.
        """
        super().__init__(settings, DIRECTORY, self._read)
        self.book = Book()
        self._keyring = keyring
        self._clock = clock
        self._pepper = keyring.pepper("credential")
        self._secrets: dict[tuple[str, bytes], bytes] = {}
        self._signing: dict[str, tuple[OwnedDomain, tuple[SigningKey, ...]]] = {}

    def _read(self, record: ConsumerRecord[bytes, bytes | None]) -> None:
        try:
            if record.value is None:
                self.book.remove(record.key)
            else:
                self.book.apply(decode(DirectoryRecord, record.value), record.offset)
        except UndecodableError as fault:
            # A damaged record must not hide all others; whoever wrote it did not get an answer either.
            log.error("directory_record_unreadable", offset=record.offset, cause=str(fault))

    def customer(self, tenant: str) -> Customer | None:
        """The customer, or nothing."""
        return self.book.customer(tenant)

    def domain(self, name: str) -> OwnedDomain | None:
        """The sender domain with its owner, or nothing."""
        return self.book.domain(name)

    def pool_addresses(self, pool: str) -> tuple[PoolAddress, ...]:
        """The own addresses of an egress pool; none when nobody has made it."""
        found = pool_of(self.book, pool)
        return found.addresses if found is not None else ()

    def pool(self, name: str) -> Pool | None:
        """The egress pool of this name; None when nobody has made it."""
        return pool_of(self.book, name)

    def sender_domain(self, name: str, principal_tenant: str, account: str) -> OwnedDomain | None:
        """The domain if this account may send from it now."""
        found = self.book.domain(name)
        if found is None or found.tenant != principal_tenant or found.value.status is not Status.ACTIVE:
            return None
        return found if not found.value.accounts or account in found.value.accounts else None

    def signing_keys(self, name: str) -> tuple[SigningKey, ...]:
        """The active DKIM keys of a domain, opened; kept until the domain's record changes."""
        found = self.book.domain(name)
        if found is None:
            return ()
        kept = self._signing.get(name)
        if kept is None or kept[0].value is not found.value:
            keys = tuple(
                SigningKey(
                    k.selector, k.algorithm, self._keyring.open_secret("dkim", found.tenant, k.sealed_private_key)
                )
                for k in found.value.dkim
                if k.active
            )
            self._signing[name] = kept = (found, keys)
        return kept[1]

    def recipient_secret(self, tenant: str) -> bytes:
        """The secret behind a tenant's recipient keys.

        Raises:
            UnauthorizedError: there is no such customer.
        """
        customer = self.book.customer(tenant)
        if customer is None:
            raise UnauthorizedError(f"no customer {tenant}")
        name = (tenant, customer.recipient_secret)
        if name not in self._secrets:
            self._secrets[name] = self._keyring.open_secret("recipient", tenant, customer.recipient_secret)
        return self._secrets[name]

    def bearer(self, token: str) -> Principal:
        """Who holds this bearer token.

        Raises:
            UnauthorizedError: nobody, or not any more; takes as long for an unknown key as for a wrong secret.
        """
        key_id, secret = split_token(token)
        return self._verify(key_id, secret, (CredentialUse.API_KEY, CredentialUse.OPERATOR))

    def login(self, user: str, secret: str) -> Principal:
        """Who logs in with this user (a key id) and password (the secret, or the whole token).

        Raises:
            UnauthorizedError: see ``bearer``.
        """
        key_id, inner = split_token(secret)
        return self._verify(user, inner if key_id == user else secret, (CredentialUse.LOGIN, CredentialUse.API_KEY))

    def by_source_ip(self, address: str) -> Principal | None:
        """Who may come in from this address without a password."""
        account_id = self.book.account_by_ip(address)
        found = self.book.account(account_id) if account_id else None
        if account_id is None or found is None or not self._in_force(*found):
            return None
        return Principal(found[0], account_id, f"ip:{address}", CredentialUse.LOGIN)

    def _verify(self, key_id: str, secret: str, uses: tuple[CredentialUse, ...]) -> Principal:
        tenant, credential = self.book.credential(key_id) or ("", _NOBODY)
        right = hmac.compare_digest(hash_of(secret, self._pepper), credential.secret_hash)
        unexpired = credential.expires_at is None or credential.expires_at > self._clock()
        alive = credential.status is Status.ACTIVE and unexpired
        if not (right and alive and credential.use in uses):
            raise UnauthorizedError("credentials")
        if credential.use is not CredentialUse.OPERATOR:
            found = self.book.account(credential.account)
            if found is None or found[0] != tenant or not self._in_force(*found):
                raise UnauthorizedError("account not active")
        return Principal(tenant, credential.account, key_id, credential.use, frozenset(credential.scopes))

    def _in_force(self, tenant: str, account: Account) -> bool:
        customer = self.book.customer(tenant)
        return customer is not None and customer.status is Status.ACTIVE and account.status is Status.ACTIVE
