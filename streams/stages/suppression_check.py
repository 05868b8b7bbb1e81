"""Suppression just before sending: a unit whose recipient is on the list goes no further and ends as dropped.

Only the courier says so, as with an operator's orders (``hand``): a job can be prepared twice, with a bounce in between, and only
the owner of the unit's route knows what became of it. So prepare passes a suppressed unit on, unscanned and unsigned, with the
entry in a header; the courier that meets it drops it whatever the list says by then, because it is not fit to be sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.log.meters import count
from depesche.analytics.suppressions.book import SuppressionBook
from depesche.analytics.suppressions.requests import Requests
from depesche.analytics.suppressions.standing import drop_reason, evidence_of, finding
from depesche.schemas.codec import decode
from depesche.schemas.errors import LogUnavailableError
from depesche.schemas.records import MailUnit, Suppression
from depesche.schemas.service import Clock, now_ms
from depesche.streams.mail.attempt import Dropping
from depesche.streams.stages.errand import Errand
from depesche.streams.stages.recorder import Recorder

SUPPRESSED = "suppressed"
"""Header of a unit that was not prepared because its recipient is suppressed, with the entry that says so."""


@dataclass(frozen=True, slots=True)
class SuppressionTools:
    """What a stage needs to respect the suppression list.

    Attributes:
        book: the list.
        requests: notes which sends it has blocked.
        keyring: opens what the far side had said.
    """

    book: SuppressionBook
    requests: Requests
    keyring: Keyring

    def blocking(self, unit: MailUnit) -> Suppression | None:
        """What forbids sending the unit now."""
        return self.book.blocking(unit.tenant, unit.recipient_key, unit.person_key)

    def dropping(self, entry: Suppression, tenant: str) -> Dropping:
        """Why a unit of ``tenant`` is dropped; what another customer's mail was answered is not told."""
        own = entry.tenant == tenant
        evidence = evidence_of(entry)
        cause = evidence.event_id if evidence is not None and own else None
        return Dropping(drop_reason(entry), finding(entry, self.keyring if own else None), cause)


class SuppressionCheck:
    """What the list means for the errands of one courier process."""

    def __init__(
        self,
        tools: SuppressionTools | None,
        recorder: Recorder,
        end: Callable[[Exception], None],
        worker: str,
        clock: Clock = now_ms,
    ) -> None:
        """Prepare.

        Args:
            tools: the list; None: nobody is suppressed.
            recorder: where errands end.
            end: ends the process with a fault that is nobody's mail's.
            worker: who notes that a send was blocked.
            clock: the time in milliseconds.
        """
        self._tools = tools
        self._recorder = recorder
        self._end = end
        self._worker = worker
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def unfit(self, errand: Errand) -> bool:
        """Whether the unit was not prepared because its recipient is suppressed; then it is dropped."""
        marks = dict(errand.flight.record.headers) if errand.flight is not None else {}
        if self._tools is None or SUPPRESSED not in marks:
            return False
        self._drop(self._tools, errand, decode(Suppression, marks[SUPPRESSED]))
        return True

    def meets(self, errand: Errand) -> bool:
        """Whether the recipient is suppressed now; then the unit is dropped. Costs a few microseconds."""
        entry = self._tools.blocking(errand.unit) if self._tools is not None else None
        if self._tools is None or entry is None:
            return False
        self._drop(self._tools, errand, entry)
        return True

    def _drop(self, tools: SuppressionTools, errand: Errand, entry: Suppression) -> None:
        # From here on nobody else may end it; see ``DeliverStage._meet``.
        errand.stage = "settling"
        task = asyncio.ensure_future(self._noted_and_dropped(tools, errand, entry))
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    async def _noted_and_dropped(self, tools: SuppressionTools, errand: Errand, entry: Suppression) -> None:
        """Note it first: killed in between, the unit is met again and the same note counts once."""
        unit, now, noted = errand.unit, self._clock(), False
        while errand.live and not noted:
            # While the log cannot be reached everything waits, as in the recorder.
            with contextlib.suppress(LogUnavailableError):
                await tools.requests.blocked(entry, unit.unit_id, now, self._worker)
                noted = True
        if errand.live:
            dropping = tools.dropping(entry, unit.tenant)
            count("mail_units_suppressed_total", reason=dropping.reason.value)
            self._recorder.drop(errand, dropping)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if isinstance(fault, Exception):
            self._end(fault)

    def stop(self) -> None:
        """End what waits."""
        for task in self._tasks:
            task.cancel()
