"""Every metric's name, unit and meaning; a misspelling is a type error. Labels never hold a tenant or an address."""

from __future__ import annotations

from typing import Literal

Counter = Literal[
    "mail_messages_accepted_total",  # Jobs for which a door said yes, by interface.
    "mail_submissions_refused_total",  # Submissions refused, by interface and error code.
    "mail_accept_ambiguous_total",  # Submissions answered 451/503 although the record may have been written.
    "mail_messages_final_total",  # Units that reached a final state, by outcome.
    "mail_delivery_attempts_total",  # Attempts, by result and provider.
    "mail_replies_unclassified_total",  # Refusals that fitted no rule, by provider.
    "mail_attempts_ambiguous_total",  # Attempts whose reply was never read after the final dot.
    "mail_sink_rows_total",  # Rows written to ClickHouse.
    "mail_dead_letters_total",  # Records buried, by stage.
    "mail_units_controlled_total",  # Units an operator's order met at a courier, by action.
    "mail_returns_total",  # Returned mails read, by what they meant.
    "mail_units_suppressed_total",  # Units dropped because of the suppression list, by reason.
    "mail_scan_waits_total",  # Units that had to wait because a scanner was down, by engine.
]
Histogram = Literal[
    "mail_accept_seconds",  # From the last byte read to the reply, by interface.
    "mail_delivery_attempt_seconds",  # One attempt, by result.
    "mail_archive_commit_seconds",  # One group commit of the archive.
]
Gauge = Literal[
    "mail_consumer_lag_messages",  # Records not yet committed, by group and topic.
    "mail_sink_lag_seconds",  # Age of the oldest event not yet in ClickHouse.
    "mail_smtp_connections",  # Open SMTP connections, by direction.
    "mail_alerts_open",  # Alerts that have begun and not ended, by kind and severity.
    "mail_ip_listed",  # 1: an own address is on a blocklist, by ip and list.
    "mail_units_in_flight",  # Units a stage is working on, by stage.
    "mail_controls_active",  # Operator's orders in force, by action.
]

COUNTERS: dict[Counter, tuple[str, tuple[str, ...]]] = {
    "mail_messages_accepted_total": ("Jobs for which a door said yes", ("interface",)),
    "mail_submissions_refused_total": ("Submissions refused", ("interface", "code")),
    "mail_accept_ambiguous_total": (
        "Submissions refused with 451/503 although the record may have been written",
        ("interface",),
    ),
    "mail_messages_final_total": ("Units that reached a final state", ("outcome",)),
    "mail_delivery_attempts_total": ("Delivery attempts", ("result", "provider")),
    "mail_replies_unclassified_total": ("Refusals that fitted no rule", ("provider",)),
    "mail_attempts_ambiguous_total": ("Attempts whose reply was never read after the final dot", ()),
    "mail_sink_rows_total": ("Rows written to ClickHouse", ("table",)),
    "mail_dead_letters_total": ("Records buried", ("stage",)),
    "mail_units_controlled_total": ("Units that an operator's order met at a courier", ("action",)),
    "mail_returns_total": ("Returned mails read, by what they meant", ("meaning",)),
    "mail_units_suppressed_total": ("Units dropped because of the suppression list", ("reason",)),
    "mail_scan_waits_total": ("Units that waited because a scanner was down", ("engine",)),
}
HISTOGRAMS: dict[Histogram, tuple[str, tuple[str, ...]]] = {
    "mail_accept_seconds": ("From the last byte read to the reply", ("interface",)),
    "mail_delivery_attempt_seconds": ("One delivery attempt", ("result",)),
    "mail_archive_commit_seconds": ("One group commit of the archive", ()),
}
GAUGES: dict[Gauge, tuple[str, tuple[str, ...]]] = {
    "mail_consumer_lag_messages": ("Records not yet committed", ("group", "topic")),
    "mail_sink_lag_seconds": ("Age of the oldest event not yet in ClickHouse", ()),
    "mail_smtp_connections": ("Open SMTP connections", ("direction",)),
    "mail_alerts_open": ("Alerts that have begun and not ended", ("kind", "severity")),
    "mail_ip_listed": ("Whether an own address is on a blocklist", ("ip", "list")),
    "mail_units_in_flight": ("Units a stage is working on", ("stage",)),
    "mail_controls_active": ("Operator's orders in force", ("action",)),
}
