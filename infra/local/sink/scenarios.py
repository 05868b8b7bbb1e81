"""The script: what happens to a mail is written in the local part of its recipient.

`hardbounce@sandbox.test` bounces, and so do `hardbounce+order17@` and `hardbounce-42@`: a plus and what follows it, or a final
hyphen and number, only make addresses different. Any local part that is not in the table is accepted. The table is data, so that
documentation and tests can go through it.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from depesche.infra.local.sink.answers import Answer, Pace, many_lines, say, say_nothing

Stage = Literal["rcpt", "data", "content", "dot"]
"""Where a scenario strikes: the reply to RCPT, to DATA, within the content, or the reply after the final dot."""

REMEMBERED = 100_000
"""How many recipients `defer-3x` and `greylist` remember; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the script: where it strikes, with what, and one sentence for people.

    `kept` says whether the mail is in the sink's hands afterwards, which is the truth that a lost reply hides from the
    sender. `pace`, where set, slows every reply from RCPT on.
    """

    stage: Stage
    answer: Answer
    sentence: str
    kept: bool = False
    pace: Pace | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: before each reply of `slow@`, between two bytes of `tarpit@`, and of the first refusal of `greylist@`."""

    slow: float = 2.0
    drip: float = 1.0
    greylist: float = 2.0


ACCEPTED_RECIPIENT = say("250 2.1.5 Recipient ok")

_DEFER_TIMES = re.compile(r"defer-([0-9]{1,4})x")
_COUNTER = re.compile(r"-[0-9]+$")


def scenarios(timing: Timing) -> dict[str, Scenario]:
    """Return the script as a table from local part to scenario; `defer-<n>x` and `greylist` have a memory besides."""
    return _refusals() | _slowness(timing) | _broken_before_the_dot() | _broken_after_the_dot() | _odd_replies()


def _refusals() -> dict[str, Scenario]:
    at_rcpt = {
        "defer": ("450 4.2.0 Mailbox busy, try again later", "Never now: 450 to every attempt."),
        "full": ("452 4.2.2 Mailbox full", "Mailbox full for the moment: 452."),
        "fullhard": ("552 5.2.2 Mailbox full", "Mailbox full for good: 552."),
        "hardbounce": ("550 5.1.1 No such user here", "No such recipient: 550."),
        "disabled": ("550 5.2.1 Mailbox disabled", "The mailbox was closed: 550."),
        "blocked": ("550 5.7.1 Your address is on our list", "Refused for the sending address: 550."),
        "ratelimit": ("451 4.7.28 Too much mail from you, slow down", "Too fast: 451."),
        "badtls": ("454 4.7.0 TLS is not good enough for this recipient", "Wants better TLS: 454. See badtls.test."),
    }
    after_dot = {
        "spam": ("554 5.7.1 Looks like spam", "Refused for its content: 554 after the final dot."),
        "tempdot": ("451 4.3.0 Try again later", "Not now: 451 after the final dot."),
        "unsigned": ("550 5.7.26 Not authenticated", "Refused for want of authentication: 550 after the dot."),
    }
    table = {name: Scenario("rcpt", say(reply), sentence) for name, (reply, sentence) in at_rcpt.items()}
    table |= {name: Scenario("dot", say(reply), sentence) for name, (reply, sentence) in after_dot.items()}
    table["nodata"] = Scenario("data", say("554 5.7.1 No mail today"), "Refused at DATA: 554.")
    return table


def _slowness(timing: Timing) -> dict[str, Scenario]:
    return {
        "slow": Scenario(
            "rcpt",
            ACCEPTED_RECIPIENT,
            "Accepted, but each reply comes late.",
            kept=True,
            pace=Pace(delay=timing.slow),
        ),
        "tarpit": Scenario(
            "rcpt",
            ACCEPTED_RECIPIENT,
            "Accepted, but replies come byte by byte.",
            kept=True,
            pace=Pace(drip=timing.drip),
        ),
    }


