"""Which alerts a caller may see: a customer those about its own mail, the operator all of them."""

from __future__ import annotations

from typing import Any

from depesche.analytics.log.alerts import Ledger
from depesche.analytics.queries.results import rfc3339
from depesche.analytics.queries.scope import AllTenants, Scope
from depesche.schemas.records import Alert


def visible(ledger: Ledger, scope: Scope, *, since: int = 0, only_open: bool = False) -> list[Alert]:
    """Alerts, the newest first.

    Args:
        ledger: what mail.alerts says.
        scope: who asks.
        since: only what was said at or after this time, in milliseconds since 1970 UTC; open alerts are told in any case.
        only_open: only alerts that have begun and not ended.
    """
    open_ = {alert.alert_id for alert in ledger.open().values()}
    found = [
        alert
        for alert in ledger.alerts
        if (isinstance(scope, AllTenants) or alert.tenant == scope.id)
        and (alert.alert_id in open_ or (not only_open and alert.at >= since))
    ]
    return sorted(found, key=lambda alert: alert.at, reverse=True)


def to_json(alert: Alert) -> dict[str, Any]:
    """An alert as JSON has it."""
    return {
        "alert_id": alert.alert_id,
        "kind": alert.kind.value,
        "severity": alert.severity.value,
        "state": alert.state.value,
        "subject": alert.subject,
        "tenant": alert.tenant,
        "at": rfc3339(alert.at),
        "value": alert.value,
        "limit": alert.limit,
        "explanation": alert.explanation,
        "causes": list(alert.causes),
    }
