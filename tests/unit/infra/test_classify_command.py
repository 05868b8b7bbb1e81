"""The command ``depesche classify``: what it prints, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depesche.infra.cli.main import build

BOUNCE = b"""From: MAILER-DAEMON@mx.example.org
Subject: failure notice

<gone@example.org>:
Remote host said: 550 5.1.1 User unknown\x1b[2J
"""


@pytest.fixture
def bounce(tmp_path: Path) -> Path:
    file = tmp_path / "bounce.eml"
    file.write_bytes(BOUNCE)
    return file


def test_json_is_one_object_for_each_file(bounce: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter.eml"
    letter.write_bytes(b"Subject: hello\n\nDear Ada\n")
    done = CliRunner().invoke(build(), ["classify", "--json", str(bounce), str(letter)])
    first, second = map(json.loads, done.stdout.splitlines())
    assert (done.exit_code, first["file"]) == (0, str(bounce))
    assert first["reports"] == [
        {
            "recipient": "gone@example.org",
            "action": "failed",
            "status": "5.1.1",
            "replycode": "550",
            "class": "recipient_unknown",
            "kind": "hard",
            "suppress": True,
            "rule": "words:recipient-unknown",
            "source": "prose",
        }
    ]
    assert second["reports"] == []


def test_people_read_the_class_what_follows_and_the_rule_and_no_terminal_controls(bounce: Path) -> None:
    done = CliRunner().invoke(build(), ["classify", str(bounce)])
    assert "gone@example.org  failed  550 5.1.1" in done.stdout
    assert "recipient_unknown (hard, suppress): There is no such mailbox." in done.stdout
    assert "by words:recipient-unknown" in done.stdout
    assert "\x1b" not in done.stdout


def test_standard_input_and_several_mails_in_one_file_are_read() -> None:
    mbox = b"From daemon Thu Oct  1\n" + BOUNCE + b"\nFrom daemon Thu Oct  1\n" + BOUNCE.replace(b"gone@", b"else@")
    done = CliRunner().invoke(build(), ["classify", "--json", "-"], input=mbox)
    assert [one["recipient"] for one in json.loads(done.stdout)["reports"]] == ["gone@example.org", "else@example.org"]


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_read(bounce: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(build(), ["classify", "--json", str(tmp_path / "none.eml"), str(bounce)])
    assert done.exit_code == 1
    assert "none.eml" in done.stderr
    assert len(done.stdout.splitlines()) == 1
