"""The command ``depesche``: nouns and verbs as in the REST interface, one file per noun.

Commands import what they need when they run, so that ``depesche --help`` answers at once.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from depesche.infra.cli import (
    account,
    alerts,
    audit,
    classify,
    config,
    control,
    customer,
    dnsbl,
    doctor,
    domain,
    inbox,
    key,
    looking,
    pace,
    pool,
    queue,
    rates,
    replay,
    running,
    sending,
    services,
    shaping,
    suppression,
    tables,
    tls,
    topics,
)
from depesche.infra.cli.sections import sections
from depesche.infra.cli.terminal import explain
from depesche.schemas.errors import DepescheError, SetupError

_REINSTALL = "In a checkout: rm build/stamps/python && make setup. Elsewhere: pip install --force-reinstall depesche."

INTRODUCTION = """Depesche: transactional email in which every step of every mail is a record you can look at.

Start everything on this machine with `depesche up`; it ends by printing what to paste next.
Data goes to standard output, talk to standard error; --json gives data as JSON lines.
Settings come from DEPESCHE_... variables or a TOML file: `depesche config reference`."""


class Listing(TyperGroup):
    """A list of commands in whole sentences; the framework's own cuts them off where the line ends."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """See click."""
        for title, names in sections(self.list_commands(ctx)):
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, command.get_short_help_str(1_000)) for name, command in commands if command])


def build() -> typer.Typer:
    """The command with all its nouns."""
    app = typer.Typer(
        name="depesche",
        cls=Listing,
        help=INTRODUCTION,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    running.add_to(app)
    for noun in (
        sending,
        looking,
        queue,
        control,
        inbox,
        rates,
        pace,
        replay,
        alerts,
        dnsbl,
        audit,
        doctor,
        classify,
        shaping,
        suppression,
        customer,
        account,
        domain,
        pool,
        tls,
        key,
        topics,
        tables,
        config,
    ):
        noun.add_to(app)
    services.add_to(app)
    return app


def main() -> None:
    """Run the command; a fault we expect becomes one sentence with its fix, never a traceback."""
    try:
        build()(prog_name="depesche")
    except DepescheError as fault:
        sys.exit(explain(fault))
    except ModuleNotFoundError as fault:
        if fault.name is None or fault.name.partition(".")[0] == "depesche":
            raise
        missing = SetupError(f"The Python package with {fault.name} is missing.", fix=_REINSTALL)
        sys.exit(explain(missing))
    except PermissionError as fault:
        refused = SetupError(f"{fault.filename}: {fault.strerror}.", fix="Run it as the user who started Depesche.")
        sys.exit(explain(refused))
    except BrokenPipeError:
        # Whoever read our output has seen enough (`depesche search ... | head`).
        sys.stdout = None
        sys.exit(0)


if __name__ == "__main__":
    main()
