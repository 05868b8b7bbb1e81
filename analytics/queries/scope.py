"""Whose data a question may see: the one place that keeps customers apart (threat 13: tenant isolation).

A question cannot be made without a scope. For a customer's scope ClickHouse itself is told to add the filter to every read
of our tables, in whatever corner of the statement it stands (setting ``additional_table_filters``). So a statement that
forgets the customer still shows one customer only, and one that is wrong shows too little rather than too much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from depesche.analytics.store.client import Rows, StoreClient
from depesche.schemas.errors import InvalidRequestError

SCOPED_TABLES = ("events", "units", "states", "dead_letters")
SECONDS = 10.0
_TENANT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer's data.

    Raises:
        InvalidRequestError: ``id`` is no customer number; it stands in a filter and must not be able to end it.
    """

    id: str

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not _TENANT.match(self.id):
            raise InvalidRequestError("not a customer number")


@dataclass(frozen=True, slots=True)
class AllTenants:
    """Everybody's data, for operators. ``operator`` says who asks and why it is allowed."""

    operator: str

    def __post_init__(self) -> None:
        if not self.operator:
            raise InvalidRequestError("a question about all customers names who asks")


Scope: TypeAlias = Tenant | AllTenants


@dataclass(frozen=True, slots=True)
class Question:
    """A statement with bound parameters (``{name:Type}``) and whose data it may see.

    Raises:
        TypeError: there is no scope.
    """

    scope: Scope
    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.scope, Tenant | AllTenants):
            raise TypeError("a question needs a scope: Tenant or AllTenants")

    async def ask(self, client: StoreClient, *, seconds: float = SECONDS) -> Rows:
        """The answer.

        Raises:
            StoreUnavailableError: there is none.
        """
        settings = filters(self.scope, client.database)
        return await client.query(self.sql, self.parameters, settings=settings, seconds=seconds)


def filters(scope: Scope, database: str) -> dict[str, str]:
    """The ClickHouse settings that confine a statement to ``scope``."""
    if isinstance(scope, AllTenants):
        return {}
    mine = rf"tenant = \'{scope.id}\'"
    pairs = ", ".join(f"'{database}.{table}': '{mine}'" for table in SCOPED_TABLES)
    return {"additional_table_filters": f"{{{pairs}}}"}
