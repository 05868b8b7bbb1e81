"""What the law of pace knows of a pool at a provider: a value that a table keeps and that every signal changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from depesche.schemas.records import PaceSignal


class Heard(NamedTuple):
    """What one partition of mail.outcomes said last: when, and its answers within the window up to then.

    It counts for a window, so that where little is sent the answers of nearly two windows are added up.
    """

    partition: int
    at: int
    delivered: int
    throttled: int
    crowded: int
    doubtful: int
    blocked: int


class Cause(NamedTuple):
    """A refusal, when it came."""

    at: int
    event_id: str
    unit_id: str
    reply_class: str
    code: int
    stands_for: int


@dataclass(frozen=True, slots=True)
class Standing:
    """All that the law knows of a pool at a provider. Times are milliseconds since 1970 UTC; 0: never.

    Attributes:
        now: time of the latest signal.
        per_minute, connections: what is allowed; None: no limit.
        suspended_until: nobody tries before.
        ends_at: when the limits end by themselves.
        reason: class of the answers behind the limit.
        lowered_at, raised_at: when a limit last changed.
        refused_at: when refusals last were more than may be overlooked.
        ceiling: the rate that was too much.
        crowd: the number of connections that was too much.
        hold_until, hold_ms: how long a rate stays below its ceiling; the length of the last hold.
        suspensions, suspension_ended: how many in a row, and when the last one ended.
        heard: what each source partition said last.
        causes: refusals that count.
    """

    now: int = 0
    per_minute: float | None = None
    connections: int | None = None
    suspended_until: int = 0
    ends_at: int = 0
    reason: str = ""
    lowered_at: int = 0
    raised_at: int = 0
    refused_at: int = 0
    ceiling: float = 0.0
    crowd: int = 0
    hold_until: int = 0
    hold_ms: int = 0
    suspensions: int = 0
    suspension_ended: int = 0
    heard: tuple[Heard, ...] = ()
    causes: tuple[Cause, ...] = ()

    @property
    def limited(self) -> bool:
        """Whether rate or connections have a limit."""
        return self.per_minute is not None or self.connections is not None

    def to_plain(self) -> dict[str, object]:
        """As it stands in a table: numbers, strings and lists."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_plain(cls, plain: dict[str, object]) -> Standing:
        """The standing that ``to_plain`` was made of, also after a way through JSON."""
        values = dict(plain)
        values["heard"] = tuple(Heard(*row) for row in plain["heard"])  # type: ignore[attr-defined]
        values["causes"] = tuple(Cause(*row) for row in plain["causes"])  # type: ignore[attr-defined]
        return cls(**values)  # type: ignore[arg-type]


def heard(signal: PaceSignal) -> Heard:
    """What a signal says of its partition."""
    return Heard(
        signal.source_partition,
        signal.at,
        signal.delivered,
        signal.throttled,
        signal.crowded,
        signal.doubtful,
        signal.blocked,
    )


def cause(signal: PaceSignal) -> Cause:
    """A signal as the cause of a decision."""
    return Cause(signal.at, signal.event_id, signal.unit_id, signal.reply_class, signal.code, signal.count)


def freed(standing: Standing) -> Standing:
    """Without limits; what makes the next hold or suspension longer is kept."""
    return Standing(
        now=standing.now,
        refused_at=standing.refused_at,
        hold_ms=standing.hold_ms,
        suspensions=standing.suspensions,
        suspension_ended=min(standing.now, max(standing.suspended_until, standing.suspension_ended)),
        heard=standing.heard,
        causes=standing.causes,
    )
