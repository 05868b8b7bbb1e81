"""When a bounce or complaint rate is worth an alert, and when it is over (mission D7, D8): pure, from sums and the time.

Sums come again and again with a larger count, and each is of one source partition; here they are added up per customer and
provider in rings of time. A decision needs volume (one bounce of three mails says nothing), must hold in two looks in a row
(a second's sums arrive one after the other), and an alert ends only well below the limit that it passed, so that a rate that
swings around its limit is one alert and not twenty.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from depesche.schemas.rates import MINUTE_MS, Volume, share
from depesche.schemas.records import AlertKind, EventType, RateSum, Severity
from depesche.schemas.settings_monitor import AlertSettings

BOUNCE_STEP_MS: Final = 5 * MINUTE_MS
COMPLAINT_STEP_MS: Final = 60 * MINUTE_MS
MOST_CAUSES: Final = 20
CORRECTED_MS: Final = 3 * 60 * MINUTE_MS
"""So long after the newest minute of a partition a sum may still grow; the fold keeps its minutes for less."""
_CONFIRMED: Final = 2
"""Looks in a row that must agree."""


class Topic(NamedTuple):
    """What an alert is about."""

    kind: AlertKind
    severity: Severity
    tenant: str
    provider: str

    @property
    def subject(self) -> str:
        """As it stands in the alert."""
        return f"{self.tenant}/{self.provider}"


@dataclass(frozen=True, slots=True)
class Change:
    """An alert that begins or ends.

    Attributes:
        topic: what it is about.
        raised: whether it begins.
        part, whole: how many of how many, in the window.
        limit: what was passed, a share.
        causes: ids of the latest events behind ``part``.
    """

    topic: Topic
    raised: bool
    part: int
    whole: int
    limit: float
    causes: tuple[str, ...]

    @property
    def value(self) -> float:
        """The share that was measured; 0 where nothing was."""
        return share(self.part, self.whole) or 0.0


class Ring:
    """Two counts in a sliding window: an array of steps that goes round, so that a pair of customer and provider stays small."""

    __slots__ = ("_counts", "_newest", "_step", "_steps")

    def __init__(self, step_ms: int, steps: int) -> None:
        """A window of ``steps`` whole steps and the one that is under way."""
        self._step = step_ms
        self._steps = steps + 1
        self._counts = array("q", bytes(16 * self._steps))
        self._newest = 0

    def add(self, at: int, part: int, whole: int) -> None:
        """Count at a time; what is older than the window is passed over."""
        step = at // self._step
        self._turn(step)
        if step > self._newest - self._steps:
            place = step % self._steps * 2
            self._counts[place] += part
            self._counts[place + 1] += whole

    def sums(self, now: int) -> tuple[int, int]:
        """Part and whole within the window that ends at ``now``."""
        self._turn(now // self._step)
        return sum(self._counts[0::2]), sum(self._counts[1::2])

    def _turn(self, step: int) -> None:
        for passed in range(max(self._newest + 1, step - self._steps + 1), step + 1):
            place = passed % self._steps * 2
            self._counts[place] = self._counts[place + 1] = 0
        self._newest = max(self._newest, step)


@dataclass(slots=True)
class _Pair:
    """A customer at a provider."""

    bounces: Ring
    complaints: Ring
    suspect: bool = False
    """Whether there is a hard bounce or a complaint, so that a look is worth its while."""
    bounce_ids: dict[str, None] = field(default_factory=dict)
    complaint_ids: dict[str, None] = field(default_factory=dict)


class RateWatch:
    """Adds up sums and says which alerts begin and end."""

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings
        self._bounce_steps = max(1, settings.hard_bounce_window_minutes * MINUTE_MS // BOUNCE_STEP_MS)
        self._complaint_steps = max(1, settings.complaint_window_hours * 60 * MINUTE_MS // COMPLAINT_STEP_MS)
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._counted: dict[tuple[str, str, bool, str, str, int, int], int] = {}
        self._newest: dict[int, int] = {}
        self._changed: set[tuple[str, str]] = set()
        self._agreeing: dict[Topic, int] = {}
        self._swept = 0

    @property
    def window_ms(self) -> int:
        """How far back sums matter."""
        return max(self._bounce_steps * BOUNCE_STEP_MS, self._complaint_steps * COMPLAINT_STEP_MS)

    def take(self, entry: RateSum, now: int) -> None:
        """Take in a sum as mail.rates says it; a sum that was taken before changes nothing.

        Args:
            entry: the sum.
            now: in milliseconds since 1970 UTC; a minute that has not come yet counts as now.
        """
        if entry.type not in (EventType.DELIVERED, EventType.BOUNCED, EventType.COMPLAINED):
            return
        minute = min(entry.minute, now)
        partition = entry.source_partition
        newest = self._newest[partition] = max(self._newest.get(partition, 0), minute)
        key = (entry.type.value, entry.kind, entry.late, entry.tenant, entry.provider, entry.minute, partition)
        if minute < newest - CORRECTED_MS and key not in self._counted and self._swept:
            # Its count may have been forgotten, and then it would count twice.
            return
        more = entry.count - self._counted.get(key, 0)
        if more <= 0:
            return
        self._counted[key] = entry.count
        self._add(self._pair(entry.tenant, entry.provider), entry, minute, more)
        self._changed.add((entry.tenant, entry.provider))

    def look(self, now: int, open_: Collection[Topic]) -> list[Change]:
        """The alerts that begin or end now.

        Args:
            now: in milliseconds since 1970 UTC.
            open_: the alerts that have begun and not ended.
        """
        changed = {key for key in self._changed if self._pair(*key).suspect}
        pairs = changed | {(topic.tenant, topic.provider) for topic in (*open_, *self._agreeing)}
        self._changed = set()
        if now // MINUTE_MS != self._swept // MINUTE_MS:
            # A share can also rise because good mail has left the window.
            pairs |= {key for key, pair in self._pairs.items() if pair.suspect}
            self._sweep(now)
        return [change for pair in sorted(pairs) for change in self._judge(*pair, now, open_)]

    def _pair(self, tenant: str, provider: str) -> _Pair:
        pair = self._pairs.get((tenant, provider))
        if pair is None:
            bounces, complaints = (
                Ring(BOUNCE_STEP_MS, self._bounce_steps),
                Ring(COMPLAINT_STEP_MS, self._complaint_steps),
            )
            pair = self._pairs[tenant, provider] = _Pair(bounces, complaints)
        return pair

    @staticmethod
    def _add(pair: _Pair, entry: RateSum, minute: int, more: int) -> None:
        volume = Volume()
        volume.add(entry.type.value, entry.kind, entry.late, more)
        pair.bounces.add(minute, volume.hard_bounced, volume.answered)
        pair.complaints.add(minute, volume.complained, volume.delivered)
        pair.suspect = pair.suspect or bool(volume.hard_bounced or volume.complained)
        ids = pair.complaint_ids if volume.complained else pair.bounce_ids
        for id_ in entry.event_ids:
            ids.pop(id_, None)
            ids[id_] = None
        while len(ids) > MOST_CAUSES:
            del ids[next(iter(ids))]

    def _limits(self) -> Iterator[tuple[AlertKind, Severity, float]]:
        yield AlertKind.HARD_BOUNCE_RATE, Severity.WARN, self._settings.hard_bounce_limit
        yield AlertKind.COMPLAINT_RATE, Severity.WARN, self._settings.complaint_limit
        yield AlertKind.COMPLAINT_RATE, Severity.HIGH, self._settings.complaint_limit_high

    def _judge(self, tenant: str, provider: str, now: int, open_: Collection[Topic]) -> Iterator[Change]:
        pair = self._pair(tenant, provider)
        for kind, severity, limit in self._limits():
            topic = Topic(kind, severity, tenant, provider)
            bounces = kind is AlertKind.HARD_BOUNCE_RATE
            part, whole = (pair.bounces if bounces else pair.complaints).sums(now)
            raised = topic in open_
            turned = (
                is_over(part, whole, limit, self._settings) if raised else begins(part, whole, limit, self._settings)
            )
            agreeing = self._agreeing.pop(topic, 0) + 1
            if turned and agreeing >= _CONFIRMED:
                ids = pair.bounce_ids if bounces else pair.complaint_ids
                yield Change(topic, not raised, part, whole, limit, () if raised else tuple(ids))
            elif turned:
                self._agreeing[topic] = agreeing

    def _sweep(self, now: int) -> None:
        """Forget what can no longer change, and pairs of which the windows hold nothing."""
        before, self._swept = self._swept, now
        self._counted = {
            key: count for key, count in self._counted.items() if key[5] >= self._newest.get(key[6], 0) - CORRECTED_MS
        }
        if now // COMPLAINT_STEP_MS == before // COMPLAINT_STEP_MS:
            return
        for key, pair in list(self._pairs.items()):
            bounces, complaints = pair.bounces.sums(now), pair.complaints.sums(now)
            pair.suspect = bool(bounces[0] or complaints[0])
            if not any((*bounces, *complaints)):
                del self._pairs[key]


def begins(part: int, whole: int, limit: float, settings: AlertSettings) -> bool:
    """Whether an alert begins: enough volume, enough events, and the share is above the limit."""
    return whole >= settings.least_volume and part >= settings.least_events and part > limit * whole


def is_over(part: int, whole: int, limit: float, settings: AlertSettings) -> bool:
    """Whether an alert ends: enough volume with a share well below the limit, or nothing bad is left in the window."""
    return part == 0 or (whole >= settings.least_volume and part < limit * settings.clear_share * whole)
