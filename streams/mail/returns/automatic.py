"""Automatic answers (RFC 3834): out of office, "we have received your mail". They say nothing about the address."""

from __future__ import annotations

from typing import Final

from depesche.schemas.reply_classes import Kind, ReplyClass
from depesche.streams.mail.letter import Part, decode_words
from depesche.streams.mail.returns.addresses import bare_address
from depesche.streams.mail.returns.phrases import phrases
from depesche.streams.mail.returns.report import Action, Reply, Report, Source, verdict

_ANSWER_HEADERS: Final = (
    "x-autoreply",
    "x-autorespond",
    "x-autoresponder",
    "x-auto-reply-from",
    "x-autoreply-from",
    "x-vacation",
)
_ANSWER_PRECEDENCE: Final = frozenset({"auto_reply", "auto-reply", "autoreply"})


def answers_by_itself(letter: Part) -> str:
    """By what a mail is known as an automatic answer, as ``subject`` or the header's name; empty when it is none."""
    if letter.get("auto-submitted").strip().lower().startswith(("auto-replied", "auto-generated", "vacation")):
        return "auto-submitted"
    for name in _ANSWER_HEADERS:
        if letter.get(name).strip().lower() not in ("", "no", "none"):
            return name
    if letter.get("precedence").strip().lower() in _ANSWER_PRECEDENCE:
        return "precedence"
    if (
        "autoresponder" in letter.get("x-post-messageclass").lower()
        or "autoresponder" in letter.get("delivered-to").lower()
    ):
        return "autoresponder"
    return "subject" if phrases().automatic.search(decode_words(letter.get("subject"))) is not None else ""


def automatic_answer(letter: Part) -> tuple[Report, ...]:
    """The report of an automatic answer: it comes from the recipient, and nothing follows from it."""
    known_by = answers_by_itself(letter)
    if not known_by:
        return ()
    sender = bare_address(letter.get("from")) or bare_address(letter.get("return-path"))
    said = verdict(ReplyClass.AUTO_REPLY, Kind.NOT_A_BOUNCE, f"automatic:{known_by}")
    return (Report(sender, Action.REPLIED, Reply(), said, Source.AUTO_REPLY),)
