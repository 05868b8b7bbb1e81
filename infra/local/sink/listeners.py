"""The addresses on which the sink listens, and the manners of each: what goes wrong before any recipient is named.

A banner, a greeting or a TLS handshake cannot depend on a recipient that comes later. So each such fault has an address and a
domain of its own: mail for `busy.test` goes to a listener that says 421 at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from depesche.infra.local.sink.answers import Answer, say, say_nothing

Step = Literal["banner", "EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", "dot"]
TLS = Literal["good", "expired", "wrongname", "broken"]

EXTENSIONS = ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "STARTTLS", "ENHANCEDSTATUSCODES")


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `count` mails in any `seconds`; the next MAIL gets `answer`."""

    count: int
    seconds: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class Listener:
    """One address of the sink.

    `label` makes its domain, `<label>.test`. `answers` replaces the normal answer at a step; `hidden` are extensions that
    EHLO does not offer; `largest` is the SIZE in bytes; `needs_tls` refuses mail outside TLS with 530; `quota` refuses too
    many at once.
    """

    label: str
    address: str
    answers: Mapping[Step, Answer] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    tls: TLS = "good"
    largest: int = 50 * 1024 * 1024
    needs_tls: bool = False
    quota: Quota | None = None


MAIN = Listener("sandbox", "127.0.0.2")
"""The listener behind `sandbox.test`: no fault but those that recipients ask for."""

_TOO_FAST = say("421 4.7.0 Too many messages from your address, slow down", "close")
_LISTED = say("550 5.7.1 Service unavailable; client host blocked using bl.example; poor reputation")
_BUSY = say("421 4.3.2 Too many connections, try again later", "close")


def all_listeners(slow: float = 2.0, minute: float = 60.0) -> tuple[Listener, ...]:
    """Return every listener of the sandbox; `slow` is the delay of `slowbanner`, `minute` that of `quota`, in seconds."""
    answers: dict[str, Mapping[Step, Answer]] = {
        "busy": {"banner": _BUSY},
        "closed": {"banner": say("554 5.3.2 No SMTP service here", "close")},
        "silent": {"banner": say_nothing("stall")},
        "slowbanner": {"banner": Answer(b"220 mx.slowbanner.test ESMTP\r\n", delay=slow)},
        "hangup": {"banner": say_nothing("close")},
        "reset": {"banner": say_nothing("reset")},
        "notsmtp": {"banner": say("HTTP/1.1 400 Bad Request", "close")},
        "busyehlo": {"EHLO": _BUSY, "HELO": _BUSY},
        "heloonly": {"EHLO": say("502 5.5.1 Command not implemented")},
        "busymail": {"MAIL": _BUSY},
        "refusemail": {"MAIL": say("553 5.7.1 Sender not welcome")},
        "dropmail": {"MAIL": say_nothing("close")},
        "refusedtls": {"STARTTLS": say("454 4.7.0 TLS not available")},
    }
    odd = (
        Listener("second", "127.0.0.5"),
        Listener("third", "127.0.0.6"),
        *(Listener(label, f"127.0.1.{number}", table) for number, (label, table) in enumerate(answers.items(), 1)),
        Listener("quota", "127.0.1.20", quota=Quota(20, minute, _TOO_FAST)),
        Listener("listed", "127.0.1.21", {"MAIL": _LISTED}),
        Listener("bare", "127.0.1.30", hidden=frozenset(EXTENSIONS)),
        Listener("nopipelining", "127.0.1.31", hidden=frozenset({"PIPELINING"})),
        Listener("small", "127.0.1.32", largest=20_000),
        Listener("notls", "127.0.1.33", hidden=frozenset({"STARTTLS"})),
        Listener("brokentls", "127.0.1.34", tls="broken"),
        Listener("badtls", "127.0.1.35", tls="broken", needs_tls=True),
        Listener("expiredtls", "127.0.1.36", tls="expired"),
        Listener("wrongname", "127.0.1.37", tls="wrongname"),
        Listener("needtls", "127.0.1.38", needs_tls=True),
    )
    return (MAIN, *odd)


def addresses(listeners: tuple[Listener, ...]) -> dict[str, str]:
    """Return label and address of each listener but the main one: what the zone needs to name them."""
    return {listener.label: listener.address for listener in listeners if listener is not MAIN}
