"""Returned mail that nobody here wrote: bounces, delivery reports and complaints of many systems, with what they say.

The corpus is not in this repository. It is looked for beside the checkout, in ``../shared/corpus``; where it is not there, these
tests say so and prove nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from depesche.streams.mail.arf import read_arf
from depesche.streams.mail.bounce import read
from depesche.streams.mail.dsn import read_dsn
from depesche.streams.mail.letter import read_letter, split_mails
from depesche.streams.mail.returns.report import Report

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus"

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not (CORPUS / "bounce").is_dir(), reason="the corpus is not beside this checkout"),
]


def reports_of(path: Path) -> list[Report]:
    return [report for mail in split_mails(path.read_bytes()) for report in read(mail)]


def bounces() -> Iterator[dict[str, Any]]:
    for line in (CORPUS / "bounce" / "expectations.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if (CORPUS / "bounce" / "emails" / row["file"]).is_file():
            yield row


def about(reports: list[Report], recipient: str) -> Report | None:
    same = [one for one in reports if one.recipient.lower() == recipient.lower()]
    return same[0] if same else reports[0] if len(reports) == 1 else None


def test_recipients_and_kinds_are_found_and_almost_nobody_is_suppressed_wrongly() -> None:
    counts: Counter[str] = Counter()
    misses: list[str] = []
    for row in bounces():
        reports = reports_of(CORPUS / "bounce" / "emails" / row["file"])
        for fact in row.get("facts", ()):
            found = about(reports, fact["recipient"] or "")
            if fact["recipient"]:
                counts["recipients"] += 1
                counts["found"] += found is not None and found.recipient.lower() == fact["recipient"].lower()
            if fact["kind"] == "undecided":
                continue
            counts["kinds"] += 1
            right = found is not None and found.verdict.kind == fact["kind"]
            counts["right"] += right
            if fact["kind"] not in ("hard", "complaint"):
                counts["to be kept"] += 1
                counts["suppressed"] += found is not None and found.verdict.suppress
            if not right:
                misses.append(f"{row['file']}: {fact['kind']}, not {found and found.verdict}")
    assert counts["kinds"] > 0
    assert counts["found"] / counts["recipients"] >= 0.95, misses
    assert counts["right"] / counts["kinds"] >= 0.95, misses
    assert counts["suppressed"] / counts["to be kept"] <= 0.01, misses


def test_the_same_mail_reads_alike_in_every_line_end() -> None:
    twins = [row for row in bounces() if row.get("same_message_as")]
    assert twins
    for row in twins:
        folder = CORPUS / "bounce" / "emails"
        this, other = (reports_of(folder / name) for name in (row["file"], row["same_message_as"]))
        assert [(one.recipient, one.action, one.verdict) for one in this] == [
            (one.recipient, one.action, one.verdict) for one in other
        ], row["file"]


def expectations(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((CORPUS / name / "expectations.json").read_text(encoding="utf-8"))
    return found


def test_delivery_reports_give_every_field() -> None:
    for row in expectations("dsn"):
        report = read_dsn(read_letter((CORPUS / "dsn" / row["file"]).read_bytes()))
        assert report is not None
        assert report.reporting_mta == row["reporting_mta"]
        for found, wanted in zip(report.recipients, row["recipients"], strict=True):
            assert {name: getattr(found, name) or None for name in wanted} == wanted


def test_feedback_reports_give_every_field() -> None:
    for row in expectations("arf"):
        feedback = read_arf(read_letter((CORPUS / "arf" / row["file"]).read_bytes()))
        assert feedback is not None
        extra: dict[str, list[str]] = {}
        for name, value in feedback.extra:
            extra.setdefault(name, []).append(value)
        arrival = feedback.arrival.strftime("%Y-%m-%dT%H:%M:%SZ") if feedback.arrival else ""
        for name, wanted in row.items():
            if name in ("file", "note"):
                continue
            found = {"extra": extra, "arrival": arrival}.get(name) or getattr(feedback, name)
            assert (list(found) if isinstance(found, tuple) else found) == wanted, (row["file"], name)
