"""Reads a shaping file: TOML to blocks, or an error that names the line, the key and the fix.

A file is taken as a whole or not at all. An unknown key is an error, because a limit that is misspelt is a limit that is not
there; so is a provider that nobody knows and that is no domain.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from depesche.schemas.errors import SetupError
from depesche.schemas.reply_classes import ReplyClass
from depesche.schemas.topics import RETRIES
from depesche.streams.mail.patterns import Pattern, pattern
from depesche.streams.mail.route import Providers, default_providers
from depesche.streams.mail.shaping.shape import ACTIONS, Action, AnswerRule, SuspendRule

DEFAULT = "default"
ANSWER_KEYS = ("name", "any", "not", "code", "enhanced", "step", "when", "class", "action", "for", "factor")
SUSPEND_KEYS = ("classes", "after", "within", "for")
STEPS = ("connect", "banner", "ehlo", "starttls", "mail", "rcpt", "data", "content", "dot")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])\Z")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|min|h|day)\Z")
_PER_MINUTE = {"s": 60.0, "min": 1.0, "h": 1 / 60, "day": 1 / 1440}
_AT_LINE = re.compile(r"at line (\d+)")
_TABLE = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?\Z")
_KEY = re.compile(r"\s*\"?([\w.-]+)\"?\s*=")
_PART = re.compile(r'"([^"]*)"|\'([^\']*)\'|([\w-]+)')


@dataclass(frozen=True, slots=True)
class Block:
    """One table of a file: what it says, each value with where it says so."""

    values: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    answers: tuple[AnswerRule, ...] = ()
    suspends: tuple[SuspendRule, ...] = ()


Blocks = Mapping[str, Block]
"""Provider (or ``default``) to its block."""


def read(text: str, name: str, providers: Providers | None = None) -> Blocks:
    """The blocks of a shaping file.

    Args:
        text: its content.
        name: what it is called in errors and explanations.
        providers: who is known; default: the table shipped.

    Raises:
        SetupError: it is not valid; the line, the key and the fix are named.
    """
    return _Reader(text, name, providers or default_providers()).blocks()


class _Reader:
    def __init__(self, text: str, name: str, providers: Providers) -> None:
        self._name = name
        self._providers = providers
        self._lines = _lines_of(text)
        try:
            self._data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as fault:
            at = _AT_LINE.search(str(fault))
            line = at[1] if at else len(text.splitlines())
            raise SetupError(f"{name}, line {line}: not TOML: {fault}", fix="Correct that line.") from fault

    def blocks(self) -> Blocks:
        self._known(self._data, (DEFAULT, "provider"), ())
        found = {}
        if DEFAULT in self._data:
            found[DEFAULT] = self._block((DEFAULT,), self._table(self._data[DEFAULT], (DEFAULT,)))
        for provider, entry in self._table(self._data.get("provider", {}), ("provider",)).items():
            self._check_provider(provider)
            path = ("provider", provider)
            found[provider] = self._block(path, self._table(entry, path))
        return found

    def _check_provider(self, provider: str) -> None:
        if provider in self._providers.names or ("." in provider and provider == provider.lower()):
            return
        near = difflib.get_close_matches(provider, self._providers.names, 1)
        fix = (
            f"Did you mean {near[0]}?" if near else "Name one that `depesche shaping show` lists, or a hoster's domain."
        )
        self._refuse(("provider", provider), "", f"there is no provider {provider}", fix)

    def _block(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> Block:
        self._known(entry, (*KEYS, "answer", "suspend"), path)
        values = {
            key: (self._checked(path, entry, key, check), self._origin(path, key))
            for key, check in _CHECKS.items()
            if key in entry
        }
        answers = tuple(self._answer((*path, "answer", str(n)), one) for n, one in self._list(entry, "answer", path))
        suspends = tuple(
            self._suspend((*path, "suspend", str(n)), one) for n, one in self._list(entry, "suspend", path)
        )
        return Block(values, answers, suspends)

    def _answer(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> AnswerRule:
        self._known(entry, ANSWER_KEYS, path)
        take = partial(self._checked, path, entry)
        actions = frozenset(take("action", _actions) or ())
        if not entry.get("name"):
            self._refuse(path, "", "a rule without a name", "Give it one: it is shown as the reason of what it does.")
        if not any(key in entry for key in ("any", "code", "enhanced", "step", "when")):
            self._refuse(path, "name", "a rule that fits every answer", "Name any, code, enhanced, step or when.")
        if {"defer", "bounce"} <= actions:
            self._refuse(path, "action", "defer and bounce exclude each other", "Leave one out.")
        return AnswerRule(
            name=str(entry["name"]),
            origin=self._origin(path, "name"),
            any=take("any", _patterns),
            unless=take("not", _patterns),
            codes=frozenset(take("code", _codes) or ()),
            enhanced=frozenset(take("enhanced", _strings) or ()),
            steps=frozenset(take("step", _steps) or ()),
            classes=frozenset(take("when", _classes) or ()),
            reply_class=take("class", _class),
            actions=actions,
            seconds=take("for", _duration) or 900.0,
            factor=take("factor", _factor) or 0.5,
        )

    def _suspend(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> SuspendRule:
        self._known(entry, SUSPEND_KEYS, path)
        for key in SUSPEND_KEYS:
            if key not in entry:
                self._refuse(path, "", f"a suspend rule without {key}", f"Say {key}.")
        take = partial(self._checked, path, entry)
        return SuspendRule(
            origin=self._origin(path, "classes"),
            classes=frozenset(take("classes", _classes)),
            after=take("after", partial(_whole, least=1, most=100_000)),
            within=take("within", _duration),
            seconds=take("for", _duration),
        )

    # Structure and errors.

    def _known(self, entry: Mapping[str, Any], keys: Collection[str], path: tuple[str, ...]) -> None:
        for key in entry:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, 1)
                fix = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(keys)}."
                self._refuse(path, key, f"unknown key {key}", fix)

    def _table(self, value: Any, path: tuple[str, ...]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self._refuse(path[:-1], path[-1], f"{path[-1]} is no table", f"Write it as [{'.'.join(path)}].")
        return value

    def _list(
        self, entry: Mapping[str, Any], key: str, path: tuple[str, ...]
    ) -> Iterable[tuple[int, Mapping[str, Any]]]:
        value = entry.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self._refuse(path, key, f"{key} is no list of tables", f"Write each as [[{'.'.join((*path, key))}]].")
        return enumerate(value)

    def _checked(self, path: tuple[str, ...], entry: Mapping[str, Any], key: str, check: Callable[[Any], Any]) -> Any:
        """The value of a key as ``check`` reads it; None where it is left out."""
        if key not in entry:
            return None
        try:
            return check(entry[key])
        except (ValueError, TypeError) as fault:
            self._refuse(path, key, f"{key}: {fault}", "Correct it, or take the key out.")

    def _line(self, path: tuple[str, ...], key: str) -> int:
        return self._lines.get((*path, key)) or self._lines.get(path) or 1

    def _origin(self, path: tuple[str, ...], key: str) -> str:
        table = ".".join(f'"{part}"' if "." in part else part for part in path if not part.isdecimal())
        return f"{self._name}:{self._line(path, key)} [{table}]"

    def _refuse(self, path: tuple[str, ...], key: str, what: str, fix: str) -> NoReturn:
        raise SetupError(f"{self._name}, line {self._line(path, key)}: {what}", fix=fix)


def _lines_of(text: str) -> dict[tuple[str, ...], int]:
    """The line of each table (a list's tables are numbered from 0) and of each key in it. For errors only; TOML decides."""
    lines: dict[tuple[str, ...], int] = {}
    counts: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _TABLE.match(line)
        if header is not None and not _KEY.match(line):
            table = tuple(next(filter(None, part)) for part in _PART.findall(header[2]))
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, str(counts[table]))
            lines.setdefault(table, number)
        elif (key := _KEY.match(line)) is not None:
            lines.setdefault((*table, key[1]), number)
    return lines


