"""The suppression list as a file: bad lines by number, repetitions counted, and never a formula."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.analytics.suppressions.desk import Wanted
from depesche.infra.suppression_file import EXPORTED, read, write
from depesche.schemas.errors import SetupError
from depesche.schemas.records import SuppressionReason


def test_a_file_is_read_line_by_line() -> None:
    text = (
        "\ufeffAddress,reason,days,note\r\n"
        "Ada@Example.org,,,\r\n"
        "ada@example.org,complained,,again\r\n"
        "bob@example.org,bounced,45,old\r\n"
        "nonsense,,,\r\n"
        "eve@example.org,wrong,,\r\n"
        "eve@example.org,manual,many,\r\n"
        "'=sum@example.org,unsubscribed,,\r\n"
    )
    found = read(io.StringIO(text, newline=""), note="move")
    assert found.wanted == {
        "ada@example.org": Wanted(note="move"),
        "bob@example.org": Wanted(SuppressionReason.BOUNCED, 45, "old"),
        "=sum@example.org": Wanted(SuppressionReason.UNSUBSCRIBED, note="move"),
    }
    assert found.repeated == 1
    assert [bad.line for bad in found.bad] == [5, 6, 7]
    assert "address" in found.bad[0].why
    assert "wrong" in found.bad[1].why


def test_a_file_without_addresses_is_refused_with_the_fix() -> None:
    with pytest.raises(SetupError, match="address"):
        read(io.StringIO("email\r\nada@example.org\r\n", newline=""))


@given(st.text(), st.sampled_from(("=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "")))
def test_no_cell_of_an_export_is_a_formula(text: str, start: str) -> None:
    row: dict[str, Any] = dict.fromkeys(EXPORTED, start + text)
    out = io.StringIO(newline="")
    assert list(write(out, [row])) == [1]
    _, cells = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
