"""A returned mail with all that its readers look at, and the reports that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from depesche.streams.mail.dsn import (
    RECEIPT_TYPE,
    STATUS_TYPES,
    DeliveryReport,
    RecipientStatus,
    headers_of,
    human_text,
    returned_headers,
)
from depesche.streams.mail.letter import Part, decode_words
from depesche.streams.mail.returns.addresses import bare_address, find_addresses
from depesche.streams.mail.returns.mentions import Mention, Strength, find_mentions
from depesche.streams.mail.returns.phrases import phrases
from depesche.streams.mail.returns.prose import Prose, read_prose
from depesche.streams.mail.returns.replies import holds_code, read_reply
from depesche.streams.mail.returns.report import Action, Reply, Report, Returned, Source
from depesche.streams.mail.returns.weighing import quoted_replies, weigh, what_happened

_OWN_HEADERS: Final = ("from", "to", "cc", "reply-to", "sender", "errors-to", "return-path")
_ANY_FORM: Final = ("application/octet-stream", "application/text", "text/x-", "text/delivery")
"""Types under which the fields of a report travel when a gateway does not know theirs."""
_RECIPIENT_HEADERS: Final = ("x-failed-recipients", "x-original-to", "delivered-to", "to")


@dataclass(frozen=True)
class Case:
    """One returned mail.

    Attributes:
        letter: the mail.
        words: its text for people.
    """

    letter: Part
    words: str

    @classmethod
    def of(cls, letter: Part) -> Case:
        """The case of a mail."""
        return cls(letter, human_text(letter))

    @cached_property
    def prose(self) -> Prose:
        """What is said, parted from what came back."""
        return read_prose(self.words)

    @cached_property
    def subject(self) -> str:
        """The subject, decoded."""
        return decode_words(self.letter.get("subject"))

    @cached_property
    def from_daemon(self) -> bool:
        """Whether a mail system sent it, by its From."""
        sender = decode_words(self.letter.get("from")).strip()
        return sender in ("", "<>") or phrases().daemons.search(sender) is not None

    @cached_property
    def is_bounce(self) -> bool:
        """Whether it tells of a delivery at all; an automatic answer or an ordinary letter does not."""
        if self.letter.get("x-failed-recipients") or self.has_status:
            return True
        if self.letter.type == "multipart/report" and "delivery" in self.letter.parameter("report-type").lower():
            return True
        known, text = phrases(), self.prose.sentence
        by_subject = known.subjects.search(self.subject) is not None
        by_words = known.failures.search(text) is not None
        if not self.from_daemon:
            return by_subject and by_words
        return by_subject or by_words or known.delays.search(text) is not None or self.has_form

    @cached_property
    def has_form(self) -> bool:
        """Whether it is a bounce by its form alone, in a language that nobody here knows.

        A mail system sent it; it is about delivering, or says whom it is about, or nobody may answer it, or our mail or a reply
        code is in it; and it is no automatic answer.
        """
        known = phrases()
        sender = decode_words(self.letter.get("from")).strip()
        if known.systems.search(sender) is None or known.automatic.search(self.subject) is not None:
            return False
        unanswerable = self.letter.get("return-path").strip() == "<>"
        about_delivery = known.topics.search(self.subject) is not None or holds_code(self.prose.text)
        return unanswerable or about_delivery or bool(self.returned.headers) or bool(self.recipients)

    @cached_property
    def has_status(self) -> bool:
        """Whether a part of it holds the fields of a delivery report."""
        return any(part.type in STATUS_TYPES for part in self.letter.walk())

    @cached_property
    def status_texts(self) -> tuple[str, ...]:
        """Texts that may hold the fields of a delivery report: its own parts, else the words for people."""
        refused = phrases().refusals.search(self.prose.text) is not None
        types = (*STATUS_TYPES, RECEIPT_TYPE) if refused else STATUS_TYPES
        parts = tuple(self.letter.walk())
        found = tuple(part.text for part in parts if part.type in types)
        return found or (self.words, *(part.text for part in parts if part.type.startswith(_ANY_FORM)))

    @cached_property
    def returned(self) -> Returned:
        """What came back of our mail, as a part of its own or below the words."""
        found = returned_headers(self.letter)
        if found.headers or not self.prose.returned:
            return found
        headers = headers_of(self.prose.returned)
        return Returned(headers, bare_address(next((value for name, value in headers if name == "return-path"), "")))

    @cached_property
    def mentions(self) -> Mapping[str, Mention]:
        """The recipients that the words name, by their address in lower case."""
        return {one.address.lower(): one for one in find_mentions(self.prose, self._own)}

    @cached_property
    def _own(self) -> frozenset[str]:
        """Addresses of the report itself, in lower case."""
        return frozenset(
            address.lower()
            for name in _OWN_HEADERS
            for value in self.letter.get_all(name)
            for address in find_addresses(value)
        )

    @cached_property
    def recipients(self) -> tuple[str, ...]:
        """The failed recipients: those in X-Failed-Recipients, unless the words mark others and none of these."""
        header = _addresses(", ".join(self.letter.get_all("x-failed-recipients")))
        marked = tuple(one.address for one in self.mentions.values() if one.strength >= Strength.MARKER)
        if marked and not any(address.lower() in self.mentions for address in header):
            return marked
        return header or tuple(one.address for one in self.mentions.values()) or self._in_subject()

    @cached_property
    def returned_recipient(self) -> tuple[str, ...]:
        """The one recipient of the mail that came back, if its headers leave no doubt."""
        named = (_addresses(self.returned.get(name)) for name in _RECIPIENT_HEADERS)
        return next((addresses for addresses in named if len(addresses) == 1), ())

    def by_fields(self, report: DeliveryReport) -> tuple[Report, ...]:
        """One report for each block of fields; an address that is missing there is taken from the words."""
        alone = len(report.recipients) == 1
        found: list[Report] = []
        for status in report.recipients:
            recipient = status.recipient or (self.recipients[0] if alone and len(self.recipients) == 1 else "")
            if recipient:
                found.append(self._by_status(status, recipient, alone=alone))
        return tuple(found)

    def by_words(self, recipients: Sequence[str]) -> tuple[Report, ...]:
        """One report for each of these recipients, from what the words say about it."""
        alone = len(recipients) == 1
        action = what_happened(self.prose.sentence, self.subject)
        found: list[Report] = []
        for recipient in recipients:
            far = [*self._elsewhere(recipient, alone=alone), self.subject]
            weighed = weigh(self._answers(recipient, alone=alone), self._beside(recipient), far, action)
            found.append(
                Report(recipient, action, weighed.reply, weighed.verdict, Source.PROSE, returned=self.returned)
            )
        return tuple(found)

    def _in_subject(self) -> tuple[str, ...]:
        """The one address in the subject; several of them leave a doubt."""
        named = tuple(address for address in _addresses(self.subject) if address.lower() not in self._own)
        return named if len(named) == 1 else ()

    def _by_status(self, status: RecipientStatus, recipient: str, *, alone: bool) -> Report:
        action = status.action or what_happened(self.prose.sentence, self.subject)
        answer = read_reply(status.diagnostic, enhanced=status.status, host=status.remote_mta)
        weighed = weigh(
            [answer, *(() if _was_taken(action) else self._answers(recipient, alone=alone))],
            self._beside(recipient),
            [status.status_comment, *self._elsewhere(recipient, alone=alone)],
            action,
        )
        return Report(
            recipient,
            action,
            weighed.reply,
            weighed.verdict,
            Source.DSN,
            original_recipient=status.original_recipient if status.original_recipient != recipient else "",
            returned=self.returned,
        )

    def _answers(self, recipient: str, *, alone: bool) -> list[Reply]:
        """Replies that the words quote about a recipient; about a single one, all that they quote."""
        near = "\n".join(self._beside(recipient))
        context = read_reply(near)
        quoted = [*quoted_replies(near, recipient), *(quoted_replies(self.prose.text, recipient) if alone else ())]
        return [read_reply(text, host=context.host, phase=context.phase) for text in dict.fromkeys(quoted)]

    def _beside(self, recipient: str) -> list[str]:
        """What the reporter says about a recipient in its own words, from the address on."""
        mention = self.mentions.get(recipient.lower())
        return [mention.after] if mention is not None else []

    def _elsewhere(self, recipient: str, *, alone: bool) -> list[str]:
        """What else it says: in front of the address, and about a single recipient anywhere."""
        mention = self.mentions.get(recipient.lower())
        return [*((mention.before,) if mention is not None else ()), *((self.prose.text,) if alone else ())]


def _addresses(value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(find_addresses(decode_words(value))))


def _was_taken(action: Action) -> bool:
    return action in (Action.DELIVERED, Action.RELAYED, Action.EXPANDED)
