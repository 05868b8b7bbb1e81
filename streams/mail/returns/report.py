"""What a returned mail says about one recipient: the one shape that every reader of returns gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from depesche.schemas.reply_classes import Kind, ReplyClass
from depesche.streams.mail.classify import Basis, Classified


class Action(StrEnum):
    """What happened to the mail for this recipient: the words of RFC 3464 2.3.3 and four of our own."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    REPLIED = "replied"
    NOTED = "noted"
    """Something was reported that asks for nothing, such as a DMARC failure report or "this is not spam"."""


class Source(StrEnum):
    """Which reader understood the mail."""

    DSN = "dsn"
    ARF = "arf"
    PROSE = "prose"
    AUTO_REPLY = "auto_reply"
    UNSUBSCRIBE = "unsubscribe"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer that is reported.

    Attributes:
        code: reply code, 0 where none was given.
        enhanced: enhanced status code, empty where none was given.
        text: the words as they stood there, at most a few thousand characters; a stranger's, never to be shown unescaped.
        phase: the command that was refused (mail, rcpt, data, dot ...), empty when unknown.
        host: whose answer it is, empty when unknown.
    """

    code: int = 0
    enhanced: str = ""
    text: str = ""
    phase: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Returned:
    """What came back of our own mail: its headers, in which our key is found when every address was masked.

    Attributes:
        headers: names in lower case and values, in order; empty when nothing came back.
        mail_from: the envelope sender as reported (VERP: holds our key), without angle brackets.
    """

    headers: tuple[tuple[str, str], ...] = ()
    mail_from: str = ""

    def get(self, name: str) -> str:
        """The first value of a header, empty when there is none."""
        return next((value for header, value in self.headers if header == name), "")


@dataclass(frozen=True, slots=True)
class Report:
    """What one returned mail says about one recipient.

    Attributes:
        recipient: as the reporter names it; empty when it was masked or not said.
        action: what happened.
        reply: the answer behind it.
        verdict: class and kind of that answer.
        source: which reader understood the mail.
        original_recipient: what the reporter says we addressed (Original-Recipient), where it differs.
        feedback_type: of a feedback report (RFC 5965 7.3), else empty.
        returned: what came back of our mail.
    """

    recipient: str
    action: Action
    reply: Reply
    verdict: Classified
    source: Source
    original_recipient: str = ""
    feedback_type: str = ""
    returned: Returned = field(default_factory=Returned)


def verdict(reply_class: ReplyClass, kind: Kind, rule: str, *, suppress: bool = False) -> Classified:
    """A verdict that does not come from words but from the form of the report."""
    return Classified(reply_class, kind, rule, suppress, Basis.WORDS)
