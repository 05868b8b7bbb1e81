"""What an answer means for the unit: delivered, tried again, or given up; of what kind the reason is, and what else follows.

The first digit decides about the unit (RFC 5321 4.2.1), unless a rule of the shaping file says otherwise: a 5xx that a provider
is known to mean for now, a 4xx that it will never take back. Why is read from words and codes (`classify.py`); "5xx is hard" is
the mistake to avoid: only a recipient or domain that does not exist is hard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from depesche.schemas.reply_classes import CLASS_MEANING, Kind, ReplyClass
from depesche.streams.mail.classify import ReplyRules, default_rules, gist, plain_words
from depesche.streams.mail.shaping.shape import AnswerRule, Shape

Verdict = Literal["delivered", "deferred", "bounced"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer means.

    Attributes:
        verdict: what happens to the unit.
        reply_class: why, one of ``ReplyClass``; empty when delivered.
        kind: ``hard``: this address is dead; ``block``: we are not welcome; ``soft``: anything else; empty when delivered.
        enhanced: the enhanced status code, given or derived.
        rule: what the class was read from, see ``AttemptDetail.rule``; empty when delivered.
        rules_version: version of the reply rules; 0 when delivered.
        shaping: the rule of the shaping file that fitted, if one did.
    """

    verdict: Verdict
    reply_class: str
    kind: str
    enhanced: str
    rule: str = ""
    rules_version: int = 0
    shaping: AnswerRule | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, as far as its meaning depends on it.

    Attributes:
        step: how far the conversation had come, see ``AttemptDetail.step``.
        code: SMTP reply code, 0 for none.
        enhanced: enhanced status code, given by the host or, without a reply code, decided by ourselves; may be empty.
        text: the host's words; without a reply code our own, which are not looked at.
        host: name of the mail host; tells whose words they are.
        tls: how the connection was encrypted, empty for plain text.
        ambiguous: whether the host may have the mail although no reply was read.
    """

    step: str
    code: int = 0
    enhanced: str = ""
    text: str = ""
    host: str = ""
    tls: str = ""
    ambiguous: bool = False


_NO_REPLY: dict[str, ReplyClass] = {
    "": ReplyClass.EXPIRED,
    "dns": ReplyClass.NETWORK,
    "connect": ReplyClass.NETWORK,
    "banner": ReplyClass.NETWORK,
    "ehlo": ReplyClass.NETWORK,
    "starttls": ReplyClass.TLS,
    "mail": ReplyClass.NETWORK,
    "rcpt": ReplyClass.NETWORK,
    "data": ReplyClass.NETWORK,
    "content": ReplyClass.NETWORK,
    "dot": ReplyClass.NETWORK,
}
"""The class where there was no reply, by the step at which there was none."""

_REMEMBERED = 1_024
_NEVER_FOR_GOOD = frozenset({530})
"""Refusals of what we did and not of the mail: "issue STARTTLS first" after TLS had failed."""


def judge(answer: Answered, shape: Shape | None = None, rules: ReplyRules | None = None) -> Judgement:
    """What ``answer`` means.

    Args:
        answer: what the host said and did.
        shape: what is in force for the provider; its rules may change class and verdict.
        rules: what words and codes mean; default: the rules shipped.
    """
    step, code, enhanced = answer.step, answer.code, answer.enhanced
    digit = code // 100 or int(enhanced[:1] or 4)
    if step == "dot" and digit == 2 and not answer.ambiguous:
        return Judgement("delivered", "", "", enhanced or "2.0.0")
    in_force = rules or default_rules()
    found, read_from = _classified(answer, in_force)
    special = _special(answer, shape, found) if shape is not None and shape.answers else None
    for_good = _for_good(answer, digit)
    if special is not None:
        found = special.reply_class or found
        read_from = f"shaping:{special.name}"
        for_good = "bounce" in special.actions or (for_good and "defer" not in special.actions)
    derived = enhanced or ("5.0.0" if for_good else _derived(step))
    verdict: Verdict = "bounced" if for_good else "deferred"
    return Judgement(verdict, found.value, _kind(found), derived, read_from, in_force.version, special)


class Judge:
    """Judges, and remembers: in a storm of refusals the same few answers come again and again.

    Looking at all rules costs half a millisecond, the memory some microseconds (``classify.gist``).
    """

    def __init__(self, rules: ReplyRules | None = None) -> None:
        self._rules = rules or default_rules()
        self._known: dict[str, tuple[Shape | None, dict[tuple[object, ...], Judgement]]] = {}

    def judge(self, answer: Answered, shape: Shape | None) -> Judgement:
        """See the function ``judge``."""
        if answer.step == "dot" and answer.code // 100 == 2:
            return judge(answer, shape, self._rules)
        provider = shape.provider if shape is not None else ""
        known = self._known.get(provider)
        if known is None or known[0] is not shape or len(known[1]) >= _REMEMBERED:
            self._forget(provider)
            known = self._known[provider] = (shape, {})
        key = (answer.step, answer.code, answer.enhanced, gist(answer.text), answer.host, answer.tls, answer.ambiguous)
        judgement = known[1].get(key)
        if judgement is None:
            judgement = known[1][key] = judge(answer, shape, self._rules)
        return judgement

    def _forget(self, provider: str) -> None:
        self._known.pop(provider, None)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()


def _special(answer: Answered, shape: Shape, found: ReplyClass) -> AnswerRule | None:
    """The provider's own rule; only a host that refused can be spoken of, and only when nothing is in doubt."""
    if answer.code < 400 or answer.ambiguous:
        return None
    return shape.rule_for(answer.step, answer.code, answer.enhanced, plain_words(answer.text), found)


