"""Commands of deployment: one service, or several together, in the foreground under somebody else's supervisor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from depesche.infra.cli.terminal import JSON, settings_or_fail, write_rows
from depesche.infra.layout import SERVICES

#: Command to the service behind it; the word of the commands is the word of the design.
_COMMANDS = {
    "api": "rest",
    "smtp": "smtp",
    "inbound": "inbound",
    "prepare": "prepare",
    "deliver": "deliver",
    "retry": "retry",
    "returns": "returns",
    "agents": "agents",
    "analytics": "analytics",
    "monitor": "monitor",
}
NAME = Annotated[
    str, typer.Option("--name", help="Name of this process in consumer groups; it keeps it, and no two share it.")
]


def add_to(app: typer.Typer) -> None:
    """Add ``serve``, ``services`` and one command per service."""
    app.command(rich_help_panel=None, epilog="Example: depesche serve deliver retry --name courier1")(serve)
    app.command("services", epilog="Example: depesche services --json")(list_services)
    for command, service in _COMMANDS.items():
        app.command(
            command,
            help=f"Run the service {service} until SIGTERM: {SERVICES[service][1]}. Logs go to standard error as JSON lines.",
            epilog=f"Example: DEPESCHE_KAFKA__BOOTSTRAP=kafka1:9092 depesche {command} --name {command}1",
        )(_command(service))


def serve(
    services: Annotated[list[str], typer.Argument(help="Names of services, as `depesche services` lists them.")],
    name: NAME = "",
    json: JSON = False,
) -> None:
    """Run several services together in this process until SIGTERM.

    Logs go to standard error as JSON lines, with or without --json. The exit code is 70 when a service failed (starting
    again may help) and 78 when the machine or the configuration is not as needed (it does not).
    """
    del json
    _run(name or services[0], services)


def list_services(json: JSON = False) -> None:
    """List the services that can be run, and what each is for."""
    rows = [{"service": name, "purpose": purpose, "needs": list(needs)} for name, (needs, purpose) in SERVICES.items()]
    write_rows(rows, ("service", "purpose", "needs"), as_json=json, empty="")


def _command(service: str) -> Callable[[str, bool], None]:
    def run(name: NAME = "", json: JSON = False) -> None:
        del json
        _run(name or service, [service])

    return run


def _run(process: str, names: list[str]) -> None:
    from depesche.infra.serve import serve as host_services

    sys.exit(host_services(process, names, settings_or_fail()))
