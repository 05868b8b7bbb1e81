"""The language of search: one for the command line, REST and the portal.

    to:ada@example.org status:bounced since:1h
    from:shop.example (code:5xx or code:4.2.2) -subject:"test mail"

Terms side by side must all hold; ``or`` joins alternatives, ``-`` or ``not`` turns around, brackets group. A word without a
field is guessed: an id, an address, or words of the subject. Parsing is pure; what cannot be read is told with its place.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from depesche.analytics.queries import values
from depesche.schemas.errors import InvalidRequestError
from depesche.schemas.records import EventType, Interface

FIELDS: dict[str, str] = {
    "to": "recipient: an address, a domain, or a part of an address",
    "from": "sender, of the envelope or the From header: an address, a domain, or a part",
    "subject": "words of the subject",
    "id": "job, unit or message id",
    "status": "where it stands: accepted, signed, deferred, delivered, bounced, dropped, ... or pending for not final",
    "code": "last reply: 550, 5xx, 5.1.1",
    "reason": "why it was dropped or failed, such as virus_detected",
    "class": "class of the last reply, such as recipient_unknown",
    "provider": "mailbox provider, such as gmail",
    "host": "mail server that answered last",
    "account": "technical account",
    "campaign": "the customer's campaign",
    "reference": "the customer's reference of the job or recipient",
    "domain": "registered sender domain",
    "interface": "front door: rest or smtp",
    "ip": "address of the submitting client",
    "size": "size of the message: >200k, 100k..1m",
    "address": "recipient or sender, or a message id",
    "text": "words of subject, recipient, reference or campaign",
    "tenant": "customer number (for operators)",
    "since": "accepted at or after: 1h, today, 2026-11-23, 2026-11-23T08:00Z",
    "until": "accepted before; a day is included",
    "between": "both: 2026-11-20..2026-11-23",
}
"""Every field with a sentence, in the order in which help shows them."""

PENDING = "pending"
MAX_LENGTH, MAX_TERMS, MAX_DEPTH = 2_000, 50, 20
_PERIOD = frozenset({"since", "until", "between"})
_NAME = re.compile(r"(?P<name>[A-Za-z_]+):")
_SPECIAL = re.compile(r"[\s()\"]")


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: a field and its value. ``at``: where it stands, from 1; it takes no part in comparisons."""

    field: str
    value: str
    at: int = dataclasses.field(default=0, compare=False)

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{self.field}:"{escaped}"'


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    part: Expression

    def __str__(self) -> str:
        return f"-({self.part})" if isinstance(self.part, And) else f"-{self.part}"


@dataclass(frozen=True, slots=True)
class And:
    """Conditions that must all hold; two or more."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.parts))


@dataclass(frozen=True, slots=True)
class Or:
    """Conditions of which one must hold; two or more."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return f"({' or '.join(map(str, self.parts))})"


Expression: TypeAlias = Term | Not | And | Or


@dataclass(frozen=True, slots=True)
class Query:
    """A search. ``since`` (included) and ``until`` (not included) bound the time of acceptance, in milliseconds."""

    expression: Expression | None = None
    since: int | None = None
    until: int | None = None


class QueryError(InvalidRequestError):
    """A search that cannot be read. ``at``: the character it is about, from 1."""

    code = "invalid_query"
    title = "The search cannot be read"

    def __init__(self, problem: str, at: int) -> None:
        super().__init__(problem, public=f"{problem} (character {at})", pointer="q")
        self.at = at


def parse(text: str, now_ms: int) -> Query:
    """Read a search.

    Args:
        text: what somebody typed; nothing finds everything.
        now_ms: what ``1h`` and ``today`` count from, in milliseconds since 1970 UTC.

    Raises:
        QueryError: it cannot be read; says where and what would be right.
    """
    if len(text) > MAX_LENGTH:
        raise QueryError(f"a search has at most {MAX_LENGTH} characters", MAX_LENGTH + 1)
    parser = _Parser(text, now_ms)
    expression = parser.read()
    if parser.since is not None and parser.until is not None and parser.since >= parser.until:
        raise QueryError("the period ends before it begins", 1)
    return Query(expression, parser.since, parser.until)


def guess(word: str) -> str:
    """The field that a word without one is about."""
    if values.job_id(word) or values.unit_id(word) or (word.startswith("<") and word.endswith(">")):
        return "id"
    return "address" if "@" in word.strip("@") else "text"


