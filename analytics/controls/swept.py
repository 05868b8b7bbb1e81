"""What an operator's orders have brought back from the ladder before its time, as a fold of the sweeps' marks. Pure.

A rung is a queue and only its head can be committed. A record that goes back from the middle of it is remembered here, by its
offset, until the head has passed it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from depesche.schemas.records import SweepMark, SweepPhase

_PAGE = 10


class Offsets:
    """A set of offsets in a bit each: a hundred thousand of them in a row take 13 KB."""

    def __init__(self, offsets: Iterable[int] = ()) -> None:
        self._pages: dict[int, int] = {}
        self.update(offsets)

    def add(self, offset: int) -> None:
        """Take in one offset."""
        page = offset >> _PAGE
        self._pages[page] = self._pages.get(page, 0) | 1 << (offset & (1 << _PAGE) - 1)

    def update(self, offsets: Iterable[int]) -> None:
        """Take in many."""
        for offset in offsets:
            self.add(offset)

    def __contains__(self, offset: int) -> bool:
        return bool(self._pages.get(offset >> _PAGE, 0) >> (offset & (1 << _PAGE) - 1) & 1)

    def __len__(self) -> int:
        return sum(page.bit_count() for page in self._pages.values())

    def forget_below(self, offset: int) -> None:
        """Forget whole pages below ``offset``; whoever has passed it asks about nothing there."""
        for page in [page for page in self._pages if page < offset >> _PAGE]:
            del self._pages[page]


@dataclass(slots=True)
class Swept:
    """What is known of one partition of one rung.

    Attributes:
        taken: offsets of records that went back before their time.
        begun: sweeps that were begun and not ended, and when, in milliseconds since 1970 UTC; of what they sent back some may
            not be in ``taken``.
        done: sweeps that are finished here.
    """

    taken: Offsets = field(default_factory=Offsets)
    begun: dict[str, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def learn(self, mark: SweepMark) -> None:
        """One mark, in the order of the log."""
        if mark.phase is SweepPhase.BEGUN:
            self.begun.setdefault(mark.sweep, mark.at)
        elif mark.phase is SweepPhase.TAKEN:
            self.taken.update(mark.offsets)
        elif mark.phase is SweepPhase.DONE:
            self.begun.pop(mark.sweep, None)
            self.done.add(mark.sweep)
