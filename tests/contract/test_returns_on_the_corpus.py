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

from depesche.schemas.identity import new_job_id
from depesche.schemas.records import EventType
from depesche.schemas.return_key import HEADER, Purpose, ReturnKeys
from depesche.streams.mail.arf import read_arf
from depesche.streams.mail.bounce import read
from depesche.streams.mail.dsn import read_dsn
from depesche.streams.mail.letter import read_letter, split_mails
from depesche.streams.mail.returns.meaning import fact_of, read_returned
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


KEYS = ReturnKeys({"1": b"k" * 32})
JOB = new_job_id()


def fact(mail: bytes, recipient: str) -> tuple[str, EventType | None]:
    """The one unit that a mail of the corpus is about, and what it means for it."""
    reading = read_returned(mail, (recipient,), KEYS)
    [unit] = reading.units
    found = fact_of(reading, unit.purpose, "")
    return unit.unit_id, found.type if found else None


def test_at_a_return_path_a_delivery_report_is_a_bounce_if_it_says_that_it_failed() -> None:
    address = f"{KEYS.token(Purpose.BOUNCE, JOB, 0)}@returns.example"
    for row in expectations("dsn"):
        failed = any(recipient["action"] == "failed" for recipient in row["recipients"])
        found = fact((CORPUS / "dsn" / row["file"]).read_bytes(), address)
        assert found == (f"{JOB}.0", EventType.BOUNCED if failed else None), row["file"]


def test_a_feedback_report_about_a_mail_with_our_key_is_a_complaint() -> None:
    line = f"{HEADER}: {KEYS.token(Purpose.HEADER, JOB, 0)}\n".encode()
    for row in expectations("arf"):
        # Into the header of the copy, which is the last one in the mail.
        before, subject, after = (CORPUS / "arf" / row["file"]).read_bytes().rpartition(b"Subject:")
        found = fact(before + line + subject + after, "fbl@returns.example")
        assert found == (f"{JOB}.0", EventType.COMPLAINED), row["file"]
