"""The topics of the log: what they are for, and whether they are as declared."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_rows


def add_to(app: typer.Typer) -> None:
    """Add ``topics``."""
    app.command(epilog="Example: depesche topics --check")(topics)


def topics(
    check: Annotated[bool, typer.Option("--check", help="Hold the topics in Kafka against the declaration.")] = False,
    create: Annotated[bool, typer.Option("--create", help="Create those that are missing; changes none.")] = False,
    json: JSON = False,
) -> None:
    """List the topics of the log, check them against Kafka, or create what is missing.

    For an outside cluster: `depesche topics --create` is the set-up, `--check` the proof. The exit code is 1 when a topic is
    not as declared.
    """
    from depesche.analytics.log.topics import create_missing, mismatches
    from depesche.infra.cli.quiet import asking_kafka
    from depesche.schemas.topics import ALL

    settings = settings_or_fail().settings
    if create:
        with asking_kafka(settings):
            created = asyncio.run(create_missing(settings))
        if json:
            write_json(*({"created": name} for name in created))
        else:
            talk().print(f"{len(created)} created{': ' if created else ''}{', '.join(created)}")
    elif check:
        with asking_kafka(settings):
            wrong = asyncio.run(mismatches(settings))
        rows = [{"topic": w.topic, "what": w.what, "wanted": w.wanted, "found": w.found} for w in wrong]
        write_rows(rows, ("topic", "what", "wanted", "found"), as_json=json, empty="All topics are as declared.")
        if rows:
            raise typer.Exit(1)
    else:
        plain = [{"topic": t.name, "record": t.record, "key": t.key, "purpose": t.purpose} for t in ALL]
        write_rows(plain, ("topic", "record", "purpose"), as_json=json, empty="")
