"""Is what was decided still what the log says? Folds the events again and compares."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_rows

if TYPE_CHECKING:
    from depesche.analytics.pace.log import Told
    from depesche.schemas.records import PaceState
    from depesche.schemas.settings import PaceSettings

VERIFY = Annotated[
    bool, typer.Option("--verify", help="Compare with what was decided then; exit code 1 on any difference.")
]


def add_to(app: typer.Typer) -> None:
    """Add the noun ``replay``."""
    noun = typer.Typer(help="Fold the log again, and compare with what was decided.", no_args_is_help=True)
    noun.command(epilog="Example: depesche replay pace --verify")(pace)
    noun.command(epilog="Example: depesche replay suppression --verify")(suppression)
    app.add_typer(noun, name="replay")


def pace(verify: VERIFY = False, json: JSON = False) -> None:
    """Apply the law of pace to mail.pace.signals again.

    Without --verify: the decisions that it leads to now, under the settings of now. With --verify: each is compared with the
    history and the last of each pool and provider with mail.pace. What cannot be judged is left out: decisions within a day and
    eight hours (memory_seconds + limit_seconds) of the first signal that is left where older ones have expired, or of the last
    decision under other settings.
    """
    from depesche.analytics.pace.log import read_told
    from depesche.analytics.pace.rows import row_of
    from depesche.infra.cli.quiet import asking_kafka
    from depesche.schemas.service import now_ms
    from depesche.streams.mail.pace import Law, replayed

    settings = settings_or_fail().settings
    with asking_kafka(settings):
        told = asyncio.run(read_told(settings))
    law = Law(settings.pace, settings.deliver.connections_per_route)
    again = replayed(law, told.signals)
    if not verify:
        rows = [row_of(one, now_ms()) for one in again]
        columns = ("since", "pool", "provider", "action", "per_minute", "connections", "reason")
        write_rows(rows, columns, as_json=json, empty="The signals lead to no decision.")
        return
    different = differences(again, told, judged_from(settings.pace, told, law.name))
    summary = {"signals": len(told.signals), "decisions": len(told.history), "different": len(different)}
    if json:
        write_json(*different, summary)
    else:
        write_rows(different, ("decision_id", "pool", "provider", "difference"), as_json=False, empty="")
        talk().print(f"{summary['signals']} signals, {summary['decisions']} decisions, {len(different)} different.")
    if different:
        raise typer.Exit(1)


def suppression(verify: VERIFY = False, json: JSON = False) -> None:
    """Fold mail.outcomes and mail.suppressions.requests from their beginning; compare with mail.suppressions to the last field.

    Entries that begin with a record which retention has deleted, or that were decided under other settings, are counted and
    not compared. With --verify the exit code is 1 on any difference.
    """
    from rich.progress import Progress

    from depesche.infra.cli.quiet import asking_kafka
    from depesche.streams.agents.suppression_replay import verify as verified

    settings = settings_or_fail().settings
    with Progress(console=talk(), transient=True) as bar, asking_kafka(settings):
        task = bar.add_task("folding")
        found = asyncio.run(
            verified(
                settings, lambda what, done, whole: bar.update(task, description=what, completed=done, total=whole)
            )
        )
    summary = {
        "records": found.records,
        "compared": found.compared,
        "cut_off": found.cut_off,
        "other_settings": found.other_policy,
        "different": found.differing,
    }
    rows = [asdict(one) for one in found.differences]
    if json:
        write_json(*rows, summary)
    else:
        write_rows(rows, ("recipient_key", "tenant", "field", "topic", "replayed"), as_json=False, empty="")
        talk().print(
            f"{sum(found.records.values()):,} records, {found.compared:,} entries compared, {found.differing:,} different; "
            f"not compared: {found.cut_off:,} that begin before what the log still holds, "
            f"{found.other_policy:,} decided under other settings."
        )
    if verify and found.differing:
        raise typer.Exit(1)


def judged_from(settings: PaceSettings, told: Told, law: str) -> int:
    """From when decisions can be judged, in milliseconds since 1970 UTC: what was before has no influence any more.

    Args:
        settings: how long the law remembers.
        told: what the log holds.
        law: the name of the law in force.
    """
    unknown = [one.at for one in told.history if one.law != law]
    unknown += [] if told.whole else [signal.at for signal in told.signals[:1]]
    return max(unknown) + round((settings.memory_seconds + settings.limit_seconds) * 1000) if unknown else 0


def differences(again: list[PaceState], told: Told, since: int = 0) -> list[dict[str, Any]]:
    """What the replay and the log do not agree about.

    Args:
        again: the decisions of the replay.
        told: what the log holds. The replay may know decisions whose records are still on their way; they come last.
        since: earlier decisions are not compared.
    """
    replay = {one.decision_id: one for one in again if one.at >= since}
    kept = {one.decision_id: one for one in told.history if one.at >= since}
    rows = [_row(one, "not in the replay") for id_, one in kept.items() if id_ not in replay]
    rows += [_row(one, "not the same in the replay") for id_, one in kept.items() if replay.get(id_, one) != one]
    last = max((one.at for one in told.history), default=0)
    rows += [_row(one, "not in the history") for id_, one in replay.items() if id_ not in kept and one.at <= last]
    newest = {(one.pool, one.provider): one for one in kept.values()}
    rows += [_row(one, "not the newest in mail.pace") for pair, one in newest.items() if told.newest.get(pair) != one]
    return rows


def _row(one: PaceState, difference: str) -> dict[str, Any]:
    return {"decision_id": one.decision_id, "pool": one.pool, "provider": one.provider, "difference": difference}
