"""What a log ends with, in one line: the sentence somebody wants who is told that a process has died."""

from __future__ import annotations

from pathlib import Path

import orjson

_TAIL = 16 << 10
_LONGEST = 300
_GRAVE = ("error", "critical")


def of(file: Path, start: int = 0) -> str:
    """The reason in the last grave line of a JSON log, else the last line of any log; empty when there is none.

    ``start`` is the byte at which the log of this run begins.
    """
    # Its last few lines only: an error long before its end was not the end.
    lines = tail(file, 8, start)
    entries = [entry for entry in map(_entry, lines) if entry is not None]
    grave = [entry for entry in entries if entry.get("level") in _GRAVE]
    if grave:
        # Ours name a reason; what libraries complain about while they are being closed is an echo of it.
        chosen = next((entry for entry in reversed(grave) if entry.get("reason")), grave[-1])
        parts = [str(chosen[name]) for name in ("event", "reason") if chosen.get(name)]
        return ": ".join(parts)[:_LONGEST]
    return lines[-1].strip()[:_LONGEST] if lines and not entries else ""


def tail(file: Path, count: int, start: int = 0) -> list[str]:
    """The last ``count`` lines after byte ``start`` that are not empty; none when there is no file."""
    try:
        with file.open("rb") as log:
            log.seek(max(start, log.seek(0, 2) - _TAIL))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def _entry(line: str) -> dict[str, object] | None:
    try:
        found = orjson.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
