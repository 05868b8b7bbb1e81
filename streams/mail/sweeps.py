"""What an operator's orders have brought back from the ladder before its time, as a fold of the sweeps' marks. Pure.

A rung is a queue and only its head can be committed. A record that goes back from the middle of it is remembered here, by its
offset, until the head has passed it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from depesche.schemas.records import Control, ControlAction, ControlScope, ControlState, SweepMark, SweepPhase

_PAGE = 10
SETTLE_MS = 3_000
"""How long after an order couriers may still put units on the ladder that have not heard of it."""


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


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is to be brought back because of an order.

    Attributes:
        name: control id and what of it is carried out; done once per partition.
        scope: which units.
        at: when it was ordered, in milliseconds since 1970 UTC; a unit that is put on the ladder long after is not meant.
        offset: of the order in mail.controls; a courier that gets a unit back must have read it.
        at_once: whether units whose time has not come are tried now; not so where they only go back to be dropped.
    """

    name: str
    scope: ControlScope
    at: int
    offset: int
    at_once: bool

    @property
    def settled_at(self) -> int:
        """When every unit that is meant stands on the ladder."""
        return self.at + SETTLE_MS


def sweep_of(control: Control, offset: int, now: int) -> Sweep | None:
    """What an order wants from the ladder at ``now``; None: nothing.

    An order to drop wants its units at once, so that they end. One to retry wants them tried. One to suspend wants them back when
    it ends, whether it was lifted or its time was up.

    Args:
        control: the order.
        offset: of its record in mail.controls.
        now: milliseconds since 1970 UTC.
    """
    id_, scope, until = control.control_id, control.scope, control.until
    ended = until is not None and now >= until
    if control.action is ControlAction.RETRY:
        return Sweep(f"{id_}/given", scope, control.at, offset, at_once=True)
    if control.action is ControlAction.DROP and control.state is ControlState.ACTIVE and not ended:
        return Sweep(f"{id_}/given", scope, control.at, offset, at_once=False)
    if control.action is ControlAction.SUSPEND and control.state is ControlState.LIFTED:
        return Sweep(f"{id_}/ended", scope, control.changed_at, offset, at_once=True)
    if control.action is ControlAction.SUSPEND and until is not None and ended:
        return Sweep(f"{id_}/ended", scope, until, offset, at_once=True)
    return None
