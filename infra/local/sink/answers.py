"""What the sink can say and do at one point of a conversation: the vocabulary of scenarios and of listeners."""

from dataclasses import dataclass, replace
from typing import Literal

Then = Literal["continue", "close", "reset", "stall"]
"""What follows a reply: go on, close the connection, reset it (TCP RST), or never say nor read anything again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply and what follows it.

    `reply` holds the bytes as they go out, line ends included; empty means silence. `delay` is seconds before the first
    byte, `drip` seconds between two bytes.
    """

    reply: bytes
    then: Then = "continue"
    delay: float = 0.0
    drip: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether the reply can simply be written and the conversation goes on."""
        return self.then == "continue" and not self.delay and not self.drip

    def slowed(self, pace: "Pace") -> "Answer":
        """Return the same answer at a slower pace."""
        return replace(self, delay=max(self.delay, pace.delay), drip=max(self.drip, pace.drip))

    @property
    def accepts(self) -> bool:
        """Whether the reply is a complete positive one."""
        return self.reply.startswith((b"2", b"3")) and self.reply.endswith(b"\r\n")


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow all replies of a conversation are: seconds before each, and between two bytes."""

    delay: float = 0.0
    drip: float = 0.0


def say(text: str, then: Then = "continue") -> Answer:
    """Return an answer of one line."""
    return Answer(text.encode() + b"\r\n", then)


def say_nothing(then: Then) -> Answer:
    """Return an answer without a reply."""
    return Answer(b"", then)


def many_lines(code: str, size: int) -> Answer:
    """Return a multi-line reply of at least `size` bytes (RFC 5321 section 4.2.1)."""
    line = f"{code}-{'x' * 120}\r\n".encode()
    return Answer(line * (size // len(line) + 1) + f"{code} That was all\r\n".encode())
