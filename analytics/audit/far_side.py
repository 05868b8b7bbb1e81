"""The log held against what really arrived: the ground truth that the sandbox's far side writes (invariant I4, for the lab).

The far side knows nothing of our units; a mail is recognised by its Message-ID and recipient.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from depesche.analytics.audit.checks import Books
from depesche.analytics.audit.ledger import Side
from depesche.analytics.audit.report import Findings

Identity = tuple[str, str]
"""Message id without angle brackets, and recipient in lower case."""


@dataclass(slots=True)
class _Expected:
    """Units with one identity: which must be there, and how many copies ambiguous attempts may explain."""

    units: list[str]
    delivered: int = 0
    ambiguous: int = 0


def arrivals(path: Path) -> Iterator[dict[str, Any]]:
    """The mails in a ground-truth log, one JSON object per line; a line that is being written is left out.

    Raises:
        OSError: it cannot be read. A missing log would otherwise look like a far side that got nothing.
        ValueError: a whole line is no JSON.
    """
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield orjson.loads(line)


def compare(path: Path, books: Books, side: Side, findings: Findings, started: int) -> None:
    """Note every mail that the far side lacks, has too often, or has from nowhere.

    Copies count when the far side kept them, whatever it said: a reply that was lost is what makes an attempt ambiguous.
    What arrived after ``started`` (milliseconds) may be newer than what was read of the log; it is not held against it.
    """
    expected: defaultdict[Identity, _Expected] = defaultdict(lambda: _Expected([]))
    for unit, identity in side.recipients.items():
        must, ambiguous = books.copies.get(unit, (False, 0))
        one = expected[identity]
        one.units.append(unit)
        one.delivered += must
        one.ambiguous += ambiguous
    there: Counter[Identity] = Counter()
    early: Counter[Identity] = Counter()
    for arrival in arrivals(path):
        if arrival["kept"]:
            message = str(arrival["message_id"]).removeprefix("<").removesuffix(">")
            identities = [(message, str(recipient).lower()) for recipient in arrival["recipients"]]
            there.update(identities)
            if arrival["time"] * 1000 < started:
                early.update(identities)
    for identity, one in expected.items():
        if there[identity] < one.delivered:
            findings.add("far_side_missing", one.units[0], one.delivered - there[identity])
        extra = early[identity] - one.delivered - one.ambiguous
        if extra > 0 and one.delivered + one.ambiguous:
            findings.add("far_side_extra_copies", one.units[0], extra)
        elif extra > 0:
            findings.add("far_side_unknown", f"{one.units[0]} was not delivered, but is there", extra)
    for identity, count in early.items():
        if identity not in expected:
            # The recipient is somebody's address; the message id is ours.
            findings.add("far_side_unknown", f"message {identity[0]}", count)