def _broken_before_the_dot() -> dict[str, Scenario]:
    busy = say("421 4.3.2 Service shutting down", "close")
    return {
        "421": Scenario("rcpt", busy, "421 and closed in place of the reply to RCPT."),
        "421data": Scenario("data", busy, "421 and closed in place of the reply to DATA."),
        "eofmail": Scenario("rcpt", say_nothing("close"), "Closed without a reply to RCPT."),
        "rsetmail": Scenario("rcpt", say_nothing("reset"), "Connection reset in place of the reply to RCPT."),
        "eofdata": Scenario("content", say_nothing("close"), "Closed within the content."),
        "rsetdata": Scenario("content", say_nothing("reset"), "Connection reset within the content."),
        "stall": Scenario("content", say_nothing("stall"), "Stops reading within the content (zero window)."),
    }


def _broken_after_the_dot() -> dict[str, Scenario]:
    return {
        "dropdot": Scenario("dot", say_nothing("close"), "Kept, then closed without a reply to the dot.", kept=True),
        "rsetdot": Scenario("dot", say_nothing("reset"), "Kept, then reset without a reply to the dot.", kept=True),
        "silentdot": Scenario("dot", say_nothing("stall"), "Kept, but never a reply to the dot.", kept=True),
        "halfreply": Scenario("dot", Answer(b"25", "close"), "Kept, then half a reply and closed.", kept=True),
        "421dot": Scenario("dot", say("421 4.3.2 Shutting down", "close"), "421 and closed after the final dot."),
    }


def _odd_replies() -> dict[str, Scenario]:
    odd = "550 5.1.1 Empfänger gelöscht\x1b[31m \x00\x7f".encode() + b" \xe4\xf6\xfc\xff\r\n"
    return {
        "badreply": Scenario("rcpt", say("what do you want?"), "A reply to RCPT that is not SMTP."),
        "baddot": Scenario("dot", say("thanks a lot"), "Kept, but the reply to the dot is not SMTP.", kept=True),
        "bigreply": Scenario("rcpt", many_lines("550", 65536), "Refused with a reply of 64 KB in many lines."),
        "bigaccept": Scenario("dot", many_lines("250", 65536), "Kept, with a reply of 64 KB in many lines.", kept=True),
        "nonascii": Scenario("rcpt", Answer(odd), "Refused with 8-bit and control characters in the reply."),
    }


class Script:
    """The script with its memory: decides about a recipient."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._table = scenarios(timing)
        self._attempts: OrderedDict[str, int] = OrderedDict()
        self._first_seen: OrderedDict[str, float] = OrderedDict()

    def cast(self, recipient: str, now: float) -> Scenario | None:
        """Return the scenario of a recipient at `now` (seconds of any steady clock), None for plain acceptance.

        Asking is an attempt: `defer-3x` refuses the first three askings, `greylist` all within the first seconds.
        """
        stem = stem_of(recipient)
        scenario = self._table.get(stem)
        if scenario is not None:
            return scenario
        if stem == "greylist":
            return self._greylisted(recipient, now)
        times = _DEFER_TIMES.fullmatch(stem)
        return self._deferred(recipient, int(times[1])) if times else None

    def _greylisted(self, recipient: str, now: float) -> Scenario | None:
        first = self._first_seen.setdefault(recipient, now)
        _forget_oldest(self._first_seen)
        if first < now and now - first >= self._timing.greylist:
            return None
        return Scenario("rcpt", say("451 4.7.1 Greylisted, come back soon"), "Refused at first, accepted later.")

    def _deferred(self, recipient: str, times: int) -> Scenario | None:
        attempts = self._attempts.get(recipient, 0) + 1
        self._attempts[recipient] = attempts
        _forget_oldest(self._attempts)
        if attempts > times:
            return None
        return Scenario("rcpt", say(f"451 4.3.0 Attempt {attempts} of {times} to be refused"), "Refused n times.")


def stem_of(recipient: str) -> str:
    """Return the part of an address that names its scenario: `Defer-3x-17+a@sandbox.test` -> `defer-3x`."""
    return _COUNTER.sub("", recipient.rpartition("@")[0].partition("+")[0].lower())


def _forget_oldest(memory: OrderedDict[str, int] | OrderedDict[str, float]) -> None:
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
