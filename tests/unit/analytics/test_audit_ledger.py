"""What the audit makes of records must not depend on which of them it reads first; topics are read side by side."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.audit.checks import Auditor
from depesche.analytics.audit.content import ContentIndex
from depesche.analytics.audit.extent import Extent
from depesche.analytics.audit.ledger import Ledger, Options
from depesche.analytics.audit.report import Findings
from depesche.schemas.codec import encode
from depesche.schemas.records import DeadLetter
from depesche.schemas.topics import DEAD, EVENTS, OUTBOUND
from tests.contract.story import Mail

NOW = 1_795_800_000_000
PLACE = {"stage": "deliver", "topic": OUTBOUND.name, "partition": 0, "offset": 0}


def record(value: bytes) -> SimpleNamespace:
    return SimpleNamespace(value=value, key=None, partition=0, offset=0, headers=[], timestamp=NOW)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_buried_unit_is_known_whatever_is_read_first(order: Sequence[int], tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path / "keys")
    mail = Mail(keyring, accepted_at=NOW - 60_000).prepared()
    letter = DeadLetter(**PLACE, occurred_at=NOW, cause="x", explanation="", unit_id=mail.unit_id)
    told = (
        [(EVENTS.name, encode(event)) for event in mail.told],
        [(OUTBOUND.name, encode(mail.unit(1)))],
        [(DEAD.name, encode(letter))],
    )
    extent, findings = Extent(passed={(OUTBOUND.name, 0): 1}), Findings()
    ledger = Ledger(keyring, extent, findings, ContentIndex((), 7, NOW), Options())
    for topic, value in itertools.chain(*(told[number] for number in order)):
        ledger.take(topic, record(value))
    Auditor(extent, findings, frozenset(), NOW).settle(ledger, keep_copies=False)
    assert "stands_nowhere" not in {found.kind for found in findings.all()}