def _whole(value: Any, *, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"not a whole number from {least} to {most}")
    return value


def _duration(value: Any) -> float:
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None or float(match[1]) <= 0:
        raise ValueError('not a time such as "30s", "15m", "4h" or "2d"')
    return float(match[1]) * _UNITS[match[2]]


def _rate(value: Any) -> float | None:
    if value == "unlimited":
        return None
    match = _RATE.match(value) if isinstance(value, str) else None
    if match is None or float(match[1]) <= 0:
        raise ValueError('not a rate such as "300/min", "5/s", "1000/h" or "unlimited"')
    return float(match[1]) * _PER_MINUTE[match[2]]


def _ladder(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or any(rung not in RETRIES for rung in value):
        raise ValueError(f"not a list of rungs; there are {', '.join(RETRIES)}")
    return tuple(value)


def _factor(value: Any) -> float:
    if not isinstance(value, float) or not 0.01 <= value <= 0.99:
        raise ValueError("not a number from 0.01 to 0.99")
    return value


def _word(value: Any, words: Collection[str]) -> str:
    if value not in words:
        raise ValueError(f"{value!r} is none of {', '.join(words)}")
    return str(value)


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _strings(value: Any) -> list[str]:
    if not all(isinstance(one, str) for one in _many(value)):
        raise ValueError("not text, or a list of texts")
    return _many(value)


def _codes(value: Any) -> list[int]:
    if not all(isinstance(one, int) and 400 <= one <= 599 for one in _many(value)):
        raise ValueError("not a reply code from 400 to 599, or a list of them")
    return _many(value)


def _actions(value: Any) -> list[Action]:
    return [next(action for action in ACTIONS if action == _word(one, ACTIONS)) for one in _many(value)]


def _steps(value: Any) -> list[str]:
    return [_word(one, STEPS) for one in _many(value)]


def _class(value: Any) -> ReplyClass:
    return ReplyClass(_word(value, tuple(ReplyClass)))


def _classes(value: Any) -> list[ReplyClass]:
    return [_class(one) for one in _many(value)]


def _patterns(value: Any) -> Pattern:
    for one in _strings(value):
        pattern(one)
    return pattern("|".join(f"(?:{one})" for one in _strings(value)))


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "connections": partial(_whole, least=1, most=1000),
    "rate": _rate,
    "messages_per_connection": partial(_whole, least=1, most=100_000),
    "ladder": _ladder,
    "tls": partial(_word, words=("may", "must")),
    "shards": partial(_whole, least=1, most=64),
    "lifetime": _duration,
}
KEYS = tuple(_CHECKS)
