"""The words by which returned mail is known when it is no standard report: data (`phrases.toml`), compiled when first used."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

from depesche.streams.mail.patterns import Pattern, pattern


@dataclass(frozen=True, slots=True)
class Phrases:
    """One pattern for each list of the file; its comments say what each is for."""

    daemons: Pattern
    subjects: Pattern
    failures: Pattern
    refusals: Pattern
    delays: Pattern
    deliveries: Pattern
    separators: Pattern
    closings: Pattern
    strangers: Pattern
    automatic: Pattern
    introduces_stranger: Pattern
    """A word of ``strangers`` directly in front of an address."""


@cache
def phrases() -> Phrases:
    """The phrases shipped with this version."""
    text = files("depesche.streams.mail.returns").joinpath("phrases.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    joined = {name: "|".join(f"(?:{one})" for one in expressions) for name, expressions in data.items()}
    joined["introduces_stranger"] = rf"(?:{joined['strangers']})\W*(?:address|e-?mail|is|the|at)?\W*$"
    return Phrases(**{one.name: pattern(joined[one.name]) for one in fields(Phrases)})
