"""The benchmark's figures as tables: medians over the rounds, and the ratio to the peer in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from rich.console import Console
from rich.table import Table

from depesche.infra.bench.isps import Isps
from depesche.infra.bench.rounds import Run, median, quantile


def show(result: dict[str, object], console: Console, target: Path) -> int:
    """Print the tables; 1 if a mail did not arrive, or was not signed."""
    runs = cast(list[Run], result["throughput"])
    if runs:
        console.print(_throughput(runs))
        console.print(_cpu(runs))
    latencies = cast(dict[str, list[Run]], result["latency"])
    if latencies:
        console.print(_latency(latencies))
    everything = [*runs, *(run for group in latencies.values() for run in group)]
    if "sustained" in result:
        held = cast(dict[str, object], result["sustained"])
        run, backlog = cast(Run, held["run"]), cast(list[int], held["backlog"])
        everything.append(run)
        ends = f"{backlog[:1]} at first, {backlog[-1:]} at last, {max(backlog, default=0)} at most"
        console.print(f"sustained 200 KB: {run.rate}/s for {held['minutes']} min; backlog {ends}")
    if "isps" in result:
        found = cast(Isps, result["isps"])
        everything += [found.before, found.beside, found.after]
        console.print(_isps(found))
        console.print(_difficult(found))
        console.print(f"pace of the one with a quota of 20 a minute, as decided: {found.quota_per_minute}")
    lost = [run for run in everything if run.arrived < run.messages or run.signed < run.arrived]
    for run in lost:
        console.print(f"[red]{run.subject} {run.size}: {run.arrived} of {run.messages} arrived, {run.signed} signed[/]")
    console.print(f"commit {result['commit']}, {result['cores']} cores; figures in {target}")
    return 1 if lost else 0


def _of(runs: list[Run], subject: str, size: str) -> list[Run]:
    return [run for run in runs if (run.subject, run.size) == (subject, size)]


def _throughput(runs: list[Run]) -> Table:
    table = Table(
        "size",
        "subject",
        "mails/s (median)",
        "CPU ms per mail",
        "copies",
        "rate / peer",
        title="Throughput, SMTP in to sink",
    )
    for size in dict.fromkeys(run.size for run in runs):
        peer = median([run.rate for run in _of(runs, "peer", size)])
        for subject in dict.fromkeys(run.subject for run in runs):
            own = _of(runs, subject, size)
            rate = median([run.rate for run in own])
            ratio = f"{rate / peer:.2f}" if peer else "-"
            table.add_row(
                size,
                subject,
                f"{rate:.0f}",
                f"{median([r.cpu_sum for r in own]):.2f}",
                str(sum(r.copies for r in own)),
                ratio,
            )
    return table


def _cpu(runs: list[Run]) -> Table:
    parts = list(dict.fromkeys(part for run in runs for part in run.cpu_ms))
    table = Table(
        "part", *(f"{subject} {size}" for subject, size in _columns(runs)), title="CPU by process, ms per mail (median)"
    )
    for part in parts:
        cells = [median([run.cpu_ms.get(part, 0.0) for run in _of(runs, *column)]) for column in _columns(runs)]
        table.add_row(part, *(f"{cell:.2f}" if cell else "" for cell in cells))
    return table


def _columns(runs: list[Run]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((run.subject, run.size) for run in runs))


def _isps(found: Isps) -> Table:
    table = Table(
        "five good providers", "mails", "yes to arrival p50", "p90", "p99", title="Beside four difficult providers, ms"
    )
    for label, run in (("alone", found.before), ("beside", found.beside), ("alone again", found.after)):
        cells = [quantile(run.arrival_ms, share) for share in (0.5, 0.9, 0.99)]
        table.add_row(label, str(run.arrived), *(f"{cell:.1f}" for cell in cells))
    p50, p90 = found.ratios
    table.add_row("beside / both alone", "", f"{p50:.2f}", f"{p90:.2f}", "")
    return table


def _difficult(found: Isps) -> Table:
    names = ("delivered", "deferred", "blocked", "hard_bounced", "soft_bounced")
    table = Table("provider", *names, title="What the difficult ones said meanwhile")
    for row in found.difficult:
        table.add_row(str(row["provider"]), *(str(row[name]) for name in names))
    return table


def _latency(latencies: dict[str, list[Run]]) -> Table:
    table = Table("load", "subject", "accept p50", "p99", "yes to arrival p50", "p99", title="Latency, 10 KB, ms")
    for label, runs in latencies.items():
        for run in runs:
            cells = [quantile(values, share) for values in (run.accept_ms, run.arrival_ms) for share in (0.5, 0.99)]
            table.add_row(label, run.subject, *(f"{cell:.1f}" for cell in cells))
    return table
