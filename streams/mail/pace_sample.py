"""From outcomes to signals about the pace: what an answer says of it, and which few of a thousand answers need be told.

A sampler sees one partition of mail.outcomes in order, and what it tells depends on nothing but the records of the last window
and on which pools and providers are watched, so that it can go on after a kill as if nothing had been. It tells

- each kind of refusal at most once per interval (a second), and within a burst again whenever their number has doubled,
  because the burst may be all there is for a while;
- a delivery at most once per slot (five seconds), and only of pairs that are watched because something was refused there:
  whoever is not limited needs no heartbeat.

Each signal carries the counts of the whole window, so a lost or late one falsifies nothing.
"""

from __future__ import annotations

from typing import Final

from depesche.schemas.records import AttemptDetail, EventType, MailEvent, PaceEffect, PaceSignal
from depesche.schemas.reply_classes import ReplyClass
from depesche.schemas.settings import PaceSettings

_SLOTS: Final = 12
"""Parts into which the window is divided; the counts are as exact as one of them."""
_INTERVALS: Final = 60
"""A window has so many intervals: with the usual window of a minute, one is a second."""
_RENEWED_BELOW: Final = 0.9
"""A watch is renewed when less than this part of it is left, so that whoever keeps watches has little to write."""
_PRUNE_AT: Final = 20_000
_BUSY: Final = 421
_OPENING: Final = frozenset({"connect", "banner", "ehlo", "starttls"})
_COLUMN: Final = {
    PaceEffect.DELIVERED: 0,
    PaceEffect.THROTTLED: 1,
    PaceEffect.CROWDED: 2,
    PaceEffect.DOUBTFUL: 3,
    PaceEffect.BLOCKED: 4,
}
_BLOCKED: Final = frozenset({ReplyClass.REPUTATION.value, ReplyClass.POLICY.value})
_DOUBTFUL: Final = frozenset({ReplyClass.SYSTEM.value, ReplyClass.UNCLASSIFIED.value})
_NO_POOL: Final = "shared"


def effect_of(type_: EventType, detail: AttemptDetail) -> PaceEffect | None:
    """What an outcome says about the pace; None: nothing.

    Greylisting and whatever is about one mailbox or one mail say nothing, a host that cannot be reached neither: that is the
    couriers' own affair. 421 always does, because it ends the conversation whoever the recipient is (RFC 5321 3.8).
    """
    if type_ is EventType.DELIVERED:
        return PaceEffect.DELIVERED
    if type_ not in (EventType.DEFERRED, EventType.BOUNCED, EventType.EXPIRED) or not detail.code or detail.ambiguous:
        return None
    why = detail.reply_class
    if why in _BLOCKED:
        return PaceEffect.BLOCKED
    if why == ReplyClass.RATE_LIMITED or (detail.code == _BUSY and why != ReplyClass.GREYLISTED):
        return PaceEffect.CROWDED if detail.step in _OPENING else PaceEffect.THROTTLED
    if why in _DOUBTFUL and detail.code // 100 == 4:
        return PaceEffect.DOUBTFUL
    return None


class _Pair:
    """What is known of one pool at one provider in one partition."""

    __slots__ = ("newest", "said", "slots")

    def __init__(self) -> None:
        self.newest = 0
        self.slots: dict[int, list[int]] = {}
        self.said: dict[PaceEffect, tuple[int, int, int]] = {}

    def count(self, slot: int, column: int) -> None:
        counts = self.slots.get(slot)
        if counts is None:
            counts = self.slots[slot] = [0, 0, 0, 0, 0]
            if slot > self.newest:
                self.newest = slot
                for old in [one for one in self.slots if one <= slot - _SLOTS]:
                    del self.slots[old]
        counts[column] += 1

    def sums(self, slot: int) -> list[int]:
        rows = [counts for one, counts in self.slots.items() if slot - _SLOTS < one <= slot]
        return [sum(column) for column in zip(*rows, strict=True)]


