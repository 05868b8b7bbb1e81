"""From a search to SQL with bound parameters.

What was accepted stands in ``units``, what became of it in ``states``, every step in ``events``. A statement reads one of
them (its home); each part of a search that is about another becomes ``(accepted_at, unit_id) IN (SELECT ...)`` on that one.
So any mixture of and, or and not is exact, and no join is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from depesche.analytics.queries import values
from depesche.analytics.queries.grammar import PENDING, And, Expression, Not, Or, Term

Table = Literal["units", "states", "events"]

KEY = "(accepted_at, unit_id)"
_SOURCES: dict[Table, str] = {"units": "units", "states": "states FINAL", "events": "events"}
"""Rows of units are the same whenever they are repeated, and a step that happened twice still happened; states differ."""

_UNITS = frozenset(
    {"to", "from", "subject", "id", "campaign", "reference", "interface", "ip", "size", "address", "text"}
)
_STEPS = frozenset({"status", "code", "reason", "class", "provider", "host"})
_ANNOTATIONS = frozenset({"complained", "opened", "clicked", "unsubscribed", "stored", "resent"})
_PLAIN = {
    "account": "account",
    "tenant": "tenant",
    "campaign": "campaign_id",
    "class": "reply_class",
    "reason": "reason",
    "ip": "client",
}
_LOWERED = {"provider": "provider", "host": "host", "domain": "sender_domain", "interface": "interface"}


@dataclass(slots=True)
class Compiler:
    """Turns expressions into conditions on one table.

    Attributes:
        home: the table that the statement reads.
        bounds: condition that every table read on the side is kept within, such as the period.
        parameters: what has been bound so far; the statement's own may be in it already.
    """

    home: Table
    bounds: str
    parameters: dict[str, Any] = field(default_factory=dict)

    def condition(self, expression: Expression) -> str:
        """The condition that holds for the rows of the home table that the expression is true of."""
        tables = tables_of(expression, self.home)
        if self.home in tables:
            return self._plain(expression, self.home)
        if tables:
            table: Table = min(tables)
            inner = self._plain(expression, table)
            source = f"SELECT accepted_at, unit_id FROM {_SOURCES[table]}"  # noqa: S608  (a text of this file)
            return f"{KEY} IN ({source} WHERE {self.bounds} AND {inner})"
        return self._mixed(expression)

    def _mixed(self, expression: Expression) -> str:
        """A condition whose parts are about different tables; what is about the same one is asked together."""
        if isinstance(expression, Not):
            return f"NOT ({self.condition(expression.part)})"
        assert isinstance(expression, And | Or)
        kind, word = (And, " AND ") if isinstance(expression, And) else (Or, " OR ")
        groups: dict[frozenset[Table], list[Expression]] = {}
        for part in expression.parts:
            groups.setdefault(tables_of(part, self.home), []).append(part)
        asked: list[Expression] = []
        for tables, parts in groups.items():
            together = len(parts) > 1 and tables and not _by_itself(tables, self.home)
            asked += [kind(tuple(parts))] if together else parts
        return "(" + word.join(self.condition(part) for part in asked) + ")"

    def _plain(self, expression: Expression, table: Table) -> str:
        if isinstance(expression, Term):
            return _CONDITIONS[expression.field](self, expression.value, table)
        if isinstance(expression, Not):
            return f"NOT ({self._plain(expression.part, table)})"
        word = " AND " if isinstance(expression, And) else " OR "
        return "(" + word.join(self._plain(part, table) for part in expression.parts) + ")"

    def bind(self, value: str | int, kind: str = "String") -> str:
        """Bind a value; gives its placeholder."""
        name = f"q{len(self.parameters)}"
        self.parameters[name] = value
        return f"{{{name}:{kind}}}"

    def lowered(self, value: str) -> str:
        """Bind a value that is compared without regard to case."""
        return f"lowerUTF8({self.bind(value)})"

    def within(self, column: str, value: str) -> str:
        """The condition that ``column`` contains ``value``, without regard to case."""
        escaped = value.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return f"lowerUTF8({column}) LIKE {self.bind(f'%{escaped}%')}"


def tables_of(expression: Expression, home: Table) -> frozenset[Table]:
    """The tables of which any one can answer the whole expression, for a statement that reads ``home``.

    A statement on events asks what each event says; one on units or states asks where a unit stands, and looks into events
    only for what happened after its final state. Two such steps may be two events, so each is asked for by itself.
    """
    if isinstance(expression, Term):
        return _tables_of_term(expression, home)
    if isinstance(expression, Not):
        found = tables_of(expression.part, home)
    else:
        found = frozenset.intersection(*(tables_of(part, home) for part in expression.parts))
    return frozenset() if _by_itself(found, home) else found


def _tables_of_term(term: Term, home: Table) -> frozenset[Table]:
    if term.field in _UNITS:
        return frozenset({"units"})
    steps: Table = "events" if home == "events" else "states"
    if term.field == "status" and set(term.value.lower().split(",")) & _ANNOTATIONS:
        return frozenset({"events"})
    return frozenset({steps}) if term.field in _STEPS else frozenset({"units", steps})


def _by_itself(tables: frozenset[Table], home: Table) -> bool:
    return tables == {"events"} and home != "events"


def terms(expression: Expression | None) -> Iterator[Term]:
    """All terms, in order."""
    if isinstance(expression, Term):
        yield expression
    elif isinstance(expression, Not):
        yield from terms(expression.part)
    elif expression is not None:
        for part in expression.parts:
            yield from terms(part)


def needles(expression: Expression | None) -> Expression | None:
    """The part of a search that only very few units can match: exact ids, references and recipients; None: there is none."""
    if isinstance(expression, Term):
        exact = expression.field in ("id", "reference")
        return expression if exact or (expression.field == "to" and _is_address(expression.value)) else None
    if isinstance(expression, And):
        return next((found for part in expression.parts if (found := needles(part))), None)
    if isinstance(expression, Or):
        each = [needles(part) for part in expression.parts]
        return Or(tuple(part for part in each if part)) if all(each) else None
    return None


def _is_address(value: str) -> bool:
    local, _, domain = value.rpartition("@")
    return bool(local and domain)


def _person(columns: tuple[str, ...], domain_column: str) -> Callable[[Compiler, str, Table], str]:
    def condition(compiler: Compiler, value: str, table: Table) -> str:
        local, at, domain = value.rpartition("@")
        if at and local and domain:
            found = [f"lowerUTF8({column}) = {compiler.lowered(value)}" for column in columns]
        elif at and local:
            found = [f"startsWith(lowerUTF8({column}), {compiler.lowered(value)})" for column in columns]
        elif at or "." in value:
            found = [f"endsWith(lowerUTF8({column}), {compiler.lowered('@' + domain)})" for column in columns]
            found = [f"{domain_column} = {compiler.bind(domain.lower())}", *(found if len(columns) > 1 else ())]
        else:
            found = [compiler.within(column, value) for column in columns]
        return f"({' OR '.join(found)})"

    return condition


def _id(compiler: Compiler, value: str, table: Table) -> str:
    bare = value.removeprefix("<").removesuffix(">")
    job, unit = values.job_id(bare), values.unit_id(bare)
    if job is None and unit is None:
        return f"message_id = {compiler.bind(bare)}"
    taken = compiler.bind(values.time_of(unit or job or ""), "Int64")
    same = f"unit_id = {compiler.bind(unit)}" if unit else f"startsWith(unit_id, {compiler.bind(f'{job}.')})"
    return f"(accepted_at = fromUnixTimestamp64Milli({taken}, 'UTC') AND {same})"


def _status(compiler: Compiler, value: str, table: Table) -> str:
    column = "type" if table == "events" else "status"
    found = []
    for one in value.lower().split(","):
        found.append("NOT final" if one == PENDING else f"{column} = {compiler.bind(one)}")
    return f"({' OR '.join(found)})"


def _code(compiler: Compiler, value: str, table: Table) -> str:
    found = []
    for one in value.split(","):
        code = values.code(one)
        if isinstance(code, values.Range):
            least, most = compiler.bind(code.least, "UInt16"), compiler.bind(code.most, "UInt16")
            found.append(f"code BETWEEN {least} AND {most}")
        elif code.count(".") == 2:
            found.append(f"enhanced_code = {compiler.bind(code)}")
        else:
            found.append(f"startsWith(enhanced_code, {compiler.bind(code + '.')})")
    return f"({' OR '.join(found)})"


def _size(compiler: Compiler, value: str, table: Table) -> str:
    wanted = values.size(value)
    return f"size BETWEEN {compiler.bind(wanted.least, 'Int64')} AND {compiler.bind(wanted.most, 'Int64')}"


def _reference(compiler: Compiler, value: str, table: Table) -> str:
    return f"(reference = {compiler.bind(value)} OR reference_job = {compiler.bind(value)})"


def _address(compiler: Compiler, value: str, table: Table) -> str:
    columns = ("recipient", "mail_from", "header_from")
    found = [f"lowerUTF8({column}) = {compiler.lowered(value)}" for column in columns]
    return f"({' OR '.join((*found, f'message_id = {compiler.bind(value)}'))})"


def _text(compiler: Compiler, value: str, table: Table) -> str:
    found = [compiler.within("subject", value), compiler.within("recipient", value), _reference(compiler, value, table)]
    return f"({' OR '.join((*found, f'campaign_id = {compiler.bind(value)}'))})"


def _plain(column: str) -> Callable[[Compiler, str, Table], str]:
    return lambda compiler, value, table: f"{column} = {compiler.bind(value)}"


def _lowered(column: str) -> Callable[[Compiler, str, Table], str]:
    return lambda compiler, value, table: f"{column} = {compiler.bind(value.lower())}"


_CONDITIONS: dict[str, Callable[[Compiler, str, Table], str]] = {
    "to": _person(("recipient",), "recipient_domain"),
    "from": _person(("mail_from", "header_from"), "sender_domain"),
    "subject": lambda compiler, value, table: compiler.within("subject", value),
    "id": _id,
    "status": _status,
    "code": _code,
    "size": _size,
    "reference": _reference,
    "address": _address,
    "text": _text,
    **{name: _plain(column) for name, column in _PLAIN.items()},
    **{name: _lowered(column) for name, column in _LOWERED.items()},
}
