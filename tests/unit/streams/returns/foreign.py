"""The mails of `foreign_*.toml`: systems for which no rule was written, in their own charset and encoding."""

from __future__ import annotations

import base64
import codecs
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .samples import OURS

_FOLDER = Path(__file__).parent
_CHARSET = re.compile(r'charset="?([\w-]+)', re.IGNORECASE)


@dataclass(frozen=True)
class Foreign:
    """A mail, and (recipient, kind) for each report that is expected; ``None`` where people would not agree."""

    system: str
    mail: bytes
    expected: tuple[tuple[str, str], ...] | None


def _mail(text: str) -> bytes:
    head, _, body = (
        text.lstrip("\n").replace("{OURS}", OURS.replace("gone@example.org", "list@example.com")).partition("\n\n")
    )
    named = _CHARSET.search(head)
    raw = body.encode(named[1] if named and _is_charset(named[1]) else "utf-8")
    whole = "transfer-encoding: base64" in head.lower()
    return head.encode() + b"\n\n" + (base64.encodebytes(raw) if whole else raw)


def _is_charset(name: str) -> bool:
    try:
        return bool(codecs.lookup(name))
    except LookupError:
        return False


def _foreign(entry: dict[str, Any]) -> Foreign:
    expected = None if entry.get("undecided") else tuple((one[0], one[1]) for one in entry["expected"])
    return Foreign(str(entry["system"]), _mail(str(entry["mail"])), expected)


def _load(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / name).read_text(encoding="utf-8"))


FOREIGN = tuple(
    _foreign(entry)
    for name in ("foreign_systems.toml", "foreign_forms.toml", "foreign_layouts.toml")
    for entry in _load(name)["mail"]
)
_WORDS = _load("foreign_words.toml")
REPLIES = tuple((kind, reply) for kind, replies in _WORDS.pop("replies").items() for reply in replies)
WORDS = tuple((kind, words) for kind, all_words in _WORDS.items() for words in all_words)
LIVING = tuple(str(words) for words in _load("foreign_traps.toml")["living"])
"""Replies that speak of unknown, invalid or missing things, none of which is the recipient."""
