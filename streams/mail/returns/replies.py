"""Replies of mail hosts inside other text: the code, the enhanced code, the command they answered and the host that spoke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from depesche.streams.mail.patterns import pattern
from depesche.streams.mail.returns.report import Reply

MAX_REPLY: Final = 2_000
"""Characters of a reply that are kept."""

_ENHANCED = pattern(r"(?:^|[\s(#\[:\"'<=-])([245]\.\d{1,3}\.\d{1,3})(?:$|[\s)\]:;,\"'>/-]|\.(?:\s|$))")
_CODE = pattern(r"(?:^|[\s(\[:;\"'<=#])([45][0-7]\d)(?:$|[\s-]|[).:;,\]]\s|[-\s]?#?[245]\.\d\.)")
_LEADING = pattern(r"\s*\(?#?([245][0-7]\d)(?:$|[\s:;,.-])")
_SPOKEN = pattern(
    r"(?s)(?:\bsaid:?|\bresponded(?: as follows| with)?:?|\breplied:?|\breturned(?: was)?:?|\breason:|\bresponse(?: was)?:"
    r"|\berror was:|\btalk to me:|\bfailed with:?|\banswered:?|\bserver(?: said| message)?:|<<<|\bfollowing error:?|\bmessage:"
    r"|\bgot:|\bstatus:|\bdid not like our [^\n:]{1,60}:|\berror code ?:?|\breceived >>>|->|#)"
    r"\s*\[?\s*\"?#?([245]\d\d(?:[\s-]|$).*)"
)
_HOST = pattern(
    r"\bhost\s+([\pL\pN.-]+\.[\pL\pN-]+)\s*[\[(]|while talking to ([\pL\pN.-]+?)\.?:?(?:\s|$)"
    r"|\bhost:?\s+([\pL\pN-]+\.[\pL\pN.-]+)|(?:^|\s)([\pL\pN-]+\.[\pL\pN.-]+\pL) ?[\[(]\d"
    r"|\bserver ([\pL\pN-]+\.[\pL\pN.-]+\pL)"
)
_PHASES: Final = tuple(
    (phase, pattern("|".join(said)))
    for phase, said in (
        (
            "dot",
            (
                r"end of (?:data|message)",
                r"\[data_?(?:end|dot)\]",
                "did not like our final data",
                "after i sent the message",
            ),
        ),
        (
            "rcpt",
            (
                r"\brcpt[ _]?to\b",
                r"\[rcpt\]",
                "rcpt command",
                r"smtp:rcpt\b",
                "not like recipient",
                "recipient was rejected",
            ),
        ),
        (
            "mail",
            (r"\bmail from ?(?:command|:|<)", r"\bmail from\b.{0,20}command", r"\[mail[ _]?from\]", r"smtp:mail\b"),
        ),
        ("mail", ("does not like sender", "sender was rejected")),
        ("data", (r"\bdata command", "text command", "pipelined data", r"smtp:data\b", ">>> data")),
        (
            "ehlo",
            (
                r"\b(?:helo|ehlo) (?:command|handshake)",
                "after (?:helo|ehlo)",
                ">>> (?:helo|ehlo)",
                "my name was rejected",
            ),
        ),
        ("starttls", ("starttls command", "tls handshake")),
        ("banner", ("refused to talk to me", "initial (?:connection|greeting)", "greeting failed")),
        ("connect", ("connect to ", "connect(?:ion)? (?:refused|timed)", "(?:could not|unable to) connect")),
    )
)
"""The commands a text can say were refused, the later ones first: a transcript holds the earlier ones too."""

_QUOTED_REPLY = pattern(r"\berror ([245]\d\d[- ]+'.*)'")
"""IronPort puts the far host's reply in quotes behind a name of its own ("Unknown address error") for the code."""


def read_reply(text: str, *, enhanced: str = "", host: str = "", phase: str = "") -> Reply:
    """A reply from text that is one, such as a Diagnostic-Code.

    Args:
        text: the words, with the codes somewhere in them.
        enhanced: what the report itself gives as status; the reply's own, more telling code comes before it.
        host: what the report itself gives as the far side.
        phase: the command it answered, as far as the words around it tell.
    """
    whole = text[: 4 * MAX_REPLY]
    quoted = _QUOTED_REPLY.search(whole)
    if quoted is not None:
        text = quoted[1].replace("'", " ", 1)
    elif _LEADING.match(whole) is None:
        # "host x said: 550 no": the words are what the host said, not that it is a host that said it.
        text = spoken(whole) or text
    own = best_enhanced(text)
    if own and not (own.endswith(".0.0") and enhanced and not enhanced.endswith(".0.0")):
        enhanced = own
    return Reply(
        find_code(text), enhanced, text[:MAX_REPLY].strip(), find_phase(whole) or phase, host or find_host(whole)
    )


def spoken(text: str) -> str:
    """The words a far host is quoted with inside other words ("host x said: 550 ..."); empty when none is quoted."""
    match = _SPOKEN.search(text[: 8 * MAX_REPLY])
    return match[1].partition("\n\n")[0][:MAX_REPLY].strip() if match is not None else ""


def find_code(text: str) -> int:
    """The reply code in a text, 0 when there is none. One in front counts before one in the middle."""
    head = text[:MAX_REPLY]
    match = _LEADING.match(head) or _CODE.search(head)
    return int(match[1]) if match is not None else 0


def best_enhanced(text: str) -> str:
    """The enhanced status code in a text, empty when there is none; one with a detail counts before ``x.0.0``."""
    found = [match[1] for match in _ENHANCED.finditer(text[:MAX_REPLY])][:8]
    return next((code for code in found if not code.endswith(".0.0")), found[0] if found else "")


def holds_code(text: str) -> bool:
    """Whether a refusal stands in a text: an enhanced status code, or a reply code that begins a line or what is quoted."""
    lines = text[: 4 * MAX_REPLY].split("\n")
    return bool(best_enhanced(text)) or any(_LEADING.match(line) or spoken(line) for line in lines if line.strip())


def find_phase(text: str) -> str:
    """Which command the text says was refused, empty when it does not say."""
    head = text[:MAX_REPLY]
    return next((phase for phase, said in _PHASES if said.search(head)), "")


def find_host(text: str) -> str:
    """The host the text quotes, empty when it names none."""
    match = _HOST.search(text[:MAX_REPLY])
    return (
        next((name for name in (match.group(1, 2, 3, 4, 5)) if name), "").rstrip(".").lower()
        if match is not None
        else ""
    )


@dataclass(frozen=True, slots=True)
class Evidence:
    """A piece of text that may say why.

    Attributes:
        reply: the text read as a reply.
        trusted: whether it is the answer itself and not prose about it, which may list what *could* be wrong.
    """

    reply: Reply
    trusted: bool
