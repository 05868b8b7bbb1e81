"""The audit: proves from the log, the archive and ClickHouse that nothing is lost and nothing is there twice.

    accepted = delivered + bounced + expired + dropped + cancelled + failed + in flight

per customer and hour of acceptance, to the unit, in the log and in ClickHouse.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.audit import far_side, store_side
from depesche.analytics.audit.checks import GRACE_MS, Auditor, Books
from depesche.analytics.audit.content import ContentIndex
from depesche.analytics.audit.extent import IN_ORDER, Extent, LogReader, Progress
from depesche.analytics.audit.ledger import Ledger, Options, Side
from depesche.analytics.audit.report import AuditReport, Findings
from depesche.analytics.audit.store_side import StoreSide
from depesche.analytics.backlog.inspection import COURIERS, KEEPER
from depesche.analytics.store.client import StoreClient
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ATTEMPTS, EVENTS, JOBS, KEYED_JOBS, OUTBOUND, OUTCOMES, RETRY

UNITS_AT_ONCE = 1_000_000
"""Units in memory at once, about 350 bytes each; a log with more is read in several passes."""
PREPARE_GROUP = "prepare"
READERS = {
    PREPARE_GROUP: (JOBS.name, KEYED_JOBS.name),
    COURIERS: (OUTBOUND.name,),
    KEEPER: tuple(topic.name for topic in RETRY.values()),
}
"""Who reads the topics in which a unit stands on its way, by consumer group."""
STORE_MS = 44 * 86_400_000
"""How old what is compared with ClickHouse may be: a day less than its tables keep events."""
CATCH_UP_SECONDS = 30.0


def _silent(what: str, done: int, whole: int) -> None:
    """Progress that nobody wants to know."""


async def run_audit(
    settings: Settings,
    keyring: Keyring,
    archive: ArchiveReader,
    client: StoreClient,
    progress: Progress = _silent,
    *,
    sink_log: Path | None = None,
    wait_seconds: float = CATCH_UP_SECONDS,
    clock: Clock = now_ms,
) -> AuditReport:
    """Audit everything up to now. Mail may go on meanwhile.

    Args:
        settings: where the log is, and how long the archive is kept.
        keyring: opens envelopes where a count is missing or a far side is compared.
        archive: tells what content there is.
        client: the store.
        progress: told what is done, how many of how many.
        sink_log: ground truth of the sandbox's far side, to compare with as well. Then everything is kept in memory.
        wait_seconds: how long to wait for the sink to catch up.
        clock: the time.

    Returns:
        the report; ``balanced`` says whether all is well.

    Raises:
        LogUnavailableError, StoreUnavailableError: the log or ClickHouse cannot be read.
        OSError: the archive or the ground truth cannot be read.
    """
    started, findings = clock(), Findings()
    async with LogReader(settings, READERS) as log:
        extent = await log.extent()
        # The log keeps whole segments, so it may reach further back than ClickHouse's 45 days.
        since = _next_hour(max(extent.horizon(EVENTS.name, OUTCOMES.name), started - STORE_MS))
        store = StoreSide(client, extent, since)
        found = await store.totals(wait_seconds, progress)
        days = settings.archive.retention_days
        content = await asyncio.to_thread(lambda: ContentIndex(archive.entries(), days, started))
        elsewhere = frozenset({settings.sandbox.postfix_host}) if settings.sandbox.enabled else frozenset()
        options = Options(settings.kafka.topic_prefix, elsewhere, recipients=sink_log is not None)
        ledger = Ledger(keyring, extent, findings, content, options)
        auditor = Auditor(extent, findings, found.unsettled, started)
        parts = 1 if sink_log else _parts(extent)
        for part in range(parts):
            ledger.begin(part, parts)
            await _read(log, extent, ledger, progress, (part, parts))
            auditor.settle(ledger, keep_copies=sink_log is not None)
    _unburied(ledger.side, findings, started)
    store_side.compare(found, auditor.books, ledger.side, since, findings)
    if sink_log is not None:
        await asyncio.to_thread(far_side.compare, sink_log, auditor.books, ledger.side, findings, started)
    return _report(ledger.side, auditor.books, findings, content, (started, clock()), settled=found.settled)


def _report(
    side: Side, books: Books, findings: Findings, content: ContentIndex, times: tuple[int, int], *, settled: bool
) -> AuditReport:
    return AuditReport(
        started_at=times[0],
        finished_at=times[1],
        records=dict(side.records),
        jobs=side.jobs,
        totals=books.totals,
        ambiguous=tuple(books.ambiguous),
        ambiguous_count=books.ambiguous_count,
        open_attempts=books.open_attempts,
        dead_letters=len(side.letters),
        unreferenced=content.unreferenced(),
        expired=books.expired,
        unsettled=not settled,
        differences=findings.all(),
    )


async def _read(log: LogReader, extent: Extent, ledger: Ledger, progress: Progress, part: tuple[int, int]) -> None:
    whole = extent.total(IN_ORDER)
    done = part[0] * whole
    async for topic, records in log.records(IN_ORDER, extent):
        for record in records:
            ledger.take(topic, record)
        done += len(records)
        progress("reading the log", done, whole * part[1])
        # Folding keeps the loop busy; the client's heartbeats and whoever shows progress get their turn here.
        await asyncio.sleep(0)


def _parts(extent: Extent) -> int:
    # A unit has at least three events (accepted, scanned, signed) unless it was dropped at once.
    return max(1, -(-extent.total((EVENTS.name,)) // (3 * UNITS_AT_ONCE)))


def _next_hour(moment: int) -> int:
    return -(-moment // 3_600_000) * 3_600_000


def _unburied(side: Side, findings: Findings, now: int) -> None:
    """Note the records that cannot be read and that nobody buried; marks of attempts have no reader that would."""
    buried = {letter[:3] for letter in side.letters}
    for place, written_at in side.unreadable.items():
        if place not in buried and place[0] != ATTEMPTS.name and now - written_at > GRACE_MS:
            findings.add("unreadable_not_buried", f"{place[0]}/{place[1]} offset {place[2]}")
