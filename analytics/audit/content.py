"""The archive's entries as the audit compares them with the log: eight bytes and a bit each."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from depesche.schemas.records import ArchiveRef


class ContentIndex:
    """Which entries there are, and which of them somebody refers to."""

    def __init__(self, entries: Iterable[ArchiveRef], retention_days: int, now_ms: int) -> None:
        """Read all entries.

        Args:
            entries: of the archive, in order within each segment; read after the log's ends were taken, because content
                is stored before anything refers to it.
            retention_days: segments of days before that may be gone.
            now_ms: the time.
        """
        day = datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(days=retention_days)
        # A day more: a segment that is written over midnight bears the first day's name.
        self._kept_from = (day + timedelta(days=1)).strftime("%Y%m%d")
        self._offsets: dict[str, array[int]] = {}
        for entry in entries:
            self._offsets.setdefault(entry.segment, array("Q")).append(entry.offset)
        self._referred = {segment: bytearray(len(offsets)) for segment, offsets in self._offsets.items()}

    def refer(self, segment: str, offset: int) -> bool:
        """Note that somebody refers to this entry; gives whether it is there, or too old to have to be."""
        offsets = self._offsets.get(segment)
        if offsets is not None:
            at = bisect_left(offsets, offset)
            if at < len(offsets) and offsets[at] == offset:
                self._referred[segment][at] = 1
                return True
        return segment[:8] <= self._kept_from

    def unreferenced(self) -> int:
        """How many entries nobody refers to."""
        return sum(flags.count(0) for flags in self._referred.values())
