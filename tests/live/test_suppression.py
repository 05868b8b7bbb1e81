"""Somebody who is not there gets one mail: the second is dropped with its reason, and after lifting the third goes out."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import Stack
from tests.live.mailer import a_mail, logged_in
from tests.live.test_first_ten_minutes import eventually, rows

pytestmark = pytest.mark.live


def listed(stack: Stack, address: str) -> list[dict[str, Any]]:
    return [row for row in rows(stack, "suppression", "list") if row["address"] == address]


def by_smtp(stack: Stack, address: str, subject: str) -> None:
    with logged_in(stack.settings, stack.demo) as client:
        client.send_message(a_mail(address, subject))


def by_rest(stack: Stack, address: str) -> dict[str, Any]:
    body = {"from": "hello@shop.test", "to": [address], "subject": "Hello", "text": "t"}
    answer = stack.rest(body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def test_the_second_mail_is_dropped_and_after_lifting_the_third_goes_out(stack: Stack) -> None:
    address = f"hardbounce+{time.time_ns()}@sandbox.test"
    by_smtp(stack, address, "first")
    [first] = eventually(lambda: rows(stack, "search", f'to:"{address}"', "status:bounced"))
    [entry] = eventually(lambda: listed(stack, address))
    assert (entry["reason"], entry["reply_class"]) == ("bounced", "recipient_unknown")

    by_smtp(stack, address, "second")
    [second] = eventually(lambda: rows(stack, "search", f'to:"{address}"', "subject:second", "status:dropped"))
    assert second["reason"] == "previously_bounced"
    [story] = rows(stack, "show", second["unit_id"])
    [dropped] = [event for event in story["events"] if event["type"] == "dropped"]
    assert dropped["finding"].startswith('ts="')
    assert "550 5.1.1 No such user here" in dropped["finding"]
    [refused] = [unit["refused"] for unit in by_rest(stack, address)["units"]]
    assert refused["code"] == "previously_bounced"

    [answer] = rows(stack, "suppression", "why", address)
    assert not answer["would_be_sent"]
    assert answer["suppression"]["evidence"][0]["unit_id"] == first["unit_id"]
    lifted = stack.depesche("suppression", "remove", address, "--note", "a new mailbox")
    assert lifted.returncode == 0, lifted.stderr
    [answer] = rows(stack, "suppression", "why", address)
    assert answer["would_be_sent"]
    by_smtp(stack, address, "third")
    [third] = eventually(lambda: rows(stack, "search", f'to:"{address}"', "subject:third", "status:bounced"))
    assert third["attempts"] == 1


def test_a_list_is_imported_exported_and_replayed(stack: Stack, tmp_path: Path) -> None:
    given, out = tmp_path / "given.csv", tmp_path / "out.csv"
    mark = time.time_ns()
    lines = [f"i{number}-{mark}@sandbox.test,complained,0,old system" for number in range(50)]
    given.write_text("\n".join(["address,reason,days,note", *lines, lines[0], "nonsense,,,"]) + "\n")
    asked = stack.depesche("suppression", "import", str(given), "--yes", "--json")
    assert asked.returncode == 1, asked.stderr
    told = json.loads(asked.stdout)
    assert (told["suppressed"], told["repeated"], [bad["line"] for bad in told["bad_lines"]]) == (50, 1, [53])
    [refused] = [unit["refused"] for unit in by_rest(stack, f"i7-{mark}@sandbox.test")["units"]]
    assert refused["code"] == "suppressed"
    assert stack.depesche("suppression", "export", str(out)).returncode == 0
    assert out.read_text().count(f"-{mark}@sandbox.test") == 50
    replayed = stack.depesche("replay", "suppression", "--verify", "--json")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    summary = json.loads(replayed.stdout.splitlines()[-1])
    assert summary["compared"] >= 50
    assert summary["different"] == 0
    audit = stack.depesche("audit", "--json")
    assert audit.returncode == 0, audit.stdout
