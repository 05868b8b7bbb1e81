"""The rules that each unit must keep, and the totals that come out (reliability invariants I2, I3, and the ledger's equation)."""

from __future__ import annotations

import zlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from depesche.analytics.audit.extent import Extent
from depesche.analytics.audit.ledger import Ledger
from depesche.analytics.audit.report import MAX_LISTED, Findings, Total
from depesche.analytics.audit.units import UnitState
from depesche.analytics.store.rows import stands_ended
from depesche.schemas.topics import ATTEMPTS, EVENTS, JOBS, KEYED_JOBS, OUTCOMES

GRACE_MS = 60_000
"""How long something may be on its way between two topics."""
OVERDUE_MS = 3_600_000
"""How long after its time was up a unit may still be under way: the last attempt has to end, and the ladder is coarse."""

StateKey = tuple[str, int, str, bool]
"""Customer, hour of acceptance, status, whether that is final."""


@dataclass(slots=True)
class Books:
    """What the units add up to.

    Attributes:
        totals: by customer and hour of acceptance.
        units: by customer and hour: how many, the sum of the CRC-32 of their ids, and of their sizes.
        states: by customer, hour, status and finality: how many, and the sum of the CRC-32 of their ids.
        ambiguous: ``unit/attempt`` of ambiguous attempts, the first thousand; ``ambiguous_count``: all.
        open_attempts: attempts under way.
        copies: for each unit: whether the far side must have it, and how many ambiguous or open attempts it had.
        expired: units older than the log.
    """

    totals: dict[tuple[str, int], Total] = field(default_factory=dict)
    units: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    states: dict[StateKey, list[int]] = field(default_factory=dict)
    ambiguous: list[str] = field(default_factory=list)
    ambiguous_count: int = 0
    open_attempts: int = 0
    copies: dict[str, tuple[bool, int]] = field(default_factory=dict)
    expired: int = 0


class Auditor:
    """Checks units and enters them in the books."""

    def __init__(self, extent: Extent, findings: Findings, unsettled: AbstractSet[str], now: int) -> None:
        """Prepare to check.

        Args:
            extent: what was read.
            findings: where differences go.
            unsettled: units that have gone on since; their states are not compared.
            now: the time in milliseconds.
        """
        self.books = Books()
        self.whole_from = extent.horizon(EVENTS.name, OUTCOMES.name)
        self._jobs_from = extent.horizon(JOBS.name, KEYED_JOBS.name)
        self._attempts_from = extent.horizon(ATTEMPTS.name)
        self._findings = findings
        self._unsettled = unsettled
        self._now = now

    def settle(self, ledger: Ledger, *, keep_copies: bool) -> None:
        """Check the units of a ledger. ``keep_copies``: remember what a far side must have."""
        for id_, unit in ledger.units.items():
            unit.waits = unit.waits or id_ in ledger.side.buried
            if unit.hour < self.whole_from:
                self.books.expired += 1
                continue
            if unit.mixed:
                self._findings.add("mixed_customers", id_)
            self._enter_state(id_, unit)
            if unit.accepted:
                self._accepted(id_, unit)
            else:
                self._unaccepted(id_, unit)
            ambiguous, is_open = list(unit.ambiguous_attempts()), unit.open_attempt() is not None
            self.books.open_attempts += is_open
            self.books.ambiguous_count += len(ambiguous)
            if len(self.books.ambiguous) < MAX_LISTED:
                self.books.ambiguous += [f"{id_}/{attempt}" for attempt in ambiguous]
            if keep_copies:
                must = bool(unit.delivered) and not unit.elsewhere
                self.books.copies[id_] = (must, len(ambiguous) + is_open)

    def _unaccepted(self, id_: str, unit: UnitState) -> None:
        if unit.events or unit.marks or unit.offered:
            self._findings.add("event_without_acceptance", id_)
        elif unit.owed:
            self._findings.add("job_without_acceptance", id_)

    def _accepted(self, id_: str, unit: UnitState) -> None:
        total = self.books.totals.setdefault((unit.tenant, unit.hour), Total())
        total.accepted += 1
        if not unit.job and unit.accepted_at >= self._jobs_from:
            self._findings.add("acceptance_without_job", id_)
        if unit.finals:
            total.finals[unit.final] += 1
        else:
            total.in_flight += 1
            self._under_way(id_, unit)
        if unit.late_bounced:
            total.late_bounces += 1
            if not unit.ever_attempted() and unit.accepted_at >= self._attempts_from:
                self._findings.add("returned_without_attempt", id_)
        if unit.finals > 1:
            self._findings.add("second_final", id_)
        if unit.delivered and not unit.attempted(unit.delivered) and unit.final_at >= self._attempts_from:
            self._findings.add("delivered_without_attempt", f"{id_}/{unit.delivered}")

    def _under_way(self, id_: str, unit: UnitState) -> None:
        if unit.expires_at + OVERDUE_MS < self._now:
            self._findings.add("overdue", id_)
        wanted = unit.attempt + 1 if unit.status == "deferred" else 1
        quiet = self._now - unit.changed_at > GRACE_MS
        if unit.offered < wanted and quiet and (unit.owed or unit.status == "deferred"):
            self._findings.add("not_handed_on", f"{id_}/{wanted}")
        elif unit.offered and not unit.waits:
            self._findings.add("stands_nowhere", f"{id_}/{unit.offered}")

    def _enter_state(self, id_: str, unit: UnitState) -> None:
        if id_ in self._unsettled:
            return
        check = zlib.crc32(id_.encode())
        if unit.accepted:
            counted = self.books.units.setdefault((unit.tenant, unit.hour), [0, 0, 0])
            counted[0] += 1
            counted[1] += check
            counted[2] += unit.size
        if unit.status:
            standing = self.books.states.setdefault(
                (unit.tenant, unit.hour, unit.status, stands_ended(unit.rank)), [0, 0]
            )
            standing[0] += 1
            standing[1] += check
