"""The values in a search: times, sizes, codes. Pure; each says in a sentence what it wants when it gets something else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

_DURATION = re.compile(r"(?P<number>\d{1,6})(?P<unit>s|m|h|d|w)\Z", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZE = re.compile(r"(?P<number>\d{1,9})(?P<unit>k|m)?b?\Z", re.ASCII | re.IGNORECASE)
_SIZES = {None: 1, "k": 1 << 10, "m": 1 << 20}
_CODE = re.compile(r"[2-5](?:\d\d|xx)\Z", re.ASCII)
_ENHANCED = re.compile(r"[245]\.\d{1,3}(?:\.\d{1,3})?\Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII)
_UNIT_NUMBER = re.compile(r"(?:0|[1-9]\d{0,8})\Z", re.ASCII)
LARGEST = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Range:
    """Whole numbers from ``least`` to ``most``, both included."""

    least: int
    most: int


def moment(text: str, now_ms: int) -> int:
    """A time in milliseconds since 1970 UTC: ``1h`` (ago), ``today``, ``yesterday``, ``now``, or RFC 3339, date or more.

    Without an offset it is UTC.

    Raises:
        ValueError: none of these.
    """
    duration = _DURATION.match(text)
    if duration:
        return max(now_ms - int(duration["number"]) * _UNITS[duration["unit"]] * 1000, 0)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    words = {"now": now, "today": _midnight(now), "yesterday": _midnight(now) - timedelta(days=1)}
    try:
        found = words.get(text.lower()) or datetime.fromisoformat(text.upper())
        known = found if found.tzinfo else found.replace(tzinfo=UTC)
        return max(round(known.timestamp() * 1000), 0)
    except (ValueError, OverflowError) as fault:
        raise ValueError("a time is 1h, 2d, today, yesterday, 2026-11-23 or 2026-11-23T08:00Z") from fault


def end_of(text: str, now_ms: int) -> int:
    """Where a period ends that is said to last until ``text``: a whole day is included.

    Raises:
        ValueError: see ``moment``.
    """
    try:
        day = date.fromisoformat(text) if "t" not in text.lower() else None
    except ValueError:
        day = None
    if day is None:
        return moment(text, now_ms)
    return round((datetime.combine(day, time(), UTC) + timedelta(days=1)).timestamp() * 1000)


def size(text: str) -> Range:
    """A range of sizes in bytes: ``>200k``, ``<=1m``, ``5000``, ``100k..1m`` (k = 1024).

    Raises:
        ValueError: none of these.
    """
    first, between, last = text.partition("..")
    if between:
        found = Range(_bytes(first), _bytes(last))
    elif text.startswith((">=", "<=")):
        found = Range(_bytes(text[2:]), LARGEST) if text[0] == ">" else Range(0, _bytes(text[2:]))
    elif text.startswith(">"):
        found = Range(_bytes(text[1:]) + 1, LARGEST)
    elif text.startswith("<"):
        found = Range(0, _bytes(text[1:]) - 1)
    else:
        found = Range(_bytes(text), _bytes(text))
    return found


def code(text: str) -> Range | str:
    """A reply code (``550``, ``5xx``) as a range, or an enhanced status code (``5.1.1``, ``5.1``) as it is.

    Raises:
        ValueError: neither.
    """
    text = text.lower()
    if _CODE.match(text):
        return Range(int(text.replace("x", "0")), int(text.replace("x", "9")))
    if _ENHANCED.match(text):
        return text
    raise ValueError("a code is 550, 5xx, 5.1.1 or 5.1")


def job_id(text: str) -> str | None:
    """``text`` as the id of a job, if it is one."""
    text = text.lower()
    return text if _UUID.match(text) and text[14] == "7" else None


def unit_id(text: str) -> str | None:
    """``text`` as the id of a unit, if it is one."""
    job, dot, number = text.lower().partition(".")
    return f"{job}.{number}" if dot and job_id(job) and _UNIT_NUMBER.match(number) else None


def time_of(id_: str) -> int:
    """When the job was taken that this job or unit id names, in milliseconds since 1970 UTC."""
    return int(id_[:8] + id_[9:13], 16)


def _bytes(text: str) -> int:
    match = _SIZE.match(text)
    if match is None:
        raise ValueError("a size is >200k, <1m, 5000 or 100k..1m")
    return min(int(match["number"]) * _SIZES[match["unit"].lower() if match["unit"] else None], LARGEST)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
