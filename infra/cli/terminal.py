"""How every command speaks: data on standard output, talk on standard error, and one exit code per kind of fault.

0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused, 5 not just now, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.text import Text

from depesche.infra.load import Loaded, load
from depesche.infra.local.home_lock import as_it_runs
from depesche.schemas.errors import DepescheError, NotFoundError, Outage, Refusal, SetupError

JSON = Annotated[bool, typer.Option("--json", help="Write data as JSON, one object per line, and nothing else.")]

EXIT_FAILED, EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_TEMPORARY = 1, 3, 4, 5


def talk() -> Console:
    """The console for people: standard error. Colours follow the terminal and NO_COLOR."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def settings_or_fail() -> Loaded:
    """The configuration, with its warnings told. Where Depesche runs on this home, its ports are meant unless others are named.

    Raises:
        SetupError: it is not valid.
    """
    loaded = as_it_runs(load())
    for warning in loaded.warnings:
        talk().print(f"[yellow]warning:[/] {warning}")
    return loaded


def write_json(*rows: Mapping[str, Any]) -> None:
    """One line of JSON per row on standard output."""
    for row in rows:
        sys.stdout.write(orjson.dumps(row, default=_plain).decode() + "\n")
    sys.stdout.flush()


def write_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Rows as JSON lines or as a table with these columns; ``empty`` is said when there is none."""
    if as_json:
        write_json(*rows)
        return
    lines = [tuple(_shown(row.get(column)) for column in columns) for row in rows]
    if not lines:
        talk().print(empty)
        return
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    for line in (columns, *lines):
        sys.stdout.write(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        )
    sys.stdout.flush()


def write_pairs(row: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing: as a JSON line, or as aligned names and values."""
    if as_json:
        write_json(row)
        return
    width = max(map(len, row), default=0)
    for name, value in row.items():
        sys.stdout.write(f"{name:<{width}}  {_shown(value)}\n")


def write_text(text: str) -> None:
    """Text as it is on standard output."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def explain(fault: BaseException) -> int:
    """Tell a fault in one sentence with its fix; gives the exit code."""
    console = talk()
    if isinstance(fault, SetupError):
        finding, remedy = fault.public, fault.fix
    elif isinstance(fault, DepescheError):
        said = fault.public if fault.public != fault.title else f"{fault.public} ({fault})"
        finding, remedy = said if said.endswith((".", "?", "!")) else f"{said}.", ""
    else:
        finding, remedy = str(fault) or type(fault).__name__, ""
    console.print(Text.assemble(("error: ", "bold red"), finding))
    if remedy:
        console.print(Text.assemble(("  fix: ", "bold green"), remedy))
    return exit_code(fault)


def exit_code(fault: BaseException) -> int:
    """The exit code that tells the kind of a fault."""
    if isinstance(fault, NotFoundError):
        return EXIT_NOT_FOUND
    if isinstance(fault, Refusal):
        return EXIT_REFUSED
    if isinstance(fault, Outage):
        return EXIT_TEMPORARY
    return EXIT_FAILED


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)
