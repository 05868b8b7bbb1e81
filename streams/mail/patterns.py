"""Patterns that meet strangers' words: RE2 only, so that no input takes more than linear time (reliability: ReDoS).

The standard library's ``re`` backtracks; a bounce written to hurt would stop a worker. Nothing in the reading and classifying of
returned mail uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, cast

import re2

PATTERN_MEMORY = 16 << 20
"""Bytes RE2 may use for one pattern; a pattern that needs more is refused when it is compiled."""


class Match(Protocol):
    """One match, as in the standard library."""

    def group(self, *groups: int | str) -> str:
        """The text of a group; None where it did not take part."""

    def start(self, group: int = 0) -> int:
        """Where a group begins."""

    def end(self, group: int = 0) -> int:
        """Where a group ends."""

    def __getitem__(self, group: int | str) -> str: ...


class Pattern(Protocol):
    """A compiled pattern, as in the standard library."""

    def search(self, text: str) -> Match | None:
        """The first match anywhere."""

    def match(self, text: str) -> Match | None:
        """A match at the beginning."""

    def fullmatch(self, text: str) -> Match | None:
        """A match of everything."""

    def finditer(self, text: str) -> Iterator[Match]:
        """All matches."""

    def sub(self, replacement: str | Callable[[Match], str], text: str) -> str:
        """Text with every match replaced."""


def pattern(expression: str, *, any_case: bool = True) -> Pattern:
    """Compile an expression in RE2's syntax (no look-around, no back-references).

    Args:
        expression: ``\\pL`` and its like know Unicode, ``\\w`` and ``\\b`` only ASCII.
        any_case: whether upper and lower case are the same.

    Raises:
        ValueError: it is not valid, or too large.
    """
    options = re2.Options()
    options.case_sensitive = not any_case
    options.log_errors = False
    options.max_mem = PATTERN_MEMORY
    try:
        return cast(Pattern, re2.compile(expression, options))
    except re2.error as fault:
        raise ValueError(f"not a pattern RE2 can run: {expression[:80]!r}: {fault}") from fault
