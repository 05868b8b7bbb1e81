"""From the words of a mail host to a class and a kind, by rules that are data (`reply_rules.toml`).

Words come first, because they are what the far side really says; then the enhanced status code (RFC 3463), the reply code
(RFC 5321 4.2.2), and what was refused (the command). "5xx is hard" appears nowhere: hard are only the classes that say that an
address is dead, and what fits nothing is ``unclassified`` and counted.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final

from depesche.schemas.errors import SetupError
from depesche.schemas.reply_classes import CLASS_MEANING, HARD_CLASSES, Kind, ReplyClass
from depesche.streams.mail.folding import fold
from depesche.streams.mail.patterns import Match, Pattern, pattern

MAX_WORDS: Final = 2_048
"""Characters that are looked at; what a host says beyond them is not read."""
# The domain without an upper bound: RE2 would unroll it, which took a fifth of a second of every start; the text is bounded.
_ADDRESS = pattern(r"""<?(?:"[^"]{0,64}"|[^\s<>()\[\],;:"'@]{1,128})@[\pL\pN-]+(?:\.[\pL\pN-]+)*>?|<>""")
_URL = pattern(r"\b(?:https?|ftp)://([\w.-]{1,255})(?::\d{1,5})?[^\s>)\]]*")
_REPEATED_CODE = pattern(r"(?:^|\s)([245]\d\d)[ -]+(?:#?[245]\.\d{1,3}\.\d{1,3}(?:\s+|:|$))?")
_BARE_CODE = pattern(r"(^|\s)\(?#?[245]\.\d{1,3}\.\d{1,3}\)?(\s|:|$)")
_ENHANCED = pattern(r"([245])\.(\d{1,3})\.(\d{1,3})")
_BEFORE_THE_RECIPIENT: Final = frozenset({"banner", "ehlo", "starttls", "mail"})
"""Steps at which no host has heard the recipient's name, so that its words cannot be about the recipient."""
_TAKEN, _REFUSED_FOR_GOOD = 2, 5
_ID_LENGTH = 12
_DIGITS = frozenset("0123456789")


class Basis(IntEnum):
    """What a class was read from, the stronger the larger."""

    NONE = 0
    PHASE = 1
    CODE = 2
    GENERAL = 3
    """An enhanced code whose detail is 0 ("other or undefined")."""
    VAGUE = 4
    """Words that say little, such as "try again later" or "not permitted"."""
    ENHANCED = 5
    WORDS = 6


@dataclass(frozen=True, slots=True)
class Classified:
    """The verdict on one answer.

    Attributes:
        reply_class: why.
        kind: what follows.
        rule: what it was read from, as ``words:mailbox-full``, ``enhanced:5.1.1``, ``code:552``, ``phase:mail`` or ``none``.
        suppress: whether this answer alone shows the address to be dead: a hard class, said in clear words or by a telling
            enhanced code, and not as a temporary matter.
        basis: how firm the reading is.
    """

    reply_class: ReplyClass
    kind: Kind
    rule: str
    suppress: bool
    basis: Basis = Basis.NONE


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule on words; see the head of `reply_rules.toml`."""

    name: str
    reply_class: ReplyClass
    any: tuple[Pattern, ...]
    unless: Pattern | None
    vague: bool
    provider: str
    only: Mapping[str, frozenset[str]]

    def matches(self, words: str, situation: Mapping[str, str]) -> bool:
        """Whether this rule speaks of these words in this situation (``code``, ``enhanced``, ``phase``)."""
        if self.provider and situation["provider"] != self.provider:
            return False
        if any(situation[what] not in wanted for what, wanted in self.only.items()):
            return False
        if not any(one.search(words) for one in self.any):
            return False
        return self.unless is None or self.unless.search(words) is None


class ReplyRules:
    """A version of the rules. Immutable, so it may be shared; reading a new file makes a new one."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        """Take rules as parsed from TOML.

        Raises:
            SetupError: a class or pattern is not valid; says which rule.
        """
        self.version = int(data["version"])
        self.rules = tuple(_rule(entry) for entry in data["rule"])
        self._enhanced = {code: ReplyClass(name) for code, name in data["enhanced"].items()}
        self._code = {int(code): ReplyClass(name) for code, name in data["code"].items()}
        self._phase = {phase: ReplyClass(name) for phase, name in data["phase"].items()}
        self._provider = tuple((str(name), tuple(map(str, hosts))) for name, hosts in data["provider"].items())

    def provider_of(self, host: str) -> str:
        """The provider whose words a host speaks; empty when none is known."""
        name = host.rstrip(".").lower()
        for provider, endings in self._provider:
            if any(name == ending or name.endswith("." + ending) for ending in endings):
                return provider
        return ""

    def classify(self, code: int, enhanced: str, text: str, provider: str = "", phase: str = "") -> Classified:
        """Class of an answer; see the module's `classify`."""
        words = "" if code // 100 == _TAKEN else fold(plain_words(text))
        situation = {"provider": provider, "code": str(code), "enhanced": enhanced, "phase": phase}
        by_code = self._by_code(code, enhanced, phase)
        for rule in self.rules if words else ():
            if rule.matches(words, situation) and not (
                phase in _BEFORE_THE_RECIPIENT and rule.reply_class in HARD_CLASSES
            ):
                if rule.vague and by_code.basis >= Basis.ENHANCED:
                    return by_code
                basis = Basis.VAGUE if rule.vague else Basis.WORDS
                return _verdict(rule.reply_class, f"words:{rule.name}", basis, code, enhanced)
        return by_code

    def _by_code(self, code: int, enhanced: str, phase: str) -> Classified:
        if code // 100 == _TAKEN or (not code and enhanced.startswith("2.")):
            return _verdict(
                ReplyClass.DELIVERED, f"code:{code}" if code else f"enhanced:{enhanced}", Basis.CODE, code, enhanced
            )
        match = _ENHANCED.fullmatch(enhanced)
        if match is not None:
            full, name = f"{match[1]}.{match[2]}.{match[3]}", f"{match[2]}.{match[3]}"
            found = self._enhanced.get(full) or self._enhanced.get(name)
            if found is not None:
                basis = Basis.GENERAL if match[3] == "0" else Basis.ENHANCED
                return _verdict(found, f"enhanced:{full}", basis, code, enhanced)
        if code in self._code:
            return _verdict(self._code[code], f"code:{code}", Basis.CODE, code, enhanced)
        if code // 100 == _REFUSED_FOR_GOOD and phase in self._phase:
            return _verdict(self._phase[phase], f"phase:{phase}", Basis.PHASE, code, enhanced)
        return _verdict(ReplyClass.UNCLASSIFIED, "none", Basis.NONE, code, enhanced)


