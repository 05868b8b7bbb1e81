"""A unit on its way through a courier, from the record taken to the offset that may be committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from depesche.schemas.records import AttemptMark, AttemptPhase, MailUnit, UnitEnvelope
from depesche.streams.mail.attempt import Finding
from depesche.streams.runner.stage import Flight
from depesche.streams.runner.tracker import CompletionTracker
from depesche.streams.wire.dns import Hosts
from depesche.streams.wire.smtp import Answer

Stage = Literal["waiting", "under way", "settling"]


@dataclass(slots=True, eq=False)
class Errand:
    """One unit and how far it has come.

    Attributes:
        tracker: the ownership of its partition.
        flight: the record to finish; None while a younger copy of it has not arrived yet (``Recorder.carry_forward``).
        unit: what is to be delivered.
        envelope: to whom.
        offset: where the unit stands in mail.outbound; the younger copy's, if there is one.
        since: when it was taken, monotonic seconds.
        carried_at: when its record was last carried forward, else when it was taken, monotonic seconds.
        begun: when its attempt began, monotonic seconds; 0 before.
        stage: what happens to it.
        phase: the last mark of its attempt.
        hosts: who takes its mail.
        carrying: whether a younger copy is being written.
        follower: a record of a later attempt that came before this one was settled.
    """

    tracker: CompletionTracker
    flight: Flight | None
    unit: MailUnit
    envelope: UnitEnvelope
    partition: int
    offset: int
    since: float
    carried_at: float
    begun: float = 0.0
    stage: Stage = "waiting"
    phase: AttemptPhase = AttemptPhase.STARTED
    hosts: Hosts | None = None
    carrying: bool = False
    follower: Flight | None = None

    @property
    def live(self) -> bool:
        """Whether its partition is still ours."""
        return not self.tracker.closed

    @property
    def recipient(self) -> str | None:
        """Its recipient, None where the envelope cannot be opened any more."""
        return self.envelope.recipient or None

    def mark(self, phase: AttemptPhase, outcome: str | None = None, event: bytes | None = None) -> AttemptMark:
        """A mark of its present attempt."""
        unit = self.unit
        return AttemptMark(
            unit_id=unit.unit_id,
            tenant=unit.tenant,
            attempt=unit.attempt,
            phase=phase,
            outcome=outcome,
            offset=self.offset,
            event=event,
        )

    def finding(self, answer: Answer, now: float) -> Finding:
        """What the far side answered, ``now`` in monotonic seconds."""
        peer = answer.peer
        return Finding(
            answer.step,
            answer.code,
            answer.enhanced,
            answer.text,
            answer.ambiguous,
            answer.transcript,
            peer.host,
            peer.address,
            peer.source_ip,
            peer.tls,
            round((now - self.begun) * 1000) if self.begun else 0,
            self.recipient,
            peer.policy,
        )
