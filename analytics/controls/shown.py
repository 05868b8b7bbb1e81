"""An order as people and programs see it, the same in the command and in the REST interface."""

from __future__ import annotations

from typing import Any

from depesche.analytics.controls.orders import Order, described
from depesche.analytics.queries.results import rfc3339
from depesche.schemas.records import ControlAction, ControlState


def row_of(order: Order, now: int) -> dict[str, Any]:
    """An order as data; ``now`` in milliseconds since 1970 UTC."""
    control, scope = order.control, order.control.scope
    return {
        "id": control.control_id,
        "action": control.action.value,
        "about": described(scope),
        "scope": {
            "customer": scope.tenant,
            "account": scope.account,
            "campaign": scope.campaign_id,
            "provider": scope.provider,
            "domain": scope.recipient_domain,
            "sender_domain": scope.sender_domain,
            "pool": scope.pool,
        },
        "to_pool": control.target_pool,
        "state": state_of(order, now),
        "at": rfc3339(control.at),
        "until": rfc3339(control.until) if control.until is not None else None,
        "by": control.by,
        "reason": control.reason,
        "changed_at": rfc3339(control.changed_at),
        "changed_by": control.changed_by,
    }


def state_of(order: Order, now: int) -> str:
    """``holds``, ``lifted``, ``over`` when its time was up, or ``done`` of one to retry."""
    if order.holds(now):
        return "holds"
    if order.control.action is ControlAction.RETRY:
        return "done"
    return "lifted" if order.control.state is ControlState.LIFTED else "over"
