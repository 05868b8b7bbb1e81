"""What an audit found: totals per customer and hour, and every kind of difference with examples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from depesche.analytics.queries.results import rfc3339

Kind = Literal[
    "job_without_acceptance",
    "acceptance_without_job",
    "event_without_acceptance",
    "second_final",
    "mixed_customers",
    "delivered_without_attempt",
    "returned_without_attempt",
    "not_handed_on",
    "stands_nowhere",
    "overdue",
    "content_missing",
    "unreadable_not_buried",
    "store_behind",
    "store_events",
    "store_units",
    "store_states",
    "store_dead_letters",
    "far_side_missing",
    "far_side_extra_copies",
    "far_side_unknown",
]

MEANING: Final[dict[Kind, str]] = {
    "job_without_acceptance": "a unit of an accepted job has been passed over: it has no accepted event",
    "acceptance_without_job": "a unit is said to be accepted, but no door wrote its job",
    "event_without_acceptance": "something happened to a unit that was never accepted",
    "second_final": "a unit has more than one final state",
    "mixed_customers": "records of one unit name different customers",
    "delivered_without_attempt": "a unit was delivered by an attempt that was not written ahead",
    "returned_without_attempt": "a unit is said to have come back, but no attempt to send it was written ahead",
    "not_handed_on": "a unit is under way, but nobody was given it for its next attempt",
    "stands_nowhere": "a unit is under way, but it stands in no record that anybody is still to read",
    "overdue": "a unit is still under way long after its time was up",
    "content_missing": "an accepted mail's content is not in the archive",
    "unreadable_not_buried": "a record cannot be read and has no dead letter",
    "store_behind": "records of the log are not in ClickHouse yet",
    "store_events": "ClickHouse has other events than the log, for a customer, hour and type",
    "store_units": "ClickHouse has other units than the log, for a customer and hour",
    "store_states": "ClickHouse has other states of units than the log, for a customer, hour and state",
    "store_dead_letters": "ClickHouse has fewer dead letters than the log",
    "far_side_missing": "a unit is said to be delivered, but the far side does not have it",
    "far_side_extra_copies": "the far side has more copies of a mail than ambiguous attempts explain",
    "far_side_unknown": "the far side has a mail that was never accepted",
}
MAX_EXAMPLES = 10
MAX_LISTED = 1_000


@dataclass(slots=True)
class Difference:
    """One kind of difference: how often, and the first examples (ids, customers, hours; nothing personal)."""

    kind: Kind
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The difference as JSON has it."""
        return {"kind": self.kind, "meaning": MEANING[self.kind], "count": self.count, "examples": self.examples}


class Findings:
    """Collects differences."""

    def __init__(self) -> None:
        self._found: dict[Kind, Difference] = {}

    def add(self, kind: Kind, example: str, count: int = 1) -> None:
        """Note a difference."""
        found = self._found.setdefault(kind, Difference(kind))
        found.count += count
        if len(found.examples) < MAX_EXAMPLES:
            found.examples.append(example)

    def all(self) -> tuple[Difference, ...]:
        """All kinds that were found, in the order of ``MEANING``."""
        return tuple(self._found[kind] for kind in MEANING if kind in self._found)


@dataclass(slots=True)
class Total:
    """Units of one customer accepted in one hour: all of them, and where they stand.

    ``late_bounces`` are among the finals, nearly always as delivered: they came back after the far side had taken them.
    """

    accepted: int = 0
    finals: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    late_bounces: int = 0

    @property
    def balanced(self) -> bool:
        """Whether accepted = finals + in flight."""
        return self.accepted == sum(self.finals.values()) + self.in_flight

    def add(self, other: Total) -> None:
        """Add another total to this one."""
        self.accepted += other.accepted
        self.finals.update(other.finals)
        self.in_flight += other.in_flight
        self.late_bounces += other.late_bounces

    def to_json(self) -> dict[str, Any]:
        """The total as JSON has it."""
        return {
            "accepted": self.accepted,
            "finals": dict(sorted(self.finals.items())),
            "in_flight": self.in_flight,
            "late_bounces": self.late_bounces,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """The result of an audit. ``balanced``: nothing differs.

    Attributes:
        started_at, finished_at: milliseconds since 1970 UTC.
        records: records read, by topic.
        jobs: accepted jobs.
        totals: by customer and hour of acceptance (milliseconds).
        ambiguous: units with an attempt of which nobody can know whether the far side took it: ``unit/attempt``, the first
            1,000; ``ambiguous_count``: how many in all.
        open_attempts: attempts under way now, or whose courier has died and not been replaced yet.
        dead_letters: records that were buried.
        unreferenced: entries of the archive that belong to no job: a door died before it said yes. Harmless.
        expired: units older than the log reaches back; they are not looked at.
        unsettled: whether ClickHouse changed so fast that its units could not be compared at one moment; its events were.
        differences: everything that is not as it must be.
    """

    started_at: int
    finished_at: int
    records: dict[str, int]
    jobs: int
    totals: dict[tuple[str, int], Total]
    ambiguous: tuple[str, ...]
    ambiguous_count: int
    open_attempts: int
    dead_letters: int
    unreferenced: int
    expired: int
    unsettled: bool
    differences: tuple[Difference, ...]

    @property
    def balanced(self) -> bool:
        """Whether nothing differs."""
        return not self.differences and all(total.balanced for total in self.totals.values())

    @property
    def total(self) -> Total:
        """All customers and hours together."""
        whole = Total()
        for part in self.totals.values():
            whole.add(part)
        return whole

    def to_json(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "balanced": self.balanced,
            "started_at": rfc3339(self.started_at),
            "finished_at": rfc3339(self.finished_at),
            "records": self.records,
            "jobs": self.jobs,
            **self.total.to_json(),
            "ambiguous_attempts": {"count": self.ambiguous_count, "listed": list(self.ambiguous)},
            "open_attempts": self.open_attempts,
            "dead_letters": self.dead_letters,
            "unreferenced_content": self.unreferenced,
            "expired_units": self.expired,
            "unsettled": self.unsettled,
            "totals": [
                {"tenant": tenant, "hour": rfc3339(hour), **total.to_json()}
                for (tenant, hour), total in sorted(self.totals.items())
            ],
            "differences": [found.to_json() for found in self.differences],
        }
