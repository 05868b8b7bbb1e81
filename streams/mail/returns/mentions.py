"""Whom a returned mail is about, and the lines that say why: reading what was written for people.

Hardly two mail systems write alike, but nearly all put the failed address at the beginning of a line, behind a label, in a
transcript of the SMTP conversation or into a sentence about failure. Each way of mentioning has a strength; the strongest one
found counts, so that an address in a footer is not taken while a better one stands above it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from depesche.streams.mail.patterns import Match, pattern
from depesche.streams.mail.returns.addresses import ADDRESS, find_addresses
from depesche.streams.mail.returns.phrases import phrases
from depesche.streams.mail.returns.prose import Prose

MAX_RECIPIENTS: Final = 100
"""Recipients of one text that are read."""
_MAX_LINES: Final = 15
_OFFICES: Final = frozenset(
    {"postmaster", "mailer-daemon", "abuse", "hostmaster", "webmaster", "noc", "support", "helpdesk", "help"}
)
_BEFORE: Final = 5
_WORDS_OF_A_SENTENCE: Final = 3

_MARKER = pattern(
    r"""[\s>*•·|=#–—~-]*(?:\d+[.)] )?([^<>@"\n]{0,80}?[\s:;(\['>*=-])??(?:\[?smtp[:=]|mailto:|rfc822[;:]\s*|<|\(|'|\[|")*"""
    rf"""({ADDRESS})[>\])"'*]*(.*)"""
)
_COMMAND = pattern(rf"""(?:>>>|<<<|sent|->|command:?|c:)?.*\brcpt to ?: ?<?({ADDRESS})>?.*""")
_CODE_LINE = pattern(r"[\s<>:|#-]*[45]\d\d[ -]")
_RULE_LINE = pattern(r"[^\pL\pN]{4,}(?:.{0,60}[^\pL\pN]{4,})?")
_LABEL_END = pattern(
    r"(?:[:=]|\bto|\bfor|\brecipients?|\baddress(?:es)?|\busers?|\bmailbox|\bmail|\baccount)\s*[<(\['\"]*\s*$"
)
_TAIL = pattern(
    r"\s*$|\s*[:;,(\[.!=→-].*|\s+(?:on |was |is |has |could |cannot |does |not |rejected |failed |unknown |[A-Z(\[\d<]).*"
)
_SENTENCE_END = pattern(r".*[:.;,!?)>\]=*_~#|-]\s*$")
_NEXT = pattern(
    rf"""[>)\]"']*\s*(?:[,;]|,?\s+(?:and|und|et|y|e|en|och|og|i|a|ja|ve|и|および|和|및))\s*[<(\["']*({ADDRESS})"""
)
_DERIVED = pattern(r"(?:generated|expanded|forwarded|derived) (?:from|by|to)|original(?:ly)? (?:addressed|sent) to")
_ALONE = pattern(rf"""\s*(?:<{ADDRESS}>|"{ADDRESS}"|'{ADDRESS}')\W*""")
_WROTE = pattern(r"\s*(?:wrote|schrieb|a écrit|escribió|said)\b.*")


class Strength:
    """How surely an address is a failed recipient, from its place in the text."""

    MARKER = 40
    COMMAND = 30
    CODE_LINE = 30
    SENTENCE = 20
    SUMMARY = 15
    ANYWHERE = 10


@dataclass(frozen=True, slots=True)
class Mention:
    """An address in a text and what stands around it.

    Attributes:
        address: as written.
        strength: see `Strength`.
        after: the lines that belong to it, beginning with its own.
        before: the lines in front of it; some systems give the reason first.
    """

    address: str
    strength: int
    after: str
    before: str


def find_mentions(prose: Prose, own: Collection[str]) -> tuple[Mention, ...]:
    """The failed recipients that a text names, in order, each once.

    Args:
        prose: the text.
        own: addresses in lower case that belong to the returned mail itself; taken only when there is no other.
    """
    found = [*_lines(prose.lines), *_sentences(prose.lines), *_summary(prose)]
    others = [one for one in found if one.address.lower() not in own and not _is_office(one.address)]
    found = others or [one for one in found if not _is_office(one.address)] or found
    strongest = max((one.strength for one in found), default=0)
    if strongest <= Strength.ANYWHERE and len({one.address.lower() for one in found}) > 1:
        # Several addresses and no hint which of them it is about: saying nothing is better than naming the wrong one.
        return ()
    kept: dict[str, Mention] = {}
    for one in found:
        if one.strength == strongest:
            known = kept.get(one.address.lower())
            kept[one.address.lower()] = one if known is None else _joined(known, one)
    return tuple(kept.values())[:MAX_RECIPIENTS]


