"""BACKWARD_TRANSITIVE, judged by Apache Avro: today's readers understand every record that was ever written."""

import copy
import json
from pathlib import Path
from typing import Any

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from depesche.schemas.codec import schema_ids, self_contained

HISTORY = Path(__file__).parents[3] / "schemas" / "avro" / "history"
WRITTEN = sorted(HISTORY.glob("*.avsc"))


def _readable(reader: Any, writer: Any) -> bool:
    checker = ReaderWriterCompatibilityChecker()
    found = checker.get_compatibility(avro.schema.parse(json.dumps(reader)), avro.schema.parse(json.dumps(writer)))
    return found.compatibility is SchemaCompatibilityType.compatible


@pytest.mark.parametrize("file", WRITTEN, ids=lambda file: file.stem)
def test_what_was_ever_written_can_be_read_today(file: Path) -> None:
    name = file.stem.partition(".")[0]
    assert _readable(self_contained(name), json.loads(file.read_text()))


def test_the_history_knows_today_s_schemas() -> None:
    """A changed schema gets a new id and leaves its old text here; an unchanged one is found under its id."""
    for name, id_ in schema_ids().items():
        file = HISTORY / f"{name}.{id_}.avsc"
        assert json.loads(file.read_text()) == self_contained(name), (
            f"{name} has changed: give it a new id and add {file.name}"
        )


@pytest.mark.parametrize("name", ["MailEvent", "Job", "MailUnit"])
def test_a_new_field_without_a_default_would_be_noticed(name: str) -> None:
    changed = copy.deepcopy(self_contained(name))
    changed["fields"].append({"name": "surprise", "type": "string"})
    assert not _readable(changed, self_contained(name))
    changed["fields"][-1]["default"] = ""
    assert _readable(changed, self_contained(name))
