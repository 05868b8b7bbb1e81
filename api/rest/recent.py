"""What this door took a moment ago, for whoever follows ``Location`` before the store has heard of it.

The store is a quarter of a second behind the log; without this the first look after a 202 would be a 404. It is a memory of
one process for a minute, and never the only place where anything is known.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from depesche.analytics.queries.results import Hit
from depesche.api.submission import Receipt, Submission
from depesche.schemas.service import Clock, now_ms

KEPT_MS = 60_000
MOST_UNITS = 20_000


@dataclass(frozen=True, slots=True)
class _Taken:
    at: int
    tenant: str
    units: tuple[Hit, ...]


class Recent:
    """The newest jobs of this door with their units as they stood when they were taken."""

    def __init__(self, clock: Clock = now_ms) -> None:
        self._clock = clock
        self._jobs: OrderedDict[str, _Taken] = OrderedDict()
        self._units = 0

    def add(self, submission: Submission, receipt: Receipt) -> None:
        """Remember a job; the oldest ones are forgotten."""
        if receipt.replayed or receipt.units > MOST_UNITS:
            return
        self._jobs[receipt.job_id] = _Taken(self._clock(), submission.tenant, _hits(submission, receipt))
        self._units += receipt.units
        while self._units > MOST_UNITS or self._oldest_is_stale():
            _, forgotten = self._jobs.popitem(last=False)
            self._units -= len(forgotten.units)

    def units(self, tenant: str, id_: str) -> tuple[Hit, ...]:
        """The units that the id of a job or unit names, if ``tenant`` sent them just now."""
        taken = self._jobs.get(id_.partition(".")[0])
        if taken is None or taken.tenant != tenant or taken.at < self._clock() - KEPT_MS:
            return ()
        return tuple(unit for unit in taken.units if id_ in (unit.job_id, unit.unit_id))

    def _oldest_is_stale(self) -> bool:
        oldest = next(iter(self._jobs.values()), None)
        return oldest is not None and oldest.at < self._clock() - KEPT_MS


def _hits(submission: Submission, receipt: Receipt) -> tuple[Hit, ...]:
    return tuple(
        Hit(
            unit_id=unit_id,
            job_id=receipt.job_id,
            tenant=submission.tenant,
            account=submission.account,
            accepted_at=receipt.received_at,
            interface=submission.interface.value,
            recipient=recipient.address,
            recipient_domain=recipient.address.rpartition("@")[2],
            mail_from=submission.mail_from,
            header_from=submission.header_from,
            sender_domain=submission.sender_domain,
            subject=submission.subject,
            client=submission.client,
            message_id=submission.messages[recipient.message].message_id,
            size=sum(map(len, submission.messages[recipient.message].parts)),
            reference_job=submission.reference_job or "",
            reference=recipient.reference or "",
            cost_center=submission.cost_center or "",
            campaign_id=submission.campaign_id or "",
            expires_at=submission.expires_at,
            status="accepted",
            final=False,
            changed_at=receipt.received_at,
            attempts=0,
            provider="",
            host="",
            reason="",
            code=0,
            enhanced_code="",
            reply_class="",
            kind="",
            reply_text="",
            next_attempt_at=None,
            ambiguous=False,
        )
        for unit_id, recipient in zip(receipt.unit_ids, submission.recipients, strict=True)
    )
