"""Finding our own key in whatever came back: the only thing that says which of our mails a report is about.

First the address that the report was sent to, because nobody between us and the reporter writes there. Then our header line in
the copy that came back. Then anywhere: in a masked return path, in a mail quoted as text, in base64, in a link. A key counts only
if it opens; so where it was found decides nothing but which one is meant where there are several.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from depesche.schemas.return_key import HEADER, PATTERN, Purpose, ReturnKeys
from depesche.streams.mail.dsn import RETURNED_TYPES, headers_of
from depesche.streams.mail.letter import Part, decode, html_text
from depesche.streams.mail.patterns import pattern

MAX_UNITS: Final = 100
"""Units that one mail may be about."""
_MAX_CANDIDATES: Final = 1_000
_MAX_DEPTH: Final = 8
_KEY = pattern(rf"\b({PATTERN})\b")
_HEADER: Final = HEADER.lower()
_IN_A_COPY: Final = (Purpose.HEADER, Purpose.BOUNCE)


@dataclass(frozen=True, slots=True)
class Found:
    """A unit that a returned mail is about, and the purpose of the key that names it."""

    unit_id: str
    purpose: Purpose


def find_units(letter: Part, recipients: Sequence[str], keys: ReturnKeys) -> tuple[Found, ...]:
    """The units that a returned mail is about, each once; empty when no key of ours is in it.

    Args:
        letter: the mail.
        recipients: the envelope recipients that it came to.
        keys: read the keys.
    """
    addressed = [
        Found(unit, purpose)
        for address in recipients
        for purpose in (Purpose.BOUNCE, Purpose.UNSUBSCRIBE)
        if (unit := keys.unit(purpose, address.rpartition("@")[0])) is not None
    ]
    return _distinct(addressed or _opened(_lines(letter), keys) or _opened(_everything(letter), keys))


def _lines(letter: Part) -> Iterator[str]:
    """The values of our header line in the copies that came back as parts of their own."""
    for part in letter.walk():
        if part.type in RETURNED_TYPES:
            headers = part.parts[0].headers if part.parts else headers_of(part.text)
            yield from (value for name, value in headers if name == _HEADER)


def _everything(part: Part, depth: int = 0) -> Iterator[str]:
    """All that can be read in a mail: headers unfolded, contents decoded, mails within it as well."""
    yield "\n".join(value for _, value in part.headers)
    if part.parts and depth < _MAX_DEPTH:
        for inner in part.parts:
            yield from _everything(inner, depth + 1)
    elif not part.parts:
        text = decode(part.content, part.parameter("charset"))
        yield text
        if part.type == "text/html":
            # An address may be cut up by markup, or stand in a link that is not shown.
            yield html_text(text)


def _opened(texts: Iterable[str], keys: ReturnKeys) -> list[Found]:
    found: list[Found] = []
    tried: set[str] = set()
    for text in texts:
        for match in _KEY.finditer(text.lower()):
            token = match[1]
            if token in tried:
                continue
            tried.add(token)
            found += [Found(unit, purpose) for purpose in _IN_A_COPY if (unit := keys.unit(purpose, token)) is not None]
            if len(tried) >= _MAX_CANDIDATES or len(found) >= MAX_UNITS:
                return found
    return found


def _distinct(found: Iterable[Found]) -> tuple[Found, ...]:
    return tuple({one.unit_id: one for one in reversed(list(found))}.values())[::-1][:MAX_UNITS]
