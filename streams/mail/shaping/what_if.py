"""What would have been decided differently: past answers, judged by today's shaping and by a changed one. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from depesche.streams.mail.classify import plain_words
from depesche.streams.mail.reply import Answered, Judge, Judgement
from depesche.streams.mail.shaping.book import ShapingBook

_SAMPLES = 3
_SAMPLE_LENGTH = 160


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of difference.

    Attributes:
        provider: whose answers.
        class_before, class_after: what they were and would be taken for.
        before, after: what was and would be done, as ``bounced`` or ``deferred, suspend``.
    """

    provider: str
    class_before: str
    before: str
    class_after: str
    after: str


class WhatIf:
    """Judges answers twice and counts where the judgements differ."""

    def __init__(self, today: ShapingBook, changed: ShapingBook) -> None:
        self.seen = 0
        self.counts: Counter[Change] = Counter()
        self.samples: dict[Change, list[str]] = {}
        self._today, self._changed = today, changed
        self._judge_today, self._judge_changed = Judge(), Judge()

    def consider(self, provider: str, answer: Answered) -> None:
        """Take in one past answer."""
        self.seen += 1
        before = self._judge_today.judge(answer, self._today.of(provider))
        after = self._judge_changed.judge(answer, self._changed.of(provider))
        change = Change(provider, before.reply_class, done(before), after.reply_class, done(after))
        if (change.class_before, change.before) == (change.class_after, change.after):
            return
        self.counts[change] += 1
        samples = self.samples.setdefault(change, [])
        sample = f"{answer.code} {answer.enhanced} {plain_words(answer.text)[:_SAMPLE_LENGTH]}".strip()
        if len(samples) < _SAMPLES and sample not in samples:
            samples.append(sample)


def done(judgement: Judgement) -> str:
    """What a judgement leads to, in words: the verdict, then actions on the route."""
    actions = judgement.shaping.actions if judgement.shaping is not None else frozenset()
    return ", ".join([judgement.verdict, *sorted(actions & {"suspend", "slow"})])
