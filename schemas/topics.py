"""The one table of topics: name, record, key, partitions, retention. Set-up creates them, every start checks them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the log.

    Attributes:
        name: topic name.
        record: name of the Avro record in its values; empty where the values are not ours (Faust's changelogs).
        key: what the record key is, in words.
        spread: whether it has the configured number of partitions (else one).
        config: topic configuration that must hold.
        purpose: one sentence.
    """

    name: str
    record: str
    key: str
    purpose: str
    spread: bool = True
    config: Mapping[str, str] = field(default_factory=dict)


def _deleted_after(days: int, **more: str) -> dict[str, str]:
    extra = {name.replace("_", "."): value for name, value in more.items()}
    return {"cleanup.policy": "delete", "retention.ms": str(days * DAY), "retention.bytes": "-1", **extra}


COMPACTED = {"cleanup.policy": "compact"}


def _kept_compacted(days: int) -> dict[str, str]:
    """The newest record of each key, and none that is older; small segments, because only closed ones are cleaned."""
    return {"cleanup.policy": "compact,delete", "retention.ms": str(days * DAY), "segment.ms": str(DAY // 4)}


JOBS = Topic(
    "mail.jobs",
    "Job",
    "job id",
    "Accepted jobs; a 250 or 202 was given for each.",
    config=_deleted_after(14, flush_messages="1"),
)
KEYED_JOBS = Topic(
    "mail.jobs.keyed",
    "Job",
    "idempotency key",
    "Accepted jobs that came with an idempotency key; the doors read them back to recognise a repetition.",
    config=_deleted_after(14, flush_messages="1"),
)
OUTBOUND = Topic("mail.outbound", "MailUnit", "route", "Signed units waiting for a courier.", config=_deleted_after(14))
RETRIES = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "1h": 3600,
    "4h": 14400,
}
"""The ladder: rung to its constant delay in seconds; a constant delay makes waiting a FIFO."""
RETRY = {
    rung: Topic(
        f"mail.retry.{rung}",
        "MailUnit",
        "route",
        f"Units that wait {rung} for their next attempt.",
        config=_deleted_after(14),
    )
    for rung in RETRIES
}
NOW = "now"
"""The rung without a delay: a unit that leaves its courier for another route passes over it to the courier of that route."""
RETRY[NOW] = Topic(
    "mail.retry.now", "MailUnit", "route", "Units on their way from one route to another.", config=_deleted_after(14)
)
SWEEPS = Topic(
    "mail.sweeps",
    "SweepMark",
    "none; partition of the rung",
    "Which units the ladder's keeper has brought back before their time, by an operator's order.",
    config=_deleted_after(14),
)
ATTEMPTS = Topic(
    "mail.attempts",
    "AttemptMarks",
    "none; partition of the unit in mail.outbound",
    "Delivery attempts, written ahead.",
    config=_deleted_after(14),
)
EVENTS = Topic("mail.events", "MailEvent", "recipient key", "What we did with a unit.", config=_deleted_after(45))
OUTCOMES = Topic("mail.outcomes", "MailEvent", "recipient key", "What the world answered.", config=_deleted_after(45))
DIRECTORY = Topic(
    "mail.directory",
    "DirectoryRecord",
    "kind/id/tenant",
    "Customers, accounts, domains and keys as they are now.",
    spread=False,
    config=COMPACTED,
)
AUDIT = Topic(
    "mail.audit",
    "DirectoryRecord",
    "kind/id/tenant",
    "Every version of every thing in the directory.",
    spread=False,
    config=_deleted_after(3650),
)
CONTROLS = Topic(
    "mail.controls",
    "Control",
    "control id",
    "The operator's orders as they are now.",
    spread=False,
    config=COMPACTED,
)
CONTROLS_HISTORY = Topic(
    "mail.controls.history",
    "Control",
    "control id",
    "Every version of every order: who, when, why.",
    spread=False,
    config=_deleted_after(3650),
)
SUPPRESSIONS = Topic(
    "mail.suppressions",
    "Suppression",
    "recipient key",
    "Who must not be written to, since when and why; Faust's copy of the fold's table as well.",
    # A reader that was away for less than this has heard of every entry that is gone.
    config={**COMPACTED, "delete.retention.ms": str(7 * DAY)},
)
SUPPRESSION_REQUESTS = Topic(
    "mail.suppressions.requests",
    "SuppressionRequest",
    "recipient key",
    "What is asked of the suppression list by hand, and which sends it has blocked.",
    config=_deleted_after(45),
)
PACE = Topic(
    "mail.pace",
    "PaceState",
    "pool/provider",
    "How fast each pool may send to each provider: the newest decision.",
    spread=False,
    config=COMPACTED,
)
PACE_HISTORY = Topic(
    "mail.pace.history",
    "PaceState",
    "pool/provider",
    "Every decision about the pace.",
    spread=False,
    config=_deleted_after(45),
)
PACE_SIGNALS = Topic(
    "mail.pace.signals",
    "PaceSignal",
    "pool/provider",
    "What outcomes say about the pace, in the order in which the decisions were made.",
    spread=False,
    config=_deleted_after(45),
)
PACE_WATCH_CHANGELOG = Topic(
    "mail.agents-pace-watch-changelog",
    "",
    "table key",
    "Faust's copy of the table of watched pools and providers, read at its start.",
    config=COMPACTED,
)
PACE_CHANGELOG = Topic(
    "mail.agents-pace-changelog",
    "",
    "table key",
    "Faust's copy of the pace table, read at its start.",
    spread=False,
    config=COMPACTED,
)
RATES = Topic(
    "mail.rates",
    "RateSum",
    "type|kind|late|customer|minute|source partition|provider",
    "Outcomes per customer, provider, type, kind and minute.",
    spread=False,
    config=_kept_compacted(3),
)
RATES_CHANGELOG = Topic(
    "mail.agents-rates-changelog",
    "",
    "table key",
    "Faust's copy of the rates table, read at its start.",
    config=COMPACTED,
)
WARMUP = Topic(
    "mail.warmup",
    "WarmupCount",
    "day|source partition|own address|provider",
    "What own addresses that are warming up have sent to each provider on which day.",
    spread=False,
    config=_kept_compacted(3),
)
WARMUP_CHANGELOG = Topic(
    "mail.agents-warmup-changelog",
    "",
    "table key",
    "Faust's copy of the table of what cold addresses have sent, read at its start.",
    config=COMPACTED,
)
ALERTS = Topic(
    "mail.alerts",
    "Alert",
    "kind/subject",
    "What a person should know: rates above their limit, own addresses on blocklists.",
    spread=False,
    config=_deleted_after(180),
)
RETURNS = Topic(
    "mail.returns",
    "ReturnedMail",
    "SHA-256 of the mail",
    "Mails that came to the return path; a 250 was given for each.",
    config=_deleted_after(14, flush_messages="1"),
)
TLS = Topic(
    "mail.tls",
    "TLSCount",
    "hash of all but the count",
    "TLS sessions per day, receiving domain, policy and result (RFC 8460).",
    spread=False,
    config={**_deleted_after(45), "cleanup.policy": "compact,delete"},
)
DEAD = Topic(
    "mail.dead",
    "DeadLetter",
    "none",
    "Records nobody could decide, with their cause.",
    spread=False,
    config=_deleted_after(180),
)

ALL: tuple[Topic, ...] = (
    JOBS,
    KEYED_JOBS,
    OUTBOUND,
    *RETRY.values(),
    SWEEPS,
    ATTEMPTS,
    EVENTS,
    OUTCOMES,
    DIRECTORY,
    AUDIT,
    CONTROLS,
    CONTROLS_HISTORY,
    SUPPRESSIONS,
    SUPPRESSION_REQUESTS,
    PACE,
    PACE_HISTORY,
    PACE_SIGNALS,
    PACE_CHANGELOG,
    PACE_WATCH_CHANGELOG,
    RATES,
    RATES_CHANGELOG,
    WARMUP,
    WARMUP_CHANGELOG,
    ALERTS,
    RETURNS,
    TLS,
    DEAD,
)

#: Event types that are what the world answered; all others are what we did (design section 3).
OUTCOME_TYPES = frozenset(
    {
        "deferred",
        "delivered",
        "bounced",
        "complained",
        "opened",
        "clicked",
        "unsubscribed",
        "expired",
        "failed",
        "cancelled",
    }
)


def partition_of(key: str, partitions: int) -> int:
    """The partition of a hexadecimal key (recipient keys are keyed hashes, so their first digits are evenly spread)."""
    return int(key[:8], 16) % partitions


def route_partition(route: str, partitions: int) -> int:
    """The partition of a route in mail.outbound and mail.retry.*: one courier owns all units of a route."""
    return partition_of(hashlib.sha1(route.encode(), usedforsecurity=False).hexdigest(), partitions)


def job_partition(job_id: str, partitions: int) -> int:
    """The partition of a job in mail.jobs: by the random end of its id."""
    return partition_of(job_id[-8:], partitions)