def _lines(lines: tuple[str, ...]) -> Iterator[Mention]:
    """Mentions by the line they stand in."""
    marks = [_mark(lines, index) for index in range(len(lines))]
    for index, mark in enumerate(marks):
        if mark is None:
            continue
        address, strength = mark
        rest = [lines[index].strip()]
        for following in range(index + 1, min(index + 1 + _MAX_LINES, len(lines))):
            other = marks[following]
            if other is not None and other[1] >= strength and other[0].lower() != address.lower():
                rest = _without_heading(rest)
                break
            line = lines[following]
            if _RULE_LINE.fullmatch(line.strip()) is not None and any(rest[1:]):
                break
            if phrases().closings.search(line) is not None:
                break
            rest.append(line.strip())
        # Only where nothing is said behind the address may the reason stand in front of it.
        before = [] if any(rest[1:]) else _before(lines, marks, index)
        said = ("\n".join(rest).rstrip(), "\n".join(before))
        yield Mention(address, strength, *said)
        if strength == Strength.MARKER:
            for beside in _listed_with(address, lines[index]):
                yield Mention(beside, strength, *said)


def _without_heading(rest: list[str]) -> list[str]:
    """Lines of a mention without the one that is the heading of the next (``Over quota:``)."""
    while len(rest) > 1 and not rest[-1]:
        rest = rest[:-1]
    return rest[:-1] if len(rest) > 1 and rest[-1].endswith(":") and "@" not in rest[-1] else rest


def _listed_with(address: str, line: str) -> Iterator[str]:
    """Addresses that stand in one list with a marked one: ``a@x, b@y and c@z``."""
    rest = line.partition(address)[2]
    while (match := _NEXT.match(rest)) is not None:
        yield match[1]
        rest = rest[match.end() :]


def _before(lines: tuple[str, ...], marks: list[tuple[str, int] | None], index: int) -> list[str]:
    """The lines in front of a mention, back to the mention before it."""
    start = index
    while start > 0 and marks[start - 1] is None and index - start < _BEFORE:
        start -= 1
    return [line.strip() for line in lines[start:index] if line.strip()]


def _mark(lines: tuple[str, ...], index: int) -> tuple[str, int] | None:
    """The address a line is about and how surely; None when it is about none."""
    line = lines[index]
    if "@" not in line:
        return None
    command = _COMMAND.fullmatch(line.strip())
    if command is not None:
        return command[1], Strength.COMMAND
    match = _MARKER.fullmatch(line)
    if match is None:
        return None
    if _CODE_LINE.match(line):
        return match[2], Strength.CODE_LINE
    return _labelled(match) if match.group(1) and match[1].strip() else _unlabelled(lines, index, match)


def _labelled(match: Match) -> tuple[str, int] | None:
    label = match[1].strip()
    if _DERIVED.search(label) is not None:
        return match[2], Strength.SENTENCE
    if phrases().strangers.search(label) is not None:
        return None
    if label.strip(": ").lower() in ("to", "an", "para", "a", "à"):
        return match[2], Strength.SUMMARY
    return (match[2], Strength.MARKER) if _LABEL_END.search(match[1]) else None


def _unlabelled(lines: tuple[str, ...], index: int, match: Match) -> tuple[str, int] | None:
    if _WROTE.fullmatch(match[3]) or not (_TAIL.fullmatch(match[3]) or ">" in lines[index]):
        return None
    before = next((line.strip() for line in reversed(lines[max(0, index - 4) : index]) if line.strip()), "")
    apart = not lines[index - 1].strip()
    if apart and (len(before.split()) < _WORDS_OF_A_SENTENCE or _CODE_LINE.match(before) is not None):
        # A heading, a reply, or the cell of a table, and not a sentence that goes on below the blank line.
        before = ""
    # An address that begins a line only because a sentence was broken there is not a mark.
    broken = (
        before
        and _ALONE.fullmatch(lines[index]) is None
        and not _SENTENCE_END.fullmatch(before)
        and next(find_addresses(before), "") == ""
    )
    return None if broken and phrases().failures.search(before) is None else (match[2], Strength.MARKER)


def _sentences(lines: tuple[str, ...]) -> Iterator[Mention]:
    """Mentions in sentences about failure, and anywhere at all."""
    for paragraph in _paragraphs(lines):
        failed = phrases().failures.search(paragraph) is not None
        for address in find_addresses(paragraph):
            head = paragraph[max(0, paragraph.find(address) - 40) : paragraph.find(address)]
            if phrases().introduces_stranger.search(head) is not None:
                continue
            yield Mention(address, Strength.SENTENCE if failed else Strength.ANYWHERE, paragraph, "")


def _paragraphs(lines: tuple[str, ...]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in (*lines, ""):
        if line.strip():
            paragraph.append(line.strip())
        elif paragraph:
            yield " ".join(paragraph)[:4_000]
            paragraph = []


def _summary(prose: Prose) -> Iterator[Mention]:
    for name, value in prose.summary:
        if name == "to":
            for address in find_addresses(value):
                yield Mention(address, Strength.SUMMARY, "", "")


def _is_office(address: str) -> bool:
    """Whether an address belongs to an office such as postmaster@, which is asked for help in every second bounce."""
    return address.rpartition("@")[0].lower() in _OFFICES


def _joined(one: Mention, other: Mention) -> Mention:
    return Mention(one.address, one.strength, f"{one.after}\n{other.after}"[:4_000], one.before)