def _for_good(answer: Answered, digit: int) -> bool:
    wants_tls = answer.code in _NEVER_FOR_GOOD and not answer.tls
    return digit == 5 and not answer.ambiguous and answer.step != "starttls" and not wants_tls


def _kind(found: ReplyClass) -> str:
    kind = CLASS_MEANING[found].kind
    return "" if kind is Kind.NOT_A_BOUNCE else kind.value


def _classified(answer: Answered, rules: ReplyRules) -> tuple[ReplyClass, str]:
    step, code, enhanced = answer.step, answer.code, answer.enhanced
    if step == "starttls":
        # Whatever the host's words: there was no encryption where it had to be.
        return ReplyClass.TLS, "step:starttls"
    if answer.ambiguous or (code == 0 and enhanced[:1] not in ("4", "5")):
        return _NO_REPLY.get(step, ReplyClass.UNCLASSIFIED), f"step:{step}"
    if 0 < code < 400:
        # Not what belongs at this step, and no refusal either.
        return ReplyClass.UNCLASSIFIED, "none"
    words = answer.text if code else ""
    found = rules.classify(code, enhanced, words, rules.provider_of(answer.host), step)
    return found.reply_class, found.rule


def _derived(step: str) -> str:
    if step == "dns":
        return "4.4.3"
    return "4.4.1" if step in ("connect", "banner") else "4.4.2" if step in _NO_REPLY else "4.0.0"


_QUEUE_ID = (
    re.compile(r"queued (?:mail )?(?:for delivery )?as[: ]+<?([A-Za-z0-9._+-]{4,80})"),
    re.compile(r"\bid=([A-Za-z0-9._-]{4,80})"),
    re.compile(r"\bInternalId=([0-9]{4,30})"),
    re.compile(r"(\S{8,80}) - gsmtp\Z"),
    re.compile(r"\bkept in ([A-Za-z0-9._-]{1,80})"),
)


def queue_id(text: str) -> str:
    """The queue id in the words of an acceptance, as Postfix, Exim, Exchange and Google write it; empty if none is known.

    The words come from strangers: they are cut to 2,000 characters before, and each pattern looks at a character once.
    """
    for pattern in _QUEUE_ID:
        match = pattern.search(text)
        if match:
            return match[1]
    return ""
