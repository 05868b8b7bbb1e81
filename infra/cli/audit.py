"""The proof that nothing is lost: accepted = finals + in flight, to the unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depesche.infra.cli.store_access import with_store
from depesche.infra.cli.terminal import JSON, talk, write_json, write_text

if TYPE_CHECKING:
    from depesche.analytics.audit.report import AuditReport
    from depesche.analytics.store.client import StoreClient
    from depesche.schemas.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Add ``audit``."""
    app.command(epilog="Example: depesche audit --sandbox --json | jq .balanced")(audit)


def audit(
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Compare with what the sandbox's mailbox really got as well.")
    ] = False,
    sink_log: Annotated[
        Path | None, typer.Option(help="Ground truth of another scripted mailbox to compare with.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for ClickHouse to catch up.")] = 30,
    json: JSON = False,
) -> None:
    """Read the whole log and hold it against itself, the archive and ClickHouse.

    Every accepted unit has exactly one final state or is in flight; every reference into the archive is there; every
    delivered unit has its attempt; ClickHouse counts the same. The exit code is 1 on any difference.
    """
    from depesche.infra.cli.quiet import asking_kafka

    console = talk()

    async def work(client: StoreClient, settings: Settings) -> AuditReport:
        from depesche.analytics.archive.keyring import Keyring
        from depesche.analytics.archive.reader import ArchiveReader
        from depesche.analytics.audit.audit import run_audit
        from depesche.infra.local import sandbox as far_side

        truth = sink_log or (far_side.sink_settings(settings).ground_truth if sandbox else None)
        keyring = Keyring.open(settings.home / "keys", settings.master_key_file)
        archive = ArchiveReader(settings.archive_directory, keyring)
        with console.status("auditing ...") as status, asking_kafka(settings):
            try:
                return await run_audit(
                    settings,
                    keyring,
                    archive,
                    client,
                    lambda what, done, whole: status.update(f"{what}: {done:,} of {whole:,}"),
                    sink_log=truth,
                    wait_seconds=wait,
                )
            finally:
                archive.close()

    report = with_store(work)
    if json:
        write_json(report.to_json())
    else:
        write_text(_told(report))
    if not report.balanced:
        raise typer.Exit(1)


def _told(report: AuditReport) -> str:
    """The report for a person: the sum, then what does not fit."""
    total = report.total
    finals = "".join(f"\n  {count:>10,}  {type_}" for type_, count in sorted(total.finals.items()))
    late = [f"{total.late_bounces:>12,}  came back after they had been delivered"] if total.late_bounces else []
    lines = [
        f"{report.jobs:,} jobs, {sum(report.records.values()):,} records of the log read",
        f"{total.accepted:>12,}  accepted units, of which{finals}\n  {total.in_flight:>10,}  in flight",
        *late,
        f"{report.ambiguous_count:>12,}  attempts of which nobody can know whether they arrived",
        f"{report.dead_letters:>12,}  dead letters",
    ]
    if report.balanced:
        return "\n".join([*lines, "Balanced: nothing is missing, nothing is there twice; ClickHouse counts the same."])
    for difference in report.differences:
        example = f" (such as {', '.join(difference.examples[:3])})" if difference.examples else ""
        shown = difference.to_json()
        lines.append(f"DIFFERENCE: {shown['count']:,} x {shown['kind']}: {shown['meaning']}{example}")
    return "\n".join(lines)
