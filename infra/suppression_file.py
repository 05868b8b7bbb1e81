"""The suppression list as a CSV file, in and out; a cell that a spreadsheet would take for a formula gets an apostrophe."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from depesche.analytics.suppressions.desk import Wanted
from depesche.schemas.errors import InvalidRequestError, SetupError
from depesche.schemas.records import SuppressionReason
from depesche.schemas.values import Address

COLUMNS: Final = ("address", "reason", "days", "note")
EXPORTED: Final = (
    "address",
    "customer",
    "state",
    "reason",
    "reply_class",
    "since",
    "until",
    "blocked",
    "hard_bounces",
    "by",
    "note",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_REASONS: Final = frozenset(reason.value for reason in SuppressionReason if reason is not SuppressionReason.UNKNOWN)
MOST_DAYS: Final = 3650


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be taken."""

    line: int
    why: str


@dataclass(slots=True)
class Read:
    """What a file holds.

    Attributes:
        wanted: what is asked for, by address in lower case; of several lines about one address the first.
        repeated: lines about an address that stood further up.
        bad: lines that cannot be taken.
    """

    wanted: dict[str, Wanted] = field(default_factory=dict)
    repeated: int = 0
    bad: list[BadLine] = field(default_factory=list)


def read(file: TextIO, note: str = "") -> Read:
    """Read a file whose first line names its columns, ``address`` among them.

    Args:
        file: opened with ``newline=""``.
        note: for lines without one.

    Raises:
        SetupError: there is no column ``address``, or one that is not known.
    """
    rows = csv.DictReader(file)
    names = [name.strip().lower().lstrip("\ufeff") for name in rows.fieldnames or ()]
    if "address" not in names:
        raise SetupError(
            "The first line does not name a column address.", fix=f"Name the columns: {','.join(COLUMNS)}."
        )
    rows.fieldnames = names
    result = Read()
    for row in rows:
        _take(result, {name: _unquoted(value or "") for name, value in row.items() if name}, rows.line_num, note)
    return result


def _take(result: Read, row: Mapping[str, Any], line: int, note: str) -> None:
    try:
        address, wanted = _parsed(row, note)
    except (InvalidRequestError, ValueError) as fault:
        result.bad.append(BadLine(line, fault.public if isinstance(fault, InvalidRequestError) else str(fault)))
        return
    if address in result.wanted:
        result.repeated += 1
    else:
        result.wanted[address] = wanted


def _parsed(row: Mapping[str, str], note: str) -> tuple[str, Wanted]:
    address = str(Address.parse(row["address"].strip())).lower()
    reason = row.get("reason", "").strip().lower() or SuppressionReason.MANUAL.value
    if reason not in _REASONS:
        raise ValueError(f"there is no reason {reason[:40]!r}; there are {', '.join(sorted(_REASONS))}")
    days = row.get("days", "").strip() or "0"
    if not days.isdecimal() or int(days) > MOST_DAYS:
        raise ValueError(f"days are a number from 0 (until lifted) to {MOST_DAYS}, not {days[:40]!r}")
    return address, Wanted(SuppressionReason(reason), int(days), (row.get("note", "").strip() or note)[:500])


def write(file: TextIO, rows: Iterable[Mapping[str, Any]]) -> Iterator[int]:
    """Write rows as CSV; gives how many are written after each."""
    out = csv.writer(file)
    out.writerow(EXPORTED)
    for number, row in enumerate(rows, 1):
        out.writerow([_quoted(str(row[name] if row[name] is not None else "")) for name in EXPORTED])
        yield number


def _quoted(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _unquoted(cell: Any) -> str:
    text = cell if isinstance(cell, str) else ""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
