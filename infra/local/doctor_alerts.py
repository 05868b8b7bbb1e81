"""What the doctor repeats of the monitor: alerts that have begun and not ended."""

from __future__ import annotations

from depesche.analytics.log.alerts import read_ledger
from depesche.infra.local.doctor import Case, Finding, ok, warn
from depesche.schemas.records import AlertKind

_FIXES = {
    AlertKind.HARD_BOUNCE_RATE: "Look at `depesche search status:bounced`, and ask the customer where the addresses come from.",
    AlertKind.COMPLAINT_RATE: "Ask the customer who agreed to this mail; `depesche alerts --open --json` names the events.",
    AlertKind.LISTED: "Find the cause, then ask the list to be taken off; the reason names its page.",
    AlertKind.LIST_UNUSABLE: "Take it out of dnsbl.zones, or ask it through a resolver of your own (dnsbl.servers).",
}
_MOST = 10


async def alerts(case: Case) -> list[Finding]:
    """Every open alert, the oldest first."""
    if not case.log_expected:
        return []
    open_ = list((await read_ledger(case.settings)).open().values())
    found = [
        warn(alert.explanation, _FIXES.get(alert.kind, "See `depesche alerts --open`.")) for alert in open_[:_MOST]
    ]
    if len(open_) > _MOST:
        found.append(warn(f"And {len(open_) - _MOST} more open alerts.", "depesche alerts --open"))
    return found or [ok("No alert is open.")]
