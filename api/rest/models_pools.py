"""Egress pools as the API shows and takes them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from depesche.api.rest.models_directory import Given


class PoolAddressIn(Given):
    """An own address."""

    ip: str = Field(
        min_length=2, max_length=45, description="IPv4 or IPv6 address to send from.", examples=["192.0.2.1"]
    )
    helo: str = Field("", max_length=255, description="Name in EHLO, equal to its PTR record; empty: the service's.")


class PoolNew(Given):
    """An egress pool to be made."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+$", examples=["vip"])
    addresses: list[PoolAddressIn] = Field(min_length=1, max_length=256)


class PoolChange(Given):
    """The addresses that an egress pool has from now on."""

    addresses: list[PoolAddressIn] = Field(min_length=1, max_length=256)


class PoolAddressOut(BaseModel):
    """An own address."""

    ip: str
    helo: str
    warm_up_from: str | None = Field(description="Day on which its warm-up begins or began; null: it needs none.")


class PoolOut(BaseModel):
    """An egress pool."""

    name: str
    addresses: list[PoolAddressOut]
    warm_up_plan: list[int] = Field(
        description="Mails per day and provider that a cold address may send, day by day; empty: the service's plan."
    )
    overflow_pool: str | None = Field(
        description="Pool that takes what cold addresses may not send yet; null: the warm addresses of this pool."
    )


class PoolPage(BaseModel):
    """A page of egress pools."""

    data: list[PoolOut]
    next_cursor: str | None = Field(description="`cursor` of the next page; null: this was the last one.")
    has_more: bool
