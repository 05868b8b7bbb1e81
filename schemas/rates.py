"""What is counted of outcomes and which shares are made of it: one definition for the Faust fold, ClickHouse and the alerts.

Two of the words need saying. A mail that was delivered can come back later: that *late* bounce is a bounce like any other, and
it stands in the denominator beside the delivery it contradicts, so that no share passes 1. And ``sent`` counts units, each once,
when its way ends out there; ``deferred`` counts attempts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from depesche.schemas.records import AttemptDetail, EventType, MailEvent, ReturnedDetail
from depesche.schemas.vocabulary import ANNOTATIONS_FROM

MINUTE_MS: Final = 60_000
WINDOWS: Final = {"5m": 5 * MINUTE_MS, "1h": 60 * MINUTE_MS, "1d": 1440 * MINUTE_MS}
"""Windows that are reported, by name, in milliseconds; they begin at whole multiples, in UTC."""
By: TypeAlias = Literal["provider", "tenant", "both"]
KINDS: Final = ("hard", "soft", "block")
"""The kinds that are told apart; whatever else a detail says counts as none."""


class Grain(NamedTuple):
    """What outcomes have in common that are counted together, as finely as anybody counts."""

    type: str
    kind: str
    late: bool
    tenant: str
    provider: str
    minute: int
    """Start of the minute in which they occurred, in milliseconds since 1970 UTC."""


def grain_of(event: MailEvent) -> Grain:
    """Where an outcome is counted. ``late``: a bounce that came when the mail had been delivered before."""
    detail = event.detail
    kind = detail.kind if isinstance(detail, (AttemptDetail, ReturnedDetail)) else ""
    return Grain(
        event.type.value,
        kind if kind in KINDS else "",
        event.type is EventType.BOUNCED and event.sequence >= ANNOTATIONS_FROM,
        event.tenant,
        event.provider,
        event.occurred_at // MINUTE_MS * MINUTE_MS,
    )


@dataclass(slots=True)
class Volume:
    """How much mail went which way.

    Attributes:
        delivered: units the far side took.
        soft_bounced, hard_bounced, blocked: units it refused for good, or that came back, by kind: any other reason, a dead
            address, we or our mail unwelcome.
        returned: those of the three that came back after they had been delivered.
        expired: units that were given up after their time was over.
        deferred: attempts that are made again.
        complained: complaints of recipients.
    """

    delivered: int = 0
    soft_bounced: int = 0
    hard_bounced: int = 0
    blocked: int = 0
    returned: int = 0
    expired: int = 0
    deferred: int = 0
    complained: int = 0

    def add(self, type_: str, kind: str, late: bool, count: int) -> None:
        """Count outcomes in; types that say nothing about delivery (opened, clicked ...) change nothing."""
        if type_ == EventType.BOUNCED.value:
            if kind == "hard":
                self.hard_bounced += count
            elif kind == "block":
                self.blocked += count
            else:
                self.soft_bounced += count
            self.returned += count * late
        elif type_ in _PLAIN:
            setattr(self, type_, getattr(self, type_) + count)

    @property
    def bounced(self) -> int:
        """Bounces of every kind, late ones included."""
        return self.soft_bounced + self.hard_bounced + self.blocked

    @property
    def sent(self) -> int:
        """Units whose way ended out there: delivered, refused at the door, or given up. A late bounce is no second unit."""
        return self.delivered + self.bounced - self.returned + self.expired

    @property
    def answered(self) -> int:
        """Denominator of the hard-bounce rate: delivered and bounced."""
        return self.delivered + self.bounced

    @property
    def hard_bounce_rate(self) -> float | None:
        """Hard bounces among ``answered``; nothing where nothing was answered."""
        return self.hard_bounced / self.answered if self.answered else None

    @property
    def complaint_rate(self) -> float | None:
        """Complaints per delivered unit, at most 1: a complaint may be about a unit that was delivered before the period."""
        return share(self.complained, self.delivered)

    def to_json(self) -> dict[str, Any]:
        """Counts, the rates, and what the rates are shares of."""
        counts = {name: getattr(self, name) for name in ("sent", *self.__slots__)}
        return {
            **counts,
            "answered": self.answered,
            "hard_bounce_rate": self.hard_bounce_rate,
            "complaint_rate": self.complaint_rate,
        }


@dataclass(frozen=True, slots=True)
class Rated:
    """How delivery went in a window. ``tenant`` or ``provider`` is empty where all of them are added up."""

    start: int
    tenant: str
    provider: str
    volume: Volume = field(default_factory=Volume)


def rated(counts: Mapping[Grain, int], window_ms: int, by: By) -> list[Rated]:
    """Outcomes added up per window and customer, provider or both, in order of time.

    Args:
        counts: how many there are of each grain.
        window_ms: length of a window.
        by: what is told apart.
    """
    found: dict[tuple[int, str, str], Rated] = {}
    for grain, count in counts.items():
        start = grain.minute // window_ms * window_ms
        key = (start, "" if by == "provider" else grain.tenant, "" if by == "tenant" else grain.provider)
        entry = found.get(key) or found.setdefault(key, Rated(*key))
        entry.volume.add(grain.type, grain.kind, grain.late, count)
    return [found[key] for key in sorted(found)]


def share(part: int, whole: int) -> float | None:
    """``part`` of ``whole``, at most 1; nothing where there is neither."""
    return min(1.0, part / whole) if whole else (1.0 if part else None)


_PLAIN: Final = frozenset(
    kind.value for kind in (EventType.DELIVERED, EventType.EXPIRED, EventType.DEFERRED, EventType.COMPLAINED)
)
