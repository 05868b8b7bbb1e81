"""Which commands belong together in `depesche --help`: by what somebody wants to do, the newcomer's first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

SECTIONS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("Start, stop, look after it", ("up", "down", "status", "doctor", "config")),
    ("A mail: send it, find it, tell its story", ("send", "inbox", "search", "show", "tail", "audit")),
    ("Delivery: what waits, how fast, which way", ("queue", "control", "shaping", "pace", "pool", "tls")),
    (
        "Reputation: what the world answers, and what follows",
        ("rates", "alerts", "suppression", "classify", "dnsbl", "replay"),
    ),
    ("Who may send", ("customer", "account", "domain", "key")),
)
"""Titles and commands; the services have a section of their own."""
SERVICES: Final = "Run parts in processes of their own"


def sections(commands: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Title and commands of each section, for the commands that there are; what no section names comes last."""
    left = list(commands)
    for title, names in SECTIONS:
        present = tuple(name for name in names if name in left)
        left = [name for name in left if name not in names]
        if present:
            yield title, present
    if left:
        yield SERVICES, tuple(left)
