"""What is known about the attempts of a partition's units, as a fold of their marks; so that nothing is sent twice unknowingly.

A record of mail.outbound can come more than once: after a crash from the committed offset on, and when the stage that wrote it
was killed between writing and committing. The marks tell what became of it. How far back is remembered is counted in records
of mail.outbound (``WINDOW``), because that is the distance at which a repetition can come: whoever repeats begins where it
stopped, before it writes anything new.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from depesche.schemas.records import AttemptPhase

WINDOW = 50_000
"""Records of mail.outbound over which a repetition is recognised: a minute and a half at 500 a second and partition."""

Standing = Literal["new", "stale", "told", "ambiguous", "parked", "rerouted"]
"""What to do with a record: attempt it; pass over it; make sure that its outcome is told; conclude it as ambiguous; make sure
that it waits on the ladder; make sure that it goes on by another route."""

_TERMINAL = (AttemptPhase.FINISHED, AttemptPhase.AMBIGUOUS, AttemptPhase.REROUTED)


@dataclass(slots=True)
class Known:
    """The latest that is known of a unit.

    Attributes:
        attempt: number of its latest attempt.
        phase: how far that one came.
        offset: where the unit then stood in mail.outbound.
        settled: whether all that follows from a terminal or parked phase is known to be in the log.
        event: with a terminal phase that is not settled, the event that tells it.
    """

    attempt: int
    phase: AttemptPhase
    offset: int
    settled: bool = False
    event: bytes | None = None


class AttemptMemory:
    """The units of one partition."""

    def __init__(self) -> None:
        self._units: OrderedDict[str, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._units)

    def known(self, unit_id: str) -> Known | None:
        """What is known of a unit."""
        return self._units.get(unit_id)

    def learn(self, unit_id: str, news: Known) -> None:
        """One mark, in the order of the log."""
        before = self._units.get(unit_id)
        if before is None or news.attempt > before.attempt:
            self._units[unit_id] = news
            self._units.move_to_end(unit_id)
        elif news.attempt == before.attempt and before.phase not in _TERMINAL:
            # A dot that may have gone out is never taken back by what comes later, save by the attempt's own end.
            if before.phase is not AttemptPhase.COMMITTING or news.phase in _TERMINAL:
                before.phase, before.event, before.settled = news.phase, news.event, news.settled
            if news.offset > before.offset:
                before.offset = news.offset
                self._units.move_to_end(unit_id)

    def standing(self, unit_id: str, attempt: int, offset: int) -> Standing:
        """How a record that now is to be worked on stands to what is known."""
        known = self._units.get(unit_id)
        if known is None or attempt > known.attempt:
            return "new"
        if attempt < known.attempt:
            return "stale"
        its_own = offset == known.offset and not known.settled
        if known.phase in _TERMINAL:
            ended: Standing = "rerouted" if known.phase is AttemptPhase.REROUTED else "told"
            return ended if its_own else "stale"
        if known.phase is AttemptPhase.COMMITTING:
            return "ambiguous"
        if known.phase is AttemptPhase.PARKED and offset <= known.offset:
            return "parked" if its_own else "stale"
        return "new"

    def forget_below(self, offset: int) -> None:
        """Forget the units that stood below ``offset``."""
        units = self._units
        while units and next(iter(units.values())).offset < offset:
            units.popitem(last=False)
