"""The words by which returned mail is known when it is no standard report: data (`phrases.toml`), compiled when first used."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

from depesche.streams.mail.folding import fold
from depesche.streams.mail.patterns import Match, pattern


class Words:
    """A pattern on words in any spelling."""

    def __init__(self, expression: str) -> None:
        self._pattern = pattern(fold(expression))

    def search(self, text: str) -> Match | None:
        """The first match in the folded text; its positions are those of the folded text."""
        return self._pattern.search(fold(text))


@dataclass(frozen=True, slots=True)
class Phrases:
    """One pattern for each list of the file; its comments say what each is for."""

    systems: Words
    daemons: Words
    subjects: Words
    topics: Words
    failures: Words
    refusals: Words
    delays: Words
    deliveries: Words
    separators: Words
    closings: Words
    strangers: Words
    automatic: Words
    introduces_stranger: Words
    """A word of ``strangers`` directly in front of an address."""


@cache
def phrases() -> Phrases:
    """The phrases shipped with this version."""
    text = files("depesche.streams.mail.returns").joinpath("phrases.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    joined = {name: "|".join(f"(?:{one})" for one in expressions) for name, expressions in data.items()}
    joined["introduces_stranger"] = rf"(?:{joined['strangers']})\W*(?:address|e-?mail|is|the|at)?\W*$"
    return Phrases(**{one.name: Words(joined[one.name]) for one in fields(Phrases)})
