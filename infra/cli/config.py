"""Configuration: what is in force, whether it can be, and what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_rows, write_text
from depesche.schemas.errors import SetupError


def add_to(app: typer.Typer) -> None:
    """Add the noun ``config``."""
    noun = typer.Typer(help="What is configured, whether it can be, and what there is.", no_args_is_help=True)
    noun.command(epilog="Example: depesche config show | grep port")(show)
    noun.command(epilog="Example: DEPESCHE_KAFKA__PROT=9092 depesche config check")(check)
    noun.command(epilog="Example: depesche config reference | less")(reference)
    app.add_typer(noun, name="config")


def show(
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not a default.")] = False, json: JSON = False
) -> None:
    """Show every setting in force and where its value came from; secrets are masked."""
    from depesche.infra.reference import describe

    rows = [row for row in describe(settings_or_fail()) if not changed or row["source"] != "default"]
    write_rows(rows, ("setting", "value", "source"), as_json=json, empty="Everything is at its default.")


def check(json: JSON = False) -> None:
    """Check the configuration: every malformed value with its source, every unknown variable with a suggestion.

    The exit code is 0 when it can be used as it is, else 1.
    """
    from depesche.infra import layout

    loaded = settings_or_fail()
    processes = layout.processes(loaded.settings)
    if json:
        write_json({"valid": True, "warnings": list(loaded.warnings), "processes": [p.name for p in processes]})
    else:
        talk().print(f"[green]✓[/] valid, {len(loaded.sources)} values are not at their default.")
    if loaded.warnings:
        raise typer.Exit(1)


def reference(
    write: Annotated[bool, typer.Option("--write", help="Write infra/config/reference.md of this checkout.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether that page is current.")] = False,
    json: JSON = False,
) -> None:
    """Explain every command, setting, topic, event, error, metric and crash point; the page is made from the sources."""
    from depesche.infra.load import load
    from depesche.infra.reference import describe, page, page_file

    file = page_file()
    if (write or check) and file is None:
        raise SetupError("There is no page to write: this is not a checkout.", fix="Run it in a clone.")
    if write and file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page(), "utf-8")
    elif check and file is not None:
        if not file.is_file() or file.read_text("utf-8") != page():
            raise SetupError("infra/config/reference.md is not what the sources say.", fix="Run `make gen`.")
    elif json:
        names = ("setting", "variable", "description")
        write_json(*({name: row[name] for name in names} for row in describe(load({}))))
    else:
        write_text(page())
