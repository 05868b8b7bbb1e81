"""The state of each unit as the audit folds it from the log: a few words per unit, the same whatever order it reads in."""

from __future__ import annotations

from collections.abc import Iterator

from depesche.schemas.records import AttemptPhase

_STARTED, _COMMITTING, _FINISHED, _AMBIGUOUS, _PARKED = 1, 2, 4, 8, 16
_BITS = 5
_PHASES = {
    AttemptPhase.STARTED.value: _STARTED,
    AttemptPhase.COMMITTING.value: _COMMITTING,
    AttemptPhase.FINISHED.value: _FINISHED,
    AttemptPhase.AMBIGUOUS.value: _AMBIGUOUS,
    AttemptPhase.PARKED.value: _PARKED,
}
_ID_BYTES = 6
_MOST_ATTEMPTS = 4_096


class UnitState:
    """What the log says of one unit.

    Attributes:
        tenant: customer number, as first read.
        accepted_at: when its job was taken, from its id, in milliseconds.
        job: whether a job record lists it; owed: and that job has been prepared, so that it must have events.
        accepted: whether it has an accepted event.
        offered: highest attempt for which it stood in mail.outbound or on the ladder; waits: and it stands there still, in a
            record that its reader has not passed.
        mixed: whether records of it name different customers.
        elsewhere: whether it was delivered to a far side that keeps no ground truth.
        expires_at: when delivery is given up; 0: not known yet.
        size: bytes of its message.
        rank, status, attempt, changed_at: its last step, with its attempt and when it happened.
        final: type of its final event, empty without one; final_at: when.
        finals: how many different final events it has; late_bounced: whether it came back after its final state.
        delivered: attempt that delivered it, 0 without one.
        events: the ends of its events' ids, each once.
        marks: phases of its attempts, five bits each.
    """

    __slots__ = (
        *("tenant", "accepted_at", "job", "owed", "accepted", "offered", "mixed", "elsewhere", "expires_at", "size"),
        *(
            "rank",
            "status",
            "attempt",
            "changed_at",
            "final",
            "final_at",
            "finals",
            "delivered",
            "late_bounced",
            "events",
            "marks",
            "waits",
        ),
    )

    def __init__(self, tenant: str, accepted_at: int) -> None:
        self.tenant = tenant
        self.accepted_at = accepted_at
        self.job = self.owed = self.accepted = self.mixed = self.elsewhere = self.waits = False
        self.expires_at = self.size = self.offered = 0
        self.rank, self.status, self.attempt, self.changed_at = -1, "", 0, 0
        self.final, self.final_at, self.finals, self.delivered = "", 0, 0, 0
        self.late_bounced = False
        self.events = b""
        self.marks = 0

    @property
    def hour(self) -> int:
        """Begin of the hour of acceptance, in milliseconds."""
        return self.accepted_at // 3_600_000 * 3_600_000

    def is_new(self, event_id: str) -> bool:
        """Whether an event is seen for the first time; remembers it."""
        end = bytes.fromhex(event_id[-2 * _ID_BYTES :])
        known = self.events
        if any(known[at : at + _ID_BYTES] == end for at in range(0, len(known), _ID_BYTES)):
            return False
        self.events = known + end
        return True

    def mark(self, attempt: int, phase: str) -> None:
        """One mark of an attempt; a phase of a later version counts as nothing.

        Raises:
            ValueError: no number of an attempt.
        """
        if not 0 <= attempt < _MOST_ATTEMPTS:
            raise ValueError("no number of an attempt")
        self.marks |= _PHASES.get(phase, 0) << _BITS * attempt

    def attempted(self, attempt: int) -> bool:
        """Whether this attempt was written down as far as its dot."""
        return bool(self.marks >> _BITS * attempt & (_COMMITTING | _FINISHED | _AMBIGUOUS))

    def ever_attempted(self) -> bool:
        """Whether any attempt was written down as far as its dot."""
        return any(phases & (_COMMITTING | _FINISHED | _AMBIGUOUS) for _, phases in self._attempts())

    def ambiguous_attempts(self) -> Iterator[int]:
        """The attempts of which nobody can know whether the far side took the mail: said to be, or given up without an end."""
        latest = self.open_attempt()
        for attempt, phases in self._attempts():
            if phases & _AMBIGUOUS or (phases & _COMMITTING and not phases & _FINISHED and attempt != latest):
                yield attempt

    def open_attempt(self) -> int | None:
        """The attempt whose dot may be going out now: the latest one, if it has no end and neither has the unit."""
        if self.finals or not self.marks:
            return None
        attempt = (self.marks.bit_length() - 1) // _BITS
        phases = self.marks >> _BITS * attempt
        return attempt if phases & _COMMITTING and not phases & (_FINISHED | _AMBIGUOUS) else None

    def _attempts(self) -> Iterator[tuple[int, int]]:
        marks, attempt = self.marks, 0
        while marks:
            yield attempt, marks & (1 << _BITS) - 1
            marks >>= _BITS
            attempt += 1
