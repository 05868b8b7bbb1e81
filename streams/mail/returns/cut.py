"""Mail that was cut on its way: what its end seems to say may not be what was meant.

"550 5.1.1 Mailbox" may have gone on with "is full", "not found," with "try again", and ``ada@example.or`` with a ``g``. Nobody
can see in a plain text that it was cut; so a code, half a sentence or an address at the very end of a mail is no ground to give
an address up. A whole report goes on: with its words, with a delimiter, with the mail that came back.
"""

from __future__ import annotations

from typing import Final

from depesche.streams.mail.letter import one_line_end
from depesche.streams.mail.patterns import pattern
from depesche.streams.mail.returns.report import Report, Source

_LAST: Final = 16
"""Letters and digits by which two endings are compared; blanks and line ends differ from form to form."""
_TAIL: Final = 400
_GOES_ON = pattern(r"[,;(][^,;().]{0,30}$")
"""The middle of a sentence. Words that are none have been said; of a mere code there is no telling."""
_IN_DOMAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-._")


def ends_within(mail: bytes, report: Report) -> bool:
    """Whether a mail ends in what a report rests on, as far as can be seen: its reply or its recipient."""
    if report.source not in (Source.DSN, Source.PROSE):
        return False
    end = mail[-_TAIL:].decode("utf-8", "replace").rstrip()
    if _only_at_the_end(mail, report.recipient):
        return True
    if report.verdict.rule.startswith("words:") and _GOES_ON.search(end) is None:
        return False
    tail, reply = _core(end), _core(report.reply.text)
    return bool(reply) and tail.endswith(reply)


def without_last_line(mail: bytes) -> bytes:
    """A mail up to its last line."""
    text = mail.rstrip()
    return text[: max(text.rfind(b"\n"), text.rfind(b"\r")) + 1]


def is_open(mail: bytes, report: Report) -> bool:
    """Whether a mail that has delimiters ends within a report's fields: nothing closes them, no delimiter and no blank line."""
    text = one_line_end(mail).rstrip().lower()
    if report.source is not Source.DSN or b"boundary" not in text:
        return False
    fields = max(text.rfind(b"final-recipient"), text.rfind(b"original-recipient"))
    rest = text[fields:].split(b"\n")
    return fields >= 0 and not any(not line.strip() or line.lstrip().startswith(b"--") for line in rest)


def _only_at_the_end(mail: bytes, address: str) -> bool:
    """Whether an address ends where the mail ends, and stands nowhere else with something behind it."""
    wanted, text = address.lower().encode("utf-8", "replace"), mail.rstrip(b" \t\r\n.").lower()
    if not text.endswith(wanted):
        return False
    start = text.find(wanted)
    while 0 <= start < len(text) - len(wanted):
        if text[start + len(wanted)] not in _IN_DOMAIN:
            return False
        start = text.find(wanted, start + 1)
    return True


def _core(text: str) -> str:
    return "".join(char for char in text[-_TAIL:].lower() if char.isalnum())[-_LAST:]