class _Parser:
    """Recursive descent over the text; ``position`` is the next character."""

    def __init__(self, text: str, now_ms: int) -> None:
        self.since: int | None = None
        self.until: int | None = None
        self._text = text
        self._now = now_ms
        self._position = 0
        self._terms = 0

    def read(self) -> Expression | None:
        found = self._alternatives(depth=0)
        if self._position < len(self._text):
            raise QueryError("this bracket closes nothing", self._position + 1)
        return found

    def _alternatives(self, depth: int) -> Expression | None:
        """One or more runs of conditions, joined by ``or``."""
        if depth > MAX_DEPTH:
            raise QueryError("brackets are nested too deeply", self._position + 1)
        start = self._period()
        parts = [self._run(depth)]
        while self._keyword("or"):
            parts.append(self._run(depth))
        if len(parts) == 1:
            return parts[0]
        if self._period() != start:
            raise QueryError("a period cannot stand in an alternative", 1)
        kept = [part for part in parts if part is not None]
        if len(kept) < len(parts):
            raise QueryError("a condition is missing beside `or`", self._position + 1)
        return Or(tuple(one for part in kept for one in (part.parts if isinstance(part, Or) else (part,))))

    def _run(self, depth: int) -> Expression | None:
        """Conditions side by side, up to ``or``, a closing bracket or the end."""
        parts: list[Expression] = []
        while True:
            self._blanks()
            if self._position >= len(self._text) or self._text[self._position] == ")" or self._sees("or"):
                break
            if self._keyword("and"):
                continue
            found = self._condition(depth)
            if found is not None:
                parts += found.parts if isinstance(found, And) else (found,)
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _condition(self, depth: int) -> Expression | None:
        start, period = self._position, self._period()
        if self._text[start] == "-" or self._keyword("not"):
            self._position = max(self._position, start + 1)
            self._blanks()
            if depth >= MAX_DEPTH:
                raise QueryError("too many signs in a row", start + 1)
            if self._position >= len(self._text) or self._text[self._position] == ")" or self._sees("or"):
                raise QueryError("a condition is missing here", self._position + 1)
            part = self._condition(depth + 1)
            if part is None or self._period() != period:
                raise QueryError("a period cannot be turned around", start + 1)
            return part.part if isinstance(part, Not) else Not(part)
        if self._text[start] == "(":
            return self._group(depth, period)
        return self._term()

    def _group(self, depth: int, period: tuple[int | None, int | None]) -> Expression:
        start = self._position
        self._position += 1
        found = self._alternatives(depth + 1)
        if self._position >= len(self._text):
            raise QueryError("this bracket is not closed", start + 1)
        self._position += 1
        if found is None or self._period() != period:
            problem = "there is nothing in this bracket" if found is None else "a period cannot stand in brackets"
            raise QueryError(problem, start + 1)
        return found

    def _term(self) -> Expression | None:
        start = self._position
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise QueryError(f"a search has at most {MAX_TERMS} conditions", start + 1)
        match = _NAME.match(self._text, start)
        if match is None:
            quoted = self._text[start] == '"'
            word = self._value(start)
            return self._checked(Term("text" if quoted else guess(word), word, start + 1))
        name = match["name"].lower()
        if name not in FIELDS:
            known = ", ".join(FIELDS)
            raise QueryError(
                f"there is no field {match['name']!r}; there are {known}. Quote it to search for it", start + 1
            )
        self._position = match.end()
        return self._checked(Term(name, self._value(start), start + 1))

    def _checked(self, term: Term) -> Expression | None:
        try:
            if term.field in _PERIOD:
                self._narrow(term)
                return None
            check = _CHECKS.get(term.field)
            if check is not None:
                check(term.value)
        except ValueError as fault:
            raise QueryError(str(fault), term.at) from fault
        return term

    def _narrow(self, term: Term) -> None:
        first, between, last = term.value.partition("..")
        if (term.field == "between") != bool(between):
            raise ValueError("a period is between:2026-11-20..2026-11-23 or since:1h or until:today")
        if term.field in ("since", "between"):
            self.since = max(self.since or 0, values.moment(first, self._now))
        if term.field in ("until", "between"):
            end = values.end_of(last or first, self._now)
            self.until = end if self.until is None else min(self.until, end)

    def _value(self, start: int) -> str:
        if self._position < len(self._text) and self._text[self._position] == '"':
            found = self._quoted()
        else:
            match = _SPECIAL.search(self._text, self._position)
            end = match.start() if match else len(self._text)
            found, self._position = self._text[self._position : end], end
        if not found.strip():
            raise QueryError("a value is missing here", start + 1)
        return found

    def _quoted(self) -> str:
        start = self._position
        found: list[str] = []
        position = start + 1
        while position < len(self._text):
            character = self._text[position]
            if character == '"':
                self._position = position + 1
                return "".join(found)
            if character == "\\" and self._text[position + 1 : position + 2] in ('"', "\\"):
                position += 1
                character = self._text[position]
            found.append(character)
            position += 1
        raise QueryError("this quotation is not closed", start + 1)

    def _blanks(self) -> None:
        while self._position < len(self._text) and self._text[self._position].isspace():
            self._position += 1

    def _sees(self, word: str) -> bool:
        end = self._position + len(word)
        return self._text[self._position : end].lower() == word and (
            end >= len(self._text) or bool(_SPECIAL.match(self._text[end]))
        )

    def _keyword(self, word: str) -> bool:
        self._blanks()
        if not self._sees(word):
            return False
        self._position += len(word)
        return True

    def _period(self) -> tuple[int | None, int | None]:
        return self.since, self.until


def _one_of(what: str, known: frozenset[str]) -> Callable[[str], object]:
    def check(text: str) -> None:
        wrong = sorted(set(text.lower().split(",")) - known)
        if wrong:
            raise ValueError(f"{what} {wrong[0]!r} does not exist; there are {', '.join(sorted(known))}")

    return check


_STATUSES = frozenset(kind.value for kind in EventType if kind is not EventType.UNKNOWN) | {PENDING}
_CHECKS: dict[str, Callable[[str], object]] = {
    "status": _one_of("the status", _STATUSES),
    "interface": _one_of("the interface", frozenset(door.value for door in Interface if door is not Interface.UNKNOWN)),
    "size": values.size,
    "code": lambda text: [values.code(one) for one in text.split(",")],
}