@cache
def default_rules() -> ReplyRules:
    """The rules shipped with this version."""
    text = files("depesche.streams.mail").joinpath("reply_rules.toml").read_text(encoding="utf-8")
    return ReplyRules(tomllib.loads(text))


def classify(code: int, enhanced: str, text: str, provider: str = "", phase: str = "") -> Classified:
    """Class of one answer of a mail host, by the rules shipped with this version.

    Args:
        code: reply code, 0 where there is none.
        enhanced: enhanced status code such as ``5.1.1``, empty where there is none.
        text: the words, with or without the codes in front; at most `MAX_WORDS` characters are read.
        provider: whose words they are (`ReplyRules.provider_of`), empty when unknown.
        phase: where the conversation stood: dns, connect, banner, ehlo, starttls, mail, rcpt, data, dot; empty when unknown.
    """
    return default_rules().classify(code, enhanced, text, provider, phase)


def plain_words(text: str) -> str:
    """Words as the rules see them: addresses as ``<>``, URLs as their host, one blank between words, no codes, bounded."""
    text = text[:MAX_WORDS].replace("\u2019", "'")
    # A substitution costs a tenth of a millisecond also where there is nothing to substitute.
    text = _URL.sub(r"\1", text) if "://" in text else text
    text = _ADDRESS.sub("<>", text) if "@" in text or "<>" in text else text
    text = " ".join(text.split())
    last = ""

    def between(match: Match) -> str:
        # The same code again is one reply of several lines; another code is another reply, and its words are another sentence.
        nonlocal last
        before, last = last, match[1]
        return " " if before in ("", match[1]) else "; "

    return " ".join(_BARE_CODE.sub(" ", _REPEATED_CODE.sub(between, text)).split())


def gist(text: str) -> str:
    """Words without what differs from mail to mail: two answers with one gist have one meaning.

    Addresses become ``<>``, and what is at least twelve characters long and holds a digit (queue ids, times, IP addresses) ``#``:
    no rule looks at those. Costs some microseconds, where looking at all rules costs half a millisecond.
    """
    return " ".join(map(_gist_of_word, text[:MAX_WORDS].split()))


def _gist_of_word(word: str) -> str:
    if "@" in word:
        return _ADDRESS.sub("<>", word)
    return "#" if len(word) >= _ID_LENGTH and "://" not in word and not _DIGITS.isdisjoint(word) else word


def _verdict(found: ReplyClass, rule: str, basis: Basis, code: int, enhanced: str) -> Classified:
    kind = CLASS_MEANING[found].kind
    # A temporary refusal is the far side's own doubt: a directory that was down has said "user unknown" more than once.
    temporary = code // 100 == 4 or (not code and enhanced.startswith("4."))
    firm = basis >= Basis.ENHANCED
    return Classified(found, kind, rule, kind is Kind.HARD and firm and not temporary, basis)


def _rule(entry: Mapping[str, Any]) -> Rule:
    try:
        unless = "|".join(f"(?:{one})" for one in entry.get("not", ()))
        return Rule(
            name=entry["name"],
            reply_class=ReplyClass(entry["class"]),
            any=tuple(_joined(entry["any"])),
            unless=pattern(fold(unless)) if unless else None,
            vague=bool(entry.get("vague", False)),
            provider=entry.get("provider", ""),
            only={what: frozenset(map(str, entry[what])) for what in ("code", "enhanced", "phase") if what in entry},
        )
    except (KeyError, ValueError) as fault:
        name = entry.get("name", "?")
        raise SetupError(f"reply rule {name!r} is not valid: {fault}", fix="correct it or take the rule out") from fault


def _joined(expressions: Iterable[str]) -> Iterable[Pattern]:
    """One pattern for many alternatives: RE2 looks for all of them in one pass."""
    yield pattern(fold("|".join(f"(?:{one})" for one in expressions)))
