"""Mail addresses as strangers write them: in brackets, with a type in front, with a comment behind, in quotes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from depesche.streams.mail.patterns import Match, pattern

_NEVER: Final = r"""\s<>()\[\],;:"@\\、。「」『』【】《》〈〉“”„‘’«»‹›"""
ADDRESS: Final = (
    rf"""(?:"(?:[^"\\\n]|\\.)+"|[^.{_NEVER}][^{_NEVER}]*)"""
    r"""@(?:[\pL\pN_][\pL\pN_-]*(?:\.[\pL\pN_-]+)*|\[[\d.a-f:]+\])"""
)
"""RE2 for one address; the local part is as free as RFC 5321 4.1.2 and people make it."""
_FIND = pattern(ADDRESS)
_WHOLE = pattern(rf"(?:{ADDRESS})")
_TYPED = pattern(r"(?:\w[\w-]{0,20}|utf-8)\s*;\s*(.*)")
_ESCAPED = pattern(r"\\x\{([0-9a-fA-F]{1,6})\}")
_EAST = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー]"
_STUCK = pattern(rf"({_EAST}?)([a-z0-9][a-z0-9._%+=-]{{0,63}}@[a-z0-9.-]{{1,250}}\.[a-z]{{2,24}})({_EAST}?)")
_MASKED = pattern(
    r"redact|\bx{4,}|\*{3,}|\bremoved\b|undisclosed|not[ -]?available|hidden|anonymi[sz]ed|masked|suppressed"
)


def find_addresses(text: str) -> Iterator[str]:
    """All addresses in a text, in order, as written."""
    for match in _FIND.finditer(text):
        yield match[0].rstrip(".'")


def set_apart(text: str) -> str:
    """Prose with blanks around addresses that stand in Chinese, Japanese or Korean words, where no blank parts words.

    An address whose local part mixes both scripts is cut; it is asked for only where people are told something, never in fields.
    """
    return text if text.isascii() or "@" not in text else _STUCK.sub(_parted, text)


def is_address(text: str) -> bool:
    """Whether the whole text is one address."""
    return _WHOLE.fullmatch(text) is not None


def bare_address(value: str) -> str:
    """The address in a field such as ``rfc822; <ada@example.org> (comment)``; empty when there is none.

    The types of RFC 3464 2.1.2 and RFC 6533 are taken off, and ``\\x{...}`` of ``utf-8`` addresses is undone.
    """
    value = value.strip()
    typed = _TYPED.fullmatch(value)
    if typed is not None:
        utf8 = value.lower().startswith("utf-8")
        value = typed[1].strip()
        if utf8:
            value = _ESCAPED.sub(lambda match: _character(match[1]), value)
    if value.startswith("<") and ">" in value:
        value = value[1 : value.index(">")]
    if is_address(value):
        return value
    return next(find_addresses(value), "")


def is_masked(address: str) -> bool:
    """Whether a reporter has put something else in the place of the address."""
    return not address or _MASKED.search(address) is not None


def same_address(one: str, other: str) -> bool:
    """Whether two spellings are the same address for the purpose of matching lines of one report."""
    return one.strip("<> ").lower() == other.strip("<> ").lower()


def _parted(match: Match) -> str:
    return f"{match[1]}{' ' if match[1] else ''}{match[2]}{' ' if match[3] else ''}{match[3]}"


def _character(digits: str) -> str:
    number = int(digits, 16)
    return chr(number) if 0x20 < number < 0x110000 and not 0xD800 <= number < 0xE000 else ""
