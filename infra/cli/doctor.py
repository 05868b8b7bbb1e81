"""What is wrong, and how to mend it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from depesche.infra.cli.terminal import EXIT_FAILED, JSON, talk, write_json, write_text

if TYPE_CHECKING:
    from depesche.infra.local.doctor import Check, Finding

_MARKS = {"ok": "✓", "warn": "!", "fail": "✗"}


def add_to(app: typer.Typer) -> None:
    """Add ``doctor``."""
    app.command(epilog="Example: depesche doctor --json | jq -r 'select(.state==\"fail\") | .fix'")(doctor)


def doctor(json: JSON = False) -> None:
    """Say what is wrong and how to mend it, one sentence per check, whether anything runs or not.

    ✓ all is well; ! it works, but not as it could; ✗ it does not work. The exit code is 1 when anything does not work.
    """
    import asyncio

    from depesche.infra.local.doctor import examine

    with talk().status("examining ..."):
        findings = asyncio.run(examine(all_checks()))
    if json:
        write_json(*({"check": f.check, "state": f.state, "sentence": f.sentence, "fix": f.fix} for f in findings))
    else:
        write_text(told(findings))
    counts = Counter(finding.state for finding in findings)
    talk().print(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures")
    if counts["fail"]:
        raise typer.Exit(EXIT_FAILED)


def all_checks() -> Mapping[str, Check]:
    """Every check by its name, in the order in which a person wants to read them."""
    from depesche.infra.local import (
        doctor_alerts,
        doctor_far_side,
        doctor_home,
        doctor_log,
        doctor_machine,
        doctor_store,
    )

    return {
        "python": doctor_machine.python,
        "settings": doctor_machine.settings,
        "disk": doctor_machine.disk,
        "clock": doctor_machine.clock,
        "programs": doctor_machine.programs,
        "home": doctor_home.home,
        "keys": doctor_home.keys,
        "certificate": doctor_home.certificate,
        "shaping": doctor_home.shaping,
        "jars": doctor_home.jars,
        "stack": doctor_far_side.stack,
        "ports": doctor_machine.ports,
        "broker": doctor_log.broker,
        "topics": doctor_log.topics,
        "groups": doctor_log.groups,
        "alerts": doctor_alerts.alerts,
        "engine": doctor_store.engine,
        "tables": doctor_store.tables,
        "sink": doctor_store.sink,
        "archive": doctor_home.archive,
        "scanners": doctor_far_side.scanners,
        "names": doctor_far_side.names,
        "far side": doctor_far_side.far_side,
        "doors": doctor_far_side.doors,
    }


def told(findings: list[Finding]) -> str:
    """The findings for a person."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.state]} {finding.check:<{width}}  {finding.sentence}")
        if finding.fix:
            lines.append(f"  {'':<{width}}  fix: {finding.fix}")
    return "\n".join(lines)
