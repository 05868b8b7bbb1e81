"""What is in force for one provider: its shape, and the rules on what it answers. Values; where they come from is `book.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from depesche.schemas.reply_classes import ReplyClass
from depesche.streams.mail.patterns import Pattern

Action = Literal["defer", "bounce", "suspend", "slow"]
TLS = Literal["may", "must"]
_REMEMBERED = 1_024
ACTIONS: tuple[Action, ...] = ("defer", "bounce", "suspend", "slow")


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """One rule on answers: when all that it names fits, its class and its actions hold.

    Attributes:
        name: stable, shown to people and in the log as ``shaping:NAME``.
        origin: file, line and table it comes from.
        any, unless: patterns on the words as ``classify.plain_words`` leaves them; one must be found, none of the other.
        codes, enhanced, steps, classes: what the answer must be; empty: anything.
        reply_class: the class it has then; None: the one it had.
        actions: what follows.
        seconds: how long a suspension or a lower rate lasts.
        factor: what a lower rate is multiplied by.
    """

    name: str
    origin: str
    any: Pattern | None = None
    unless: Pattern | None = None
    codes: frozenset[int] = frozenset()
    enhanced: frozenset[str] = frozenset()
    steps: frozenset[str] = frozenset()
    classes: frozenset[ReplyClass] = frozenset()
    reply_class: ReplyClass | None = None
    actions: frozenset[Action] = frozenset()
    seconds: float = 900.0
    factor: float = 0.5

    def fits(self, step: str, code: int, enhanced: str, words: str, reply_class: ReplyClass) -> bool:
        """Whether the rule speaks of this answer."""
        return (
            (not self.codes or code in self.codes)
            and (not self.steps or step in self.steps)
            and (not self.enhanced or enhanced in self.enhanced or enhanced.partition(".")[2] in self.enhanced)
            and (not self.classes or reply_class in self.classes)
            and (self.any is None or self.any.search(words) is not None)
            and (self.unless is None or self.unless.search(words) is None)
        )


@dataclass(frozen=True, slots=True)
class SuspendRule:
    """Suspend the route for ``seconds`` when ``after`` answers of these classes came within ``within`` seconds."""

    origin: str
    classes: frozenset[ReplyClass]
    after: int
    within: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What is in force for a provider.

    Attributes:
        provider: its name.
        connections: connections at most, over all shards.
        per_minute: attempts a minute at most, over all shards; None: no limit.
        messages_per_connection: transactions after which a connection is closed.
        ladder: rung after each failed attempt; the last one repeats.
        tls: ``must``: nothing goes in plain text.
        shards: routes that the provider's mail is spread over.
        lifetime: seconds after which delivery is given up; None: what the job says.
        answers: rules on answers; the first that fits holds.
        suspends: suspend rules; each counts for itself.
        origins: where each value comes from, by its key in the file.
    """

    provider: str
    connections: int
    per_minute: float | None
    messages_per_connection: int
    ladder: tuple[str, ...]
    tls: TLS = "may"
    shards: int = 1
    lifetime: float | None = None
    answers: tuple[AnswerRule, ...] = ()
    suspends: tuple[SuspendRule, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    def rule_for(self, step: str, code: int, enhanced: str, words: str, reply_class: ReplyClass) -> AnswerRule | None:
        """The first rule that speaks of an answer."""
        return next((rule for rule in self.answers if rule.fits(step, code, enhanced, words, reply_class)), None)
