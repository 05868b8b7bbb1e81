"""Named places where a process can be told to die, so that "what if it dies here" is a test case and not luck.

A crash point does nothing unless ``DEPESCHE_CRASHPOINT`` names it as ``NAME`` or ``NAME:N`` (die when it is passed for the
N-th time); then the process kills itself with SIGKILL, as a power cut or the OOM killer would.
"""

from __future__ import annotations

import os
import signal
from functools import cache
from typing import Final

POINTS: Final = {
    "A1": "acceptance: input read and checked, nothing written yet",
    "A2": "acceptance: content durable in the archive, no job record yet",
    "A3": "acceptance: job record handed to the producer, not acknowledged",
    "A4": "acceptance: job record acknowledged, no reply given yet",
    "A5": "acceptance: reply about to be written",
    "A6": "acceptance: reply written",
    "P1": "prepare: job taken, nothing emitted",
    "P2": "prepare: events emitted, units not yet",
    "P3": "prepare: all emitted, offset not committed",
    "D1": "deliver: unit taken, attempt not marked",
    "D2": "deliver: attempt marked as started",
    "D3": "deliver: DATA answered 354, content being written",
    "D4": "deliver: attempt marked as committing, dot not sent",
    "D5": "deliver: dot sent, reply not read",
    "D6": "deliver: 250 read, nothing recorded",
    "D7": "deliver: outcome recorded, offset not committed",
    "R1": "return: content durable in the archive, no record yet",
    "R2": "return: record acknowledged, no reply yet",
    "R3": "returns: report read and its unit found, nothing said",
    "R4": "returns: events acknowledged, offset not committed",
    "L1": "retry: a portion of an order's units brought back, not noted",
    "L2": "retry: a portion brought back and noted, the sweep not done",
    "W1": "monitor: alert decided, not said",
    "W2": "monitor: alert acknowledged, not noted",
    "S1": "sink: batch built, nothing inserted",
    "S2": "sink: batch inserted, offset not recorded",
}
_passed: dict[str, int] = {}


@cache
def _armed() -> str:
    """What the process was told; asked once, because every mail passes a dozen of these points."""
    return os.environ.get("DEPESCHE_CRASHPOINT", "")


def crashpoint(name: str) -> None:
    """Die here if armed for ``name``; else nothing.

    Raises:
        KeyError: the name is not in ``POINTS``, which is a bug of ours (only noticed when armed).
    """
    armed = _armed()
    if not armed:
        return
    wanted, _, nth = armed.partition(":")
    POINTS[wanted]
    if wanted != name:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] >= int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)
