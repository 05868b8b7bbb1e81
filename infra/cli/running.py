"""Start everything on this machine, see how it is, stop it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Annotated, Any

import typer

from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_rows
from depesche.infra.load import Loaded
from depesche.schemas.errors import NotFoundError, SetupError


def add_to(app: typer.Typer) -> None:
    """Add ``up``, ``down`` and ``status``."""
    app.command(epilog="Example: DEPESCHE_PORT_OFFSET=1000 DEPESCHE_HOME=/tmp/second depesche up")(up)
    app.command(epilog="Example: depesche down")(down)
    app.command(epilog="Example: depesche status --json | jq -r .pid")(status)


def up(json: JSON = False) -> None:
    """Start everything on this machine and keep it running until Ctrl-C.

    Broker, store, doors, workshop, analytics and a far side to send to; no root, container or installed Java needed.
    All state lies in one directory (DEPESCHE_HOME). With --json, one object with addresses and the demo's credentials is
    written when everything serves.
    """
    from depesche.infra import log
    from depesche.infra.cli.welcome import welcome, welcome_data
    from depesche.infra.local.board import Board
    from depesche.infra.local.home_state import prepare_home
    from depesche.infra.local.seed import Demo
    from depesche.infra.local.up import Up

    loaded = settings_or_fail()
    settings = loaded.settings
    if settings.environment == "production":
        raise SetupError(
            "`depesche up` is for one machine of your own, and environment is production.",
            fix="Run the services by their own commands (`depesche services`), or unset DEPESCHE_ENVIRONMENT.",
        )
    prepare_home(settings)
    log.configure_file(settings.log_level, "up", settings.home / "log" / "up.log")
    console = talk()

    def ready(demo: Demo | None) -> None:
        if json:
            write_json(welcome_data(settings, demo))
        welcome(settings, demo, console)

    asyncio.run(Up(loaded, Board(console), ready).run())
    console.print("Stopped.")


def down(
    seconds: Annotated[float, typer.Option(help="How long to wait for an ordered end.")] = 60, json: JSON = False
) -> None:
    """Stop the `depesche up` that runs on this home, and wait until it has ended."""
    from depesche.infra.local.home_lock import HomeLock

    loaded = settings_or_fail()
    lock = HomeLock(loaded.settings.home)
    pid = lock.owner()
    if pid is None:
        raise NotFoundError("up", public=f"Nothing runs on {loaded.settings.home}")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while lock.held() or _lives(pid):
        if time.monotonic() > deadline:
            raise SetupError(f"Process {pid} has not ended within {seconds:g} s.", fix=f"Look at it, or kill -9 {pid}.")
        time.sleep(0.1)
    if json:
        write_json({"stopped": pid})
    else:
        talk().print(f"Stopped (process {pid}).")


def _lives(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def status(json: JSON = False) -> None:
    """Show which processes run on this home, what each does, and since when.

    The exit code is 0 when `depesche up` runs and all its processes are ready, else 1.
    """
    loaded = settings_or_fail()
    rows = _processes(loaded)
    write_rows(
        rows,
        ("process", "state", "pid", "services", "ready_for"),
        as_json=json,
        empty="Nothing runs here: `depesche up`.",
    )
    if not rows or any(row["state"] != "ready" for row in rows):
        raise typer.Exit(1)


def _processes(loaded: Loaded) -> list[dict[str, Any]]:
    from depesche.infra import layout
    from depesche.infra.host import RunFile
    from depesche.infra.local.home_lock import HomeLock

    home = loaded.settings.home
    lock = HomeLock(home)
    supervisor = lock.owner()
    if supervisor is None:
        return []
    content = lock.content()
    rows: list[dict[str, Any]] = [{"process": "up", "state": "ready", "pid": supervisor, "services": ["supervisor"]}]
    programs = content.get("programs")
    for name, entry in programs.items() if isinstance(programs, dict) else ():
        rows.append({"process": name, "state": entry["state"], "pid": entry["pid"], "services": [name]})
    services = {process.name: list(process.services) for process in layout.processes(loaded.settings)}
    for row in rows:
        name = row["process"]
        row["services"] = services.get(name, row["services"])
        since = RunFile.of(home, name).ready_at() if name in services else content.get("ready_at")
        row["ready_for"] = f"{max(0, int(time.time() - since / 1000))} s" if isinstance(since, int) else ""
    return rows