class Sampler:
    """One partition of mail.outcomes.

    Attributes:
        watched: for each (pool, provider) that is watched, from which offset, and until when (milliseconds since 1970 UTC).
        renewed: pairs whose watch has changed; whoever keeps watches over restarts takes them out.
    """

    def __init__(self, settings: PaceSettings, partition: int, partitions: int) -> None:
        """Begin with nothing seen.

        Args:
            settings: window, and how long limits last: a pair is watched for as long.
            partition: which.
            partitions: how many there are.
        """
        window = round(settings.window_seconds * 1000)
        self.watched: dict[tuple[str, str], tuple[int, int]] = {}
        self.renewed: list[tuple[str, str]] = []
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._prune_at = _PRUNE_AT
        self._slot = max(1, window // _SLOTS)
        self._interval = max(1, window // _INTERVALS)
        self._window = window
        self._watch = round((settings.limit_seconds + settings.longest_suspend_seconds) * 1000)
        self._partition = partition
        self._partitions = partitions

    def _watch_from(self, pair: tuple[str, str], at: int, offset: int) -> None:
        begun, until = self.watched.get(pair, (offset, 0))
        if until < at:
            begun = offset
        if until < at + self._watch * _RENEWED_BELOW:
            self.watched[pair] = begun, at + self._watch
            self.renewed.append(pair)

    def _is_watched(self, pair: tuple[str, str], at: int, offset: int) -> bool:
        watch = self.watched.get(pair)
        return watch is not None and watch[0] <= offset and at < watch[1]

    def concerns(self, event: MailEvent, offset: int) -> bool:
        """Whether ``take`` may have something to tell about this outcome; if not, it only counts it."""
        detail = event.detail
        if type(detail) is not AttemptDetail:
            return False
        if event.type is EventType.DELIVERED:
            return self._is_watched((detail.pool or _NO_POOL, event.provider), event.occurred_at, offset)
        return effect_of(event.type, detail) is not None

    def take(self, event: MailEvent, offset: int) -> PaceSignal | None:
        """Count one outcome in; what must be told, if anything."""
        detail = event.detail
        if type(detail) is not AttemptDetail:
            return None
        effect = effect_of(event.type, detail)
        if effect is None:
            return None
        pair = detail.pool or _NO_POOL, event.provider
        held = self._pairs.get(pair)
        if held is None:
            held = self._new(pair, event.occurred_at)
        slot = event.occurred_at // self._slot
        held.count(slot, _COLUMN[effect])
        if effect is not PaceEffect.DELIVERED:
            self._watch_from(pair, event.occurred_at, offset)
        elif not self._is_watched(pair, event.occurred_at, offset):
            return None
        stands_for = self._told(held, effect, event.occurred_at)
        if not stands_for:
            return None
        delivered, throttled, crowded, doubtful, blocked = held.sums(slot)
        return PaceSignal(
            event_id=event.event_id,
            unit_id=event.unit_id,
            pool=pair[0],
            provider=pair[1],
            at=event.occurred_at,
            effect=effect,
            reply_class=detail.reply_class,
            code=detail.code,
            step=detail.step,
            count=stands_for,
            delivered=delivered,
            throttled=throttled,
            crowded=crowded,
            doubtful=doubtful,
            blocked=blocked,
            source_partition=self._partition,
            source_offset=offset,
            source_partitions=self._partitions,
        )

    def _told(self, held: _Pair, effect: PaceEffect, at: int) -> int:
        """How many answers the signal stands for that is told now; 0: none is."""
        length = self._slot if effect is PaceEffect.DELIVERED else self._interval
        interval = at // length
        last, number, untold = held.said.get(effect, (-1, 0, 0))
        if interval > last:
            if (interval - last) * length > self._window:
                untold = 0
            held.said[effect] = interval, 1, 0
            return untold + 1
        number += 1
        if effect is not PaceEffect.DELIVERED and number & (number - 1) == 0:
            held.said[effect] = last, number, 0
            return untold + 1
        held.said[effect] = last, number, untold + 1
        return 0

    def _new(self, pair: tuple[str, str], now: int) -> _Pair:
        if len(self._pairs) >= self._prune_at:
            self._prune(now)
            self._prune_at = max(_PRUNE_AT, 2 * len(self._pairs))
        held = self._pairs[pair] = _Pair()
        return held

    def _prune(self, now: int) -> None:
        """Forget pairs without an answer within the window, and watches that are over."""
        oldest = now // self._slot - _SLOTS
        self._pairs = {pair: held for pair, held in self._pairs.items() if held.newest > oldest}
        self.watched = {pair: watch for pair, watch in self.watched.items() if watch[1] > now}
