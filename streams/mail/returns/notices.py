"""Notices of another sending service about our mail: JSON in a mail (Amazon SES through SNS).

They reach us where a customer sends through such a service with our address as return path, or moves from it to us.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from depesche.schemas.reply_classes import CLASS_MEANING, ReplyClass
from depesche.streams.mail.patterns import pattern
from depesche.streams.mail.returns.addresses import bare_address
from depesche.streams.mail.returns.replies import read_reply
from depesche.streams.mail.returns.report import Action, Reply, Report, Returned, Source, verdict
from depesche.streams.mail.returns.weighing import weigh

MAX_RECIPIENTS: Final = 100
"""Recipients of one notice that are read."""
_KIND = pattern(r'"(?:notification|event)Type"\s*:')
_BROKEN_LINE = pattern(r"!\n[ \t]?")


def is_notice(text: str) -> bool:
    """Whether a text is a notice, whole or broken."""
    return _KIND.search(text) is not None


def read_notice(text: str) -> tuple[Report, ...]:
    """The reports in a notice; none when the text is none.

    Its form: the Amazon SES developer guide, "Amazon SNS notification contents".
    """
    if _KIND.search(text) is None:
        return ()
    # A mail host that breaks long lines marks the place with an exclamation mark (sendmail).
    text = _BROKEN_LINE.sub("", text)
    try:
        notice = orjson.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        return ()
    return tuple(_reports(notice))[:MAX_RECIPIENTS] if isinstance(notice, dict) else ()


def _reports(notice: dict[str, Any]) -> Iterator[Report]:
    mail = _dict(notice, "mail")
    returned = Returned(tuple(_headers(mail)), bare_address(_text(mail, "source")))
    bounce = _dict(notice, "bounce")
    for one in _list(bounce, "bouncedRecipients"):
        action = (
            Action.DELAYED if _text(bounce, "bounceType") == "Transient" and not _text(one, "status") else Action.FAILED
        )
        answer = read_reply(_text(one, "diagnosticCode").partition(";")[2].strip(), enhanced=_text(one, "status"))
        weighed = weigh([answer], [], [_text(bounce, "bounceSubType")], action)
        yield Report(_address(one), action, weighed.reply, weighed.verdict, Source.NOTICE, returned=returned)
    complaint = _dict(notice, "complaint")
    for one in _list(complaint, "complainedRecipients"):
        kind = _text(complaint, "complaintFeedbackType") or "abuse"
        found = ReplyClass.NOT_SPAM if kind == "not-spam" else ReplyClass.COMPLAINT
        said = verdict(found, CLASS_MEANING[found].kind, f"feedback:{kind}", suppress=kind == "abuse")
        action = Action.COMPLAINED if found is ReplyClass.COMPLAINT else Action.NOTED
        yield Report(_address(one), action, Reply(), said, Source.NOTICE, "", kind, returned)
    delivery = _dict(notice, "delivery")
    recipients = delivery.get("recipients")
    for address in recipients if isinstance(recipients, list) else ():
        weighed = weigh([read_reply(_text(delivery, "smtpResponse"))], [], [], Action.DELIVERED)
        yield Report(
            bare_address(str(address)),
            Action.DELIVERED,
            weighed.reply,
            weighed.verdict,
            Source.NOTICE,
            returned=returned,
        )


def _headers(mail: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for header in _list(mail, "headers"):
        yield _text(header, "name").lower(), _text(header, "value")


def _address(recipient: dict[str, Any]) -> str:
    return bare_address(_text(recipient, "emailAddress"))


def _dict(thing: dict[str, Any], name: str) -> dict[str, Any]:
    found = thing.get(name)
    return found if isinstance(found, dict) else {}


def _list(thing: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = thing.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(thing: dict[str, Any], name: str) -> str:
    found = thing.get(name)
    return found if isinstance(found, str) else ""
