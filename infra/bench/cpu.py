"""CPU time by process, from the operating system's own books: user and system, children that have ended included."""

from __future__ import annotations

from collections.abc import Mapping

import psutil


def seconds_of(pid: int) -> float:
    """User and system time of a process, all its living descendants, and those it has waited for, in seconds."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0.0
    for member in family:
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def snapshot(parts: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds so far, by part."""
    return {name: seconds_of(pid) for name, pid in parts.items()}


def used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds between two snapshots, by part."""
    return {name: round(after[name] - before.get(name, 0.0), 3) for name in after}
