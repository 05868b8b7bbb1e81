"""The words of a returned mail: what its writer says, and where the copy of our own mail begins."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from depesche.streams.mail.patterns import pattern
from depesche.streams.mail.returns.phrases import phrases

MAX_LINES: Final = 2_000
"""Lines that are read."""
_MAX_LINE: Final = 1_000

_HEADER = pattern(r"\s*([A-Za-z][A-Za-z0-9-]{1,40})\s?:(?:\s+(.*))?")
_KNOWN: Final = frozenset(
    {
        "from",
        "to",
        "cc",
        "subject",
        "date",
        "sent",
        "message-id",
        "received",
        "return-path",
        "mime-version",
        "reply-to",
        "sender",
    }
    | {
        "content-type",
        "dkim-signature",
        "x-mailer",
        "delivered-to",
        "x-original-to",
        "content-transfer-encoding",
        "references",
    }
)
_TRAVELLED: Final = frozenset(
    {"received", "return-path", "mime-version", "content-type", "dkim-signature", "delivered-to", "x-mailer"}
)
_MBOX = pattern(r"\s*>?From \S+ +(?:mon|tue|wed|thu|fri|sat|sun)\b.*")
_QUOTED = pattern(r"> ?(.*)")
_TRANSCRIPT = pattern(r"\s*>>> .*")


@dataclass(frozen=True, slots=True)
class Prose:
    """A text in its two halves.

    Attributes:
        lines: what the writer says.
        summary: header-like lines among them (``To``, ``Subject`` ...), names in lower case; not in ``lines``.
        returned: what comes after, beginning with the headers of our own mail; empty when none came back.
    """

    lines: tuple[str, ...]
    summary: tuple[tuple[str, str], ...]
    returned: str

    @property
    def text(self) -> str:
        """The writer's words."""
        return "\n".join(self.lines)

    @property
    def sentence(self) -> str:
        """The writer's words on one line, so that a phrase is found wherever its line was broken."""
        return " ".join(self.text.split())


def read_prose(text: str) -> Prose:
    """Part a text into what is said and what came back, also where that is quoted with ``> ``."""
    lines = [line[:_MAX_LINE].rstrip() for line in text.split("\n")[:MAX_LINES]]
    lines = _unquote(lines)
    end = _end(lines)
    said: list[str] = []
    summary: list[tuple[str, str]] = []
    position = 0
    while position < end:
        size, fields = _block(lines, position, end)
        if size and _is_summary(fields):
            summary += fields
            position += size
            continue
        said += lines[position : position + max(size, 1)]
        position += max(size, 1)
    return Prose(tuple(said), tuple(summary), "\n".join(_unquote(lines[end:])).lstrip("\n"))


def _unquote(lines: list[str]) -> list[str]:
    """Take off the ``> `` of a forwarded report; the ``>>> `` of a transcript stays."""
    full = [line for line in lines if line.strip()]
    quoted = [line for line in full if line.startswith(">") and not _TRANSCRIPT.match(line)]
    own = "\n".join(line for line in full if not line.startswith(">"))
    tells_itself = "@" in own and phrases().failures.search(own) is not None
    if len(quoted) * 2 <= len(full) or tells_itself:
        return lines
    return [match[1] if (match := _QUOTED.fullmatch(line)) is not None else line for line in lines]


def _end(lines: list[str]) -> int:
    """The line at which our own mail begins."""
    position, blank, named = 0, True, False
    while position < len(lines):
        line = lines[position]
        if blank and (_MBOX.fullmatch(line) or _is_returned(_block(lines, position, len(lines))[1])):
            return position
        if blank and line.startswith(">") and _is_quoted_mail(lines[position : position + 60]):
            return position
        named = named or "@" in line
        if (
            line.strip()
            and phrases().separators.search(line) is not None
            and (named or _rest_is_ours(lines, position + 1))
        ):
            return position + 1
        blank = not line.strip() or not any(char.isalnum() for char in line) or line.rstrip().endswith(":")
        position += 1
    return len(lines)


def _is_quoted_mail(lines: list[str]) -> bool:
    """Whether quoted lines begin with the headers of a mail."""
    quoted = [
        match[1] for line in takewhile(_QUOTED.fullmatch, lines) if (match := _QUOTED.fullmatch(line)) is not None
    ]
    fields = _block(quoted, 0, len(quoted))[1]
    return {"from", "subject"} <= {name for name, _ in fields} and _is_summary(fields)


def _rest_is_ours(lines: list[str], position: int) -> bool:
    """Whether headers, or nothing that looks like a reply any more, come after a separating line."""
    rest = [line for line in lines[position : position + 12] if line.strip()]
    return not rest or sum(_HEADER.fullmatch(line) is not None for line in rest) * 2 >= len(rest) or len(rest) == 12


def _block(lines: list[str], start: int, end: int) -> tuple[int, list[tuple[str, str]]]:
    """Header lines from here to the next blank line: how many lines, and the fields; none when the first is no header."""
    fields: list[tuple[str, str]] = []
    position = start
    while position < end and lines[position].strip() and position - start < 200:
        match = _HEADER.fullmatch(lines[position])
        if match is not None:
            fields.append((match[1].lower(), (match.group(2) or "").strip()))
        elif not fields or not lines[position].startswith((" ", "\t")):
            break
        position += 1
    return (position - start, fields) if fields else (0, [])


def _is_returned(fields: list[tuple[str, str]]) -> bool:
    names = [name for name, _ in fields]
    known = {name for name in names if name in _KNOWN}
    return len(names) >= 3 and (len(known) >= 3 or names.count("received") >= 2) and bool(known & _TRAVELLED)


def _is_summary(fields: list[tuple[str, str]]) -> bool:
    known = {name for name, _ in fields if name in _KNOWN}
    return len(known) >= 2 and len(known) * 2 >= len({name for name, _ in fields})
