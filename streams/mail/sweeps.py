"""What orders want from the ladder: which units go back before their time, and whether they are tried then. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from depesche.schemas.records import Control, ControlAction, ControlScope, ControlState

SETTLE_MS = 3_000
"""How long after an order couriers may still put units on the ladder that have not heard of it."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is to be brought back because of an order.

    Attributes:
        name: control id and what of it is carried out; done once per partition.
        scope: which units.
        at: when it was ordered, in milliseconds since 1970 UTC; a unit that is put on the ladder long after is not meant.
        offset: of the order in mail.controls; a courier that gets a unit back must have read it.
        at_once: whether units whose time has not come are tried now; not so where they only go back to be dropped.
    """

    name: str
    scope: ControlScope
    at: int
    offset: int
    at_once: bool

    @property
    def settled_at(self) -> int:
        """When every unit that is meant stands on the ladder."""
        return self.at + SETTLE_MS


def sweep_of(control: Control, offset: int, now: int) -> Sweep | None:
    """What an order wants from the ladder at ``now``; None: nothing.

    An order to drop wants its units at once, so that they end. One to retry wants them tried. One to suspend wants them back when
    it ends, whether it was lifted or its time was up.

    Args:
        control: the order.
        offset: of its record in mail.controls.
        now: milliseconds since 1970 UTC.
    """
    id_, scope, until = control.control_id, control.scope, control.until
    ended = until is not None and now >= until
    if control.action is ControlAction.RETRY:
        return Sweep(f"{id_}/given", scope, control.at, offset, at_once=True)
    if control.action is ControlAction.DROP and control.state is ControlState.ACTIVE and not ended:
        return Sweep(f"{id_}/given", scope, control.at, offset, at_once=False)
    if control.action is ControlAction.SUSPEND and control.state is ControlState.LIFTED:
        return Sweep(f"{id_}/ended", scope, control.changed_at, offset, at_once=True)
    if control.action is ControlAction.SUSPEND and until is not None and ended:
        return Sweep(f"{id_}/ended", scope, until, offset, at_once=True)
    return None
