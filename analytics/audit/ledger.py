"""The ledger: the log folded into the state of each unit.

Memory is bounded: a log with more units than fit is read several times, each time for a part of the jobs.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.audit.content import ContentIndex
from depesche.analytics.audit.extent import Extent
from depesche.analytics.audit.report import Findings
from depesche.analytics.audit.units import UnitState
from depesche.analytics.store.rows import accepted_at_of, is_final, is_late_bounce, rank_of
from depesche.schemas.codec import codec
from depesche.schemas.errors import ContentLostError, UndecodableError
from depesche.schemas.identity import job_of, unit_id
from depesche.schemas.records import (
    AttemptMarks,
    DeadLetter,
    Job,
    JobEnvelope,
    MailEvent,
    MailUnit,
    Personal,
    ReturnedMail,
)
from depesche.schemas.topics import ATTEMPTS, DEAD, EVENTS, JOBS, KEYED_JOBS, OUTCOMES, RETURNS

UNITS_HEADER = "units"
"""Header of a job record: how many units it has (written by the doors)."""

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What a ledger must know of its surroundings.

    Attributes:
        prefix: of the topics' names in the cluster.
        elsewhere: addresses of far sides that keep no ground truth.
        recipients: whether to remember who each unit went to, to compare with a far side's ground truth.
    """

    prefix: str = ""
    elsewhere: frozenset[str] = frozenset()
    recipients: bool = False


@dataclass(slots=True)
class Side:
    """What is counted beside the units.

    Attributes:
        records: records read, by topic.
        jobs: job records.
        events: by customer, hour of acceptance and type: how many events, and the sum of the CRC-32 of their ids.
        unreadable: places of records that cannot be read, and when they were written.
        letters: what dead letters are about and who wrote them, each once.
        buried: units that dead letters name.
        recipients: message id and recipient by unit, where that is wanted.
    """

    records: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    events: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)
    unreadable: dict[tuple[str, int, int], int] = field(default_factory=dict)
    letters: set[tuple[str, int, int, str]] = field(default_factory=set)
    buried: set[str] = field(default_factory=set)
    recipients: dict[str, tuple[str, str]] = field(default_factory=dict)


