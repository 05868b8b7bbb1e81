"""Customers, accounts, sender domains and keys as the API shows and takes them. A secret is shown once, when it is made."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

CustomerId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$", examples=["10001"])]
Name = Annotated[str, Field(min_length=1, max_length=200)]
StatusWord = Literal["active", "disabled", "locked"]
InterfaceWord = Literal["rest", "smtp"]
ScopeWord = Literal["send", "read", "manage"]
TLSWord = Literal["may", "must"]
_TLS = "TLS towards the far side: may (encrypted when it works), or must (what cannot be encrypted is not delivered)."
LocalPart = Annotated[str, Field(min_length=1, max_length=64)]


class Given(BaseModel):
    """A request: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CustomerNew(Given):
    """A customer to be registered."""

    id: CustomerId
    name: Name
    hourly_capacity: int = Field(5000, ge=1, le=1_000_000_000, description="Booked mails per hour.")


class CustomerChange(Given):
    """What of a customer changes; what is left out stays."""

    name: Name | None = None
    status: StatusWord | None = None
    hourly_capacity: int | None = Field(None, ge=1, le=1_000_000_000)


class CustomerOut(BaseModel):
    """Level 1: who pays."""

    id: str
    name: str
    status: str
    hourly_capacity: int


class _SourceAddresses(Given):
    @field_validator("source_ips", check_fields=False)
    @classmethod
    def _single_addresses(cls, given: list[str] | None) -> list[str] | None:
        return None if given is None else [str(ipaddress.ip_address(text)) for text in given]


class AccountNew(_SourceAddresses):
    """A technical account to be registered."""

    customer: CustomerId | None = Field(None, description="Needed with an operator's key; else it is yours.")
    name: Name
    interfaces: list[InterfaceWord] = Field(["rest", "smtp"], min_length=1, max_length=2)
    source_ips: list[str] = Field([], max_length=1000, description="Single addresses it may be used from; empty: any.")
    login_by_ip: bool = Field(False, description="Whether one of these addresses is login enough (SMTP).")
    role_recipients: list[LocalPart] | None = Field(
        None, max_length=1000, description="Local parts that get no mail; null: the default list."
    )
    expiry_hours: int | None = Field(None, ge=1, le=24 * 30, description="How long delivery is tried.")


class AccountChange(_SourceAddresses):
    """What of an account changes; what is left out stays."""

    name: Name | None = None
    status: StatusWord | None = None
    interfaces: list[InterfaceWord] | None = Field(None, min_length=1, max_length=2)
    source_ips: list[str] | None = Field(None, max_length=1000)
    login_by_ip: bool | None = None
    role_recipients: list[LocalPart] | None = Field(None, max_length=1000)
    expiry_hours: int | None = Field(None, ge=1, le=24 * 30)


class AccountOut(BaseModel):
    """Level 2: what submits."""

    id: str
    customer: str
    name: str
    status: str
    interfaces: list[str]
    source_ips: list[str]
    login_by_ip: bool
    role_recipients: list[str] | None
    expiry_hours: int | None


class DomainNew(Given):
    """A sender domain to be registered; the first registration wins."""

    customer: CustomerId | None = Field(None, description="Needed with an operator's key; else it is yours.")
    name: str = Field(min_length=3, max_length=255, examples=["shop.example"])
    accounts: list[str] = Field(
        [], max_length=1000, description="Accounts that may use it; empty: all of the customer."
    )
    tls: TLSWord = Field("may", description=_TLS)


class DomainChange(Given):
    """What of a domain changes; what is left out stays."""

    accounts: list[str] | None = Field(None, max_length=1000)
    status: StatusWord | None = None
    client: str | None = Field(None, max_length=100, description="Free label.")
    tls: TLSWord | None = Field(None, description=_TLS)
    pool: str | None = Field(None, min_length=1, max_length=64, pattern=r"^[a-z0-9-]+$", description="Egress pool.")


class DKIMKeyOut(BaseModel):
    """A signing key, and the DNS record that must be published for it."""

    selector: str
    algorithm: str
    active: bool
    record_name: str = Field(examples=["d1._domainkey.shop.example"])
    record_value: str = Field(description="Value of the TXT record.", examples=["v=DKIM1; k=rsa; p=MIIBIjAN…"])


class DomainOut(BaseModel):
    """Level 3: a domain that may send."""

    name: str
    customer: str
    status: str
    accounts: list[str]
    client: str | None
    pool: str
    tls: str
    dkim: list[DKIMKeyOut]


class DKIMNew(Given):
    """A further signing key, for a rotation."""

    algorithm: Literal["rsa-sha256", "ed25519-sha256"] = "rsa-sha256"


class DKIMChange(Given):
    """Whether a signing key signs."""

    active: bool


class KeyNew(Given):
    """A credential to be made."""

    account: str = Field("", max_length=200, description="Account it logs in as; empty only for an operator's key.")
    name: Name
    use: Literal["api_key", "login", "operator"] = "api_key"
    scopes: list[ScopeWord] = Field([], max_length=3, description="What it may do; empty: all of its use.")
    expires_at: int | None = Field(None, ge=0, le=253_402_300_799_999, description="Milliseconds since 1970 UTC.")


class KeyChange(Given):
    """What of a credential changes; what is left out stays."""

    name: Name | None = None
    status: StatusWord | None = None
    scopes: list[ScopeWord] | None = Field(None, max_length=3)
    expires_at: int | None = Field(None, ge=0, le=253_402_300_799_999)


class KeyOut(BaseModel):
    """A credential without its secret."""

    id: str
    customer: str
    account: str
    name: str
    use: str
    status: str
    hint: str = Field(description="Last four characters of the secret.")
    scopes: list[str]
    expires_at: int | None


class KeyMade(KeyOut):
    """A fresh credential: the only time its secret is shown."""

    token: str | None = Field(description="Bearer token, of an api_key or operator key.")
    user: str | None = Field(description="User for HTTP Basic and SMTP AUTH, of a login.")
    password: str | None = Field(description="Password for HTTP Basic and SMTP AUTH, of a login.")


class _Page(BaseModel):
    next_cursor: str | None = Field(description="`cursor` of the next page; null: this was the last one.")
    has_more: bool


class CustomerPage(_Page):
    """A page of customers."""

    data: list[CustomerOut]


class AccountPage(_Page):
    """A page of accounts."""

    data: list[AccountOut]


class DomainPage(_Page):
    """A page of sender domains."""

    data: list[DomainOut]


class KeyPage(_Page):
    """A page of keys."""

    data: list[KeyOut]
