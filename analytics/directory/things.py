"""What a reader of the directory gets: owned domains, signing keys, principals. Values, no Kafka."""

from __future__ import annotations

from dataclasses import dataclass

from depesche.schemas.records import CredentialUse, SenderDomain


@dataclass(frozen=True, slots=True)
class OwnedDomain:
    """A registered sender domain and the customer whose registration came first."""

    name: str
    tenant: str
    value: SenderDomain


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A DKIM key ready to sign: the private key is PKCS#8 DER and never leaves the process."""

    selector: str
    algorithm: str
    private_key: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.selector!r}, {self.algorithm!r})"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: what the credential says, and nothing the caller says.

    Attributes:
        tenant: customer number.
        account: technical account; empty for an operator.
        key_id: the credential used, or ``ip:ADDRESS`` for a login by source address.
        use: how it was presented.
        scopes: what it may do; empty: all of its use.
    """

    tenant: str
    account: str
    key_id: str
    use: CredentialUse
    scopes: frozenset[str] = frozenset()

    def may(self, scope: str) -> bool:
        """Whether the credential allows ``scope`` (send, read, manage)."""
        if self.use is CredentialUse.OPERATOR:
            return not self.scopes or scope in self.scopes
        return (scope != "manage" and not self.scopes) or scope in self.scopes