class Ledger:
    """Folds records. ``units`` are those of one part of the jobs, ``side`` is about all."""

    def __init__(
        self, keyring: Keyring, extent: Extent, findings: Findings, content: ContentIndex, options: Options
    ) -> None:
        """Begin with nothing.

        Args:
            keyring: opens envelopes, for jobs without a count and to compare with a far side.
            extent: what is read.
            findings: where differences go.
            content: the archive's entries.
            options: see there.
        """
        self.units: dict[str, UnitState] = {}
        self.side = Side()
        self._keyring = keyring
        self._extent = extent
        self._findings = findings
        self._content = content
        self._options = options
        self._part, self._parts = 0, 1
        self._folds: dict[str, Callable[[str, Any], None]] = {
            JOBS.name: self._job,
            KEYED_JOBS.name: self._job,
            EVENTS.name: self._event,
            OUTCOMES.name: self._event,
            ATTEMPTS.name: self._marks,
            DEAD.name: self._letter,
            RETURNS.name: self._returned,
        }

    def begin(self, part: int, parts: int) -> None:
        """Go on with another part of the jobs."""
        self.units.clear()
        self._part, self._parts = part, parts

    def take(self, topic: str, record: Any) -> None:
        """Fold one record."""
        if self._part == 0:
            self.side.records[topic] += 1
        try:
            self._folds.get(topic, self._outbound)(topic, record)
        except (UndecodableError, ValueError, KeyError, TypeError):
            # Whoever could not read it must have buried it; that is looked at in the end.
            self.side.unreadable[topic, record.partition, record.offset] = record.timestamp

    def _mine(self, job_id: str) -> bool:
        return self._parts == 1 or zlib.crc32(job_id.encode()) % self._parts == self._part

    def _unit(self, id_: str, job_id: str, tenant: str) -> UnitState:
        state = self.units.get(id_)
        if state is None:
            state = self.units[id_] = UnitState(tenant, accepted_at_of(id_, job_id))
        elif state.tenant != tenant:
            state.mixed = True
        return state

    def _job(self, topic: str, record: Any) -> None:
        job = codec(Job).raw(record.value or b"")
        if not self._mine(job["job_id"]):
            return
        self.side.jobs += 1
        prepared = self._is_passed(topic, record)
        for message in job["messages"]:
            self._refer(message["content"], job["job_id"])
        for number in range(self._count(record, job)):
            state = self._unit(unit_id(job["job_id"], number), job["job_id"], job["tenant"])
            state.job = True
            # A job that waits to be prepared owes no events yet.
            state.owed = state.owed or prepared

    def _is_passed(self, topic: str, record: Any) -> bool:
        return bool(record.offset < self._extent.passed.get((topic, record.partition), 0))

    def _count(self, record: Any, job: Raw) -> int:
        told = dict(record.headers).get(UNITS_HEADER)
        if told:
            return int(told)
        try:
            key = self._keyring.key(job["key_id"])
            plain = key.open(job["sealed_envelope"], b"job|" + job["job_id"].encode())
        except ContentLostError:
            return 0
        return len(codec(JobEnvelope).raw(plain)["recipients"])

    def _event(self, topic: str, record: Any) -> None:
        raw = codec(MailEvent).raw(record.value or b"")
        if not self._mine(raw["job_id"]):
            return
        state = self._unit(raw["unit_id"], raw["job_id"], raw["tenant"])
        if not state.is_new(raw["event_id"]):
            return
        kind, sequence = raw["type"], raw["sequence"]
        counted = self.side.events.setdefault((raw["tenant"], state.hour, kind), [0, 0])
        counted[0] += 1
        counted[1] += zlib.crc32(raw["event_id"].encode())
        rank = rank_of(kind, sequence)
        if rank is not None and rank > state.rank:
            state.rank, state.status = rank, kind
            state.attempt, state.changed_at = raw["attempt"], raw["occurred_at"]
        if kind == "accepted":
            self._accepted(state, raw)
        if is_final(kind, sequence):
            self._final(state, raw)
        elif is_late_bounce(kind, sequence):
            state.late_bounced = True

    def _accepted(self, state: UnitState, raw: Raw) -> None:
        detail = raw["detail"][1]
        # The accepted event is the authority; whoever says otherwise is noted as mixed.
        state.tenant = raw["tenant"]
        state.accepted, state.size, state.expires_at = True, detail["size"], detail["expires_at"]
        self._refer(detail["content"], raw["unit_id"])
        if self._options.recipients:
            self.side.recipients[raw["unit_id"]] = (detail["message_id"], self._recipient(raw))

    def _final(self, state: UnitState, raw: Raw) -> None:
        state.finals += 1
        state.final, state.final_at = raw["type"], raw["occurred_at"]
        if raw["type"] == "delivered":
            state.delivered = raw["attempt"]
            state.elsewhere = bool(raw["detail"]) and raw["detail"][1]["remote_ip"] in self._options.elsewhere

    def _recipient(self, raw: Raw) -> str:
        try:
            key = self._keyring.key(raw["key_id"])
            plain = key.open(raw["sealed_personal"], b"event|" + raw["event_id"].encode())
            return str(codec(Personal).raw(plain)["recipient"] or "").lower()
        except ContentLostError:
            return ""

    def _refer(self, content: list[Raw], example: str) -> None:
        for ref in content:
            if not self._content.refer(ref["segment"], ref["offset"]):
                self._findings.add("content_missing", f"{example} at {ref['segment']}:{ref['offset']}")

    def _marks(self, topic: str, record: Any) -> None:
        for mark in codec(AttemptMarks).raw(record.value or b"")["marks"]:
            job_id = job_of(mark["unit_id"])
            if self._mine(job_id):
                self._unit(mark["unit_id"], job_id, mark["tenant"]).mark(mark["attempt"], mark["phase"])

    def _outbound(self, topic: str, record: Any) -> None:
        raw = codec(MailUnit).raw(record.value or b"")
        if self._mine(raw["job_id"]):
            state = self._unit(raw["unit_id"], raw["job_id"], raw["tenant"])
            state.offered = max(state.offered, raw["attempt"])
            state.waits = state.waits or not self._is_passed(topic, record)

    def _returned(self, topic: str, record: Any) -> None:
        mail = codec(ReturnedMail).raw(record.value or b"")
        if self._part == 0:
            self._refer(mail["content"], mail["returned_id"])

    def _letter(self, topic: str, record: Any) -> None:
        letter = codec(DeadLetter).raw(record.value or b"")
        about = letter["topic"].removeprefix(self._options.prefix)
        self.side.letters.add((about, letter["partition"], letter["offset"], letter["stage"]))
        if letter["unit_id"]:
            # Where it is now is known, and said apart. By name: its own records may be read after the letter.
            self.side.buried.add(letter["unit_id"])
