"""The law of pace: from what a provider answers to how fast a pool may send to it. Pure; only the times of events count.

Lowered at once, from what was really delivered in the last window and not from what was allowed; raised slowly; and what was
too much once is remembered: a rate stops below it and is held there, each time longer, before more is tried. So a provider with
a steady limit sees it touched a few times a day and not every few minutes, and one whose limit has gone is free again within
half an hour of the next try. A block (reputation, policy) suspends, for twice as long each time.

A rate that nobody uses proves nothing: it is not raised, because couriers hold back by themselves too, and because a quiet night
says nothing about the morning. It is lifted only when far more than what was too much has been taken.

One refusal means nothing, but where more is tried than was too much once. So many answers, and such a share of all, must say
the same before anything else changes; both are settings (``PaceSettings``). Nothing here can bring a rate to zero, and a limit
that nobody renews ends by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from depesche.schemas.identity import event_id
from depesche.schemas.records import PaceAction, PaceCause, PaceEffect, PaceSignal, PaceState
from depesche.schemas.settings import PaceSettings
from depesche.streams.mail.pace_standing import Standing, cause, freed, heard

_VERSION: Final = 3
"""To be raised when the law gives other decisions for the same signals."""
MOST_CAUSES: Final = 20
_SETTLE: Final = 1.25
"""Windows that pass after a lowering before the next: couriers must have heard of it, and its causes left the window."""
_UNDER_WAY: Final = 0.25
"""Windows after a lowering in which what was already under way is still told."""
_FEW: Final = 0.1
"""Where more is tried than was too much once, this part of the usual share of refusals is enough."""
_DOUBTS: Final = 3
"""So many times as many doubtful answers as clear ones are needed."""
_FREE_AT: Final = 2.0
"""A rate that has come to this multiple of what was too much is no limit any more."""
_USED: Final = 0.5
"""A rate is raised when at least this part of it was attempted in the last window."""
_PROVEN: Final = 1.5
"""So many times what was too much must be delivered before there is no limit any more."""
_RESTART: Final = 0.25
"""After a suspension: the part of what was delivered before that is tried at first."""


class Totals(NamedTuple):
    """The answers within the window, as far as heard.

    Attributes:
        slow: those that ask to slow down, the doubtful ones among them where they are many.
        crowded, blocked: those that refuse one connection more; that refuse us.
        all: all answers.
        per_minute: units delivered per minute in all partitions, also those that said nothing.
        attempted: the same of all that got an answer.
        heard_of: those delivered per minute that were really heard of.
    """

    slow: int
    crowded: int
    blocked: int
    all: int
    per_minute: float
    attempted: float
    heard_of: float

    def share(self, some: int) -> float:
        """``some`` as part of all answers."""
        return some / self.all if self.all else 0.0


class Verdict(NamedTuple):
    """What a signal changes: the action, the new standing, the share of answers that led to it, a sentence."""

    action: PaceAction
    standing: Standing
    share: float | None
    explanation: str


class Law:
    """The law with its parameters.

    Attributes:
        name: the same for the same parameters and version.
    """

    def __init__(self, settings: PaceSettings, connections: int) -> None:
        """Take parameters.

        Args:
            settings: see there.
            connections: how many there are where nothing is limited; what is lowered first is lowered from here.
        """
        self._settings = settings
        self._connections = connections
        self.name = _name(settings, connections)
        self._window = round(settings.window_seconds * 1000)

    def decide(self, standing: Standing, signal: PaceSignal) -> tuple[Standing, PaceState | None]:
        """Take in the next signal of a pool at a provider; the new standing, and what was decided, if anything was."""
        standing = self._take_in(standing, signal)
        totals = self._totals(standing, signal.source_partitions)
        verdict = self._verdict(standing, signal, totals)
        if isinstance(verdict, Standing):
            return verdict, None
        return verdict.standing, _decision(self.name, signal, verdict, totals)

    def _take_in(self, standing: Standing, signal: PaceSignal) -> Standing:
        now = max(standing.now, signal.at)
        rows = [row for row in standing.heard if row.at > now - self._window]
        causes = standing.causes
        if not standing.limited and not standing.suspended_until:
            causes = tuple(one for one in causes if one.at > now - self._window)
        if signal.effect is not PaceEffect.ORDER:
            rows = [row for row in rows if row.partition != signal.source_partition] + [heard(signal)]
            if signal.effect is not PaceEffect.DELIVERED:
                causes = (*causes, cause(signal))[1 - MOST_CAUSES :]
        return replace(standing, now=now, heard=tuple(sorted(rows)), causes=causes)

    def _totals(self, standing: Standing, partitions: int) -> Totals:
        rows = standing.heard
        delivered, throttled, crowded, doubtful, blocked = (
            (sum(column) for column in zip(*(row[2:] for row in rows), strict=True)) if rows else (0, 0, 0, 0, 0)
        )
        every = delivered + throttled + crowded + doubtful + blocked
        many = doubtful >= _DOUBTS * self._settings.answers
        unclear = doubtful if many and doubtful / every >= self._settings.doubtful_share else 0
        whole, rate = max(1.0, partitions / len(rows)) if rows else 1.0, delivered * 60_000 / self._window
        attempted = every * whole * 60_000 / self._window
        return Totals(throttled + unclear, crowded, blocked, every, rate * whole, attempted, rate)

    def _verdict(self, standing: Standing, signal: PaceSignal, totals: Totals) -> Verdict | Standing:
        if signal.effect is PaceEffect.ORDER:
            return Verdict(PaceAction.LIFTED, freed(standing), None, f"Lifted by {signal.by or 'an operator'}.")
        if standing.now < standing.suspended_until:
            return standing
        over: Verdict | Standing = standing
        if standing.suspended_until:
            standing = replace(standing, suspended_until=0, suspension_ended=standing.suspended_until)
            over = Verdict(PaceAction.RESUMED, standing, None, "The suspension is over; it begins slowly.")
        if standing.limited and standing.now >= standing.ends_at:
            standing = freed(standing)
            over = Verdict(PaceAction.LIFTED, standing, None, "Nothing was refused for a long time.")
        changed = self._by_effect(standing, signal.effect, totals, signal.reply_class)
        return over if changed is None or (isinstance(over, Verdict) and isinstance(changed, Standing)) else changed

    def _by_effect(
        self, standing: Standing, effect: PaceEffect, totals: Totals, reason: str
    ) -> Verdict | Standing | None:
        if effect is PaceEffect.DELIVERED:
            return self._raised(standing, totals)
        if effect is PaceEffect.BLOCKED:
            settings, some = self._settings, totals.blocked
            blocked = some >= settings.block_answers and totals.share(some) >= settings.block_share
            return self._suspended(standing, totals, reason) if blocked else None
        crowded = effect is PaceEffect.CROWDED
        if crowded or effect in (PaceEffect.THROTTLED, PaceEffect.DOUBTFUL):
            some = totals.crowded if crowded else totals.slow
            if some >= self._settings.answers and totals.share(some) >= self._settings.share:
                if standing.lowered_at and standing.now - standing.lowered_at < self._window * _SETTLE:
                    return self._again(standing, totals)
                if crowded and standing.connections != 1:
                    return self._fewer_connections(standing, totals, reason)
                return self._lowered(standing, totals, some, reason)
        return self._back(standing, totals, reason) if effect is PaceEffect.THROTTLED else None

    # Down.

    def _lowered(self, standing: Standing, totals: Totals, some: int, reason: str) -> Verdict:
        settings, held = self._settings, standing.per_minute
        base = totals.per_minute if held is None else min(held, totals.per_minute or held)
        rate = max(settings.least_per_minute, base * settings.cut)
        failed = held is None or held > standing.ceiling * settings.near * 1.001
        lowered = replace(
            self._held(standing, failed=failed),
            per_minute=rate if held is None else min(held, rate),
            connections=self._cut(standing),
            ceiling=max(base, rate / settings.cut),
            reason=reason,
        )
        share = totals.share(some)
        return Verdict(
            PaceAction.LOWERED,
            lowered,
            share,
            f"{share:.0%} of the answers asked to slow down while {totals.per_minute:.0f} a minute were delivered.",
        )

    def _again(self, standing: Standing, totals: Totals) -> Standing:
        """More of what has led to the limit; what was still under way when it came tells better what was too much."""
        under_way = standing.per_minute is not None and standing.now - standing.lowered_at < self._window * _UNDER_WAY
        ceiling = max(standing.ceiling, totals.heard_of) if under_way else standing.ceiling
        return replace(standing, refused_at=standing.now, ceiling=ceiling)

    def _back(self, standing: Standing, totals: Totals, reason: str) -> Verdict | None:
        """A few refusals end the try to get past what was too much once, if they are not lost among thousands.

        Couriers that are refused hold back at once, so that many refusals may never come together.
        """
        held, before = standing.per_minute, max(self._settings.least_per_minute, standing.ceiling * self._settings.near)
        share, settled = totals.share(totals.slow), standing.now - standing.lowered_at >= self._window * _SETTLE
        if held is None or held <= before * 1.001 or standing.now < standing.hold_until or not settled:
            return None
        if share < self._settings.share * _FEW:
            return None
        back = replace(self._held(standing, failed=True), per_minute=before, reason=reason)
        return Verdict(
            PaceAction.LOWERED, back, share, "More than what was too much once was tried, and refused again."
        )

    def _fewer_connections(self, standing: Standing, totals: Totals, reason: str) -> Verdict:
        held = standing.connections
        failed = held is None or held >= standing.crowd
        lowered = replace(
            self._held(standing, failed=failed),
            connections=self._cut(standing),
            crowd=self._connections if held is None else held,
            reason=reason,
        )
        share = totals.share(totals.crowded)
        return Verdict(PaceAction.LOWERED, lowered, share, f"{share:.0%} of the answers refused one connection more.")

    def _cut(self, standing: Standing) -> int:
        held = self._connections if standing.connections is None else standing.connections
        return max(1, int(held * self._settings.connections_cut))

    def _held(self, standing: Standing, *, failed: bool) -> Standing:
        """Lowered now; held twice as long as last time if that was an attempt to get past the ceiling."""
        settings, now = self._settings, standing.now
        remembered = standing.hold_ms and now - standing.refused_at < settings.memory_seconds * 1000
        hold = standing.hold_ms if remembered else round(settings.hold_seconds * 1000)
        if remembered and failed:
            hold = min(2 * hold, round(settings.longest_hold_seconds * 1000))
        return replace(
            standing,
            lowered_at=now,
            refused_at=now,
            hold_ms=hold,
            hold_until=now + hold,
            ends_at=now + round(settings.limit_seconds * 1000),
        )

    def _suspended(self, standing: Standing, totals: Totals, reason: str) -> Verdict:
        settings, now = self._settings, standing.now
        recent = standing.suspension_ended and now - standing.suspension_ended < settings.memory_seconds * 1000
        level = standing.suspensions if recent else 0
        length = round(min(settings.suspend_seconds * 2**level, settings.longest_suspend_seconds) * 1000)
        until = now + length
        rate = max(settings.least_per_minute, totals.per_minute * _RESTART)
        suspended = replace(
            standing,
            suspended_until=until,
            suspensions=level + 1,
            per_minute=rate if standing.per_minute is None else min(standing.per_minute, rate),
            ceiling=max(standing.ceiling, rate / _RESTART),
            lowered_at=until,
            refused_at=until,
            ends_at=until + round(settings.limit_seconds * 1000),
            reason=reason,
        )
        share = totals.share(totals.blocked)
        return Verdict(
            PaceAction.SUSPENDED, suspended, share, f"{share:.0%} of the answers refused us for what we are ({reason})."
        )

    # Up.

    def _raised(self, standing: Standing, totals: Totals) -> Verdict | None:
        now = standing.now
        quiet = now - max(standing.lowered_at, standing.raised_at, standing.refused_at) >= self._window
        if not standing.limited or not quiet:
            return None
        rate, connections = self._grown(standing, totals), self._more_connections(standing)
        if (rate, connections) == (standing.per_minute, standing.connections):
            return None
        raised = replace(standing, per_minute=rate, connections=connections, raised_at=now)
        if not raised.limited:
            return Verdict(PaceAction.LIFTED, freed(standing), None, "Far more than what was too much is taken by now.")
        return Verdict(PaceAction.RAISED, raised, None, "Quiet for a while, and mail was taken.")

    def _grown(self, standing: Standing, totals: Totals) -> float | None:
        rate = standing.per_minute
        if rate is None or totals.attempted < rate * _USED:
            return rate
        grown = max(rate * self._settings.raise_factor, rate + 1)
        if standing.now < standing.hold_until:
            return max(rate, min(grown, standing.ceiling * self._settings.near))
        if grown <= standing.ceiling * _FREE_AT:
            return grown
        return None if totals.per_minute >= standing.ceiling * _PROVEN else rate

    def _more_connections(self, standing: Standing) -> int | None:
        # Also while the rate is not used: it may be for want of connections that it is not.
        held = standing.connections
        if held is None:
            return None
        more = held + 1
        if standing.crowd and standing.now < standing.hold_until:
            return max(held, min(more, standing.crowd - 1))
        return None if more >= self._connections else more


def replayed(law: Law, signals: Iterable[PaceSignal]) -> list[PaceState]:
    """All decisions that the signals lead to, in their order; a signal that was said twice counts once."""
    standings: dict[tuple[str, str], Standing] = {}
    seen: set[str] = set()
    decisions = []
    for signal in signals:
        if signal.event_id in seen:
            continue
        seen.add(signal.event_id)
        pair = signal.pool, signal.provider
        standings[pair], decision = law.decide(standings.get(pair, Standing()), signal)
        if decision is not None:
            decisions.append(decision)
    return decisions


def _name(settings: PaceSettings, connections: int) -> str:
    text = f"{_VERSION}|{connections}|{settings.model_dump_json()}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:8]


def _decision(law: str, signal: PaceSignal, verdict: Verdict, totals: Totals) -> PaceState:
    action, standing = verdict.action, verdict.standing
    causes = standing.causes
    if not causes or causes[-1].event_id != signal.event_id:
        causes = (*causes[1 - MOST_CAUSES :], cause(signal))
    return PaceState(
        decision_id=event_id(f"{signal.pool}/{signal.provider}", "pace", 0, signal.event_id),
        pool=signal.pool,
        provider=signal.provider,
        at=standing.now,
        action=action,
        per_minute=None if standing.per_minute is None else round(standing.per_minute, 3),
        connections=standing.connections,
        suspended_until=standing.suspended_until or None,
        ends_at=standing.ends_at if standing.limited else None,
        reason=standing.reason,
        achieved=round(totals.per_minute, 3),
        refused_share=None if verdict.share is None else round(verdict.share, 4),
        explanation=verdict.explanation,
        law=law,
        causes=tuple(
            PaceCause(
                event_id=one.event_id,
                unit_id=one.unit_id,
                reply_class=one.reply_class,
                code=one.code,
                count=one.stands_for,
            )
            for one in causes
        ),
    )
