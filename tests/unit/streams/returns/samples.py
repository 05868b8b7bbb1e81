"""The bounces of `samples.toml`, as mails."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

GONE = "gone@example.org"
FULL = "full@example.org"
OURS = """Received: from relay.example.net (relay.example.net [192.0.2.7])
\tby mx.example.org with ESMTP id 4711 for <gone@example.org>; Thu, 1 Oct 2026 10:00:00 +0200
Return-Path: <b-4711@bounce.example.com>
From: Shop <shop@example.com>
To: gone@example.org
Subject: Your order
Message-ID: <4711@example.com>
MIME-Version: 1.0

Thank you for your order. Contact us at service@example.com.
"""
"""Our own mail as it comes back."""


@dataclass(frozen=True)
class Sample:
    """One bounce: its family, headers and text, and (recipient, class, action) for each report that is expected."""

    family: str
    headers: str
    text: str
    expected: tuple[tuple[str, str, str], ...]

    @property
    def mail(self) -> bytes:
        return f"{self.headers}\n\n{self.text}".encode()


def _sample(entry: dict[str, object]) -> Sample:
    named = {"From": entry["from"], "To": "b-4711@bounce.example.com", "Subject": entry["subject"]}
    if "x-failed-recipients" in entry:
        named["X-Failed-Recipients"] = entry["x-failed-recipients"]
    expected = entry["expected"]
    assert isinstance(expected, list)
    return Sample(
        family=str(entry["family"]),
        headers="\n".join(f"{name}: {value}" for name, value in named.items()),
        text=str(entry["text"]).replace("{OURS}", OURS),
        expected=tuple((str(one[0]), str(one[1]), str(one[2])) for one in expected),
    )


SAMPLES = tuple(
    map(_sample, tomllib.loads(Path(__file__).with_name("samples.toml").read_text(encoding="utf-8"))["bounce"])
)
