"""A small world for the law of pace: providers with limits of their own, and couriers that obey a little late."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from depesche.schemas.identity import event_id
from depesche.schemas.records import AttemptDetail, EventType, MailEvent, PaceAction, PaceSignal, PaceState
from depesche.schemas.settings import PaceSettings
from depesche.streams.mail.pace import Law
from depesche.streams.mail.pace_sample import Sampler
from depesche.streams.mail.pace_standing import Standing
from depesche.streams.mail.reply import Judgement
from depesche.streams.mail.restraint import Restraint

START = 1_800_000_000_000
MINUTE = 60_000
SETTINGS = PaceSettings.model_validate({})
CONNECTIONS = 10
OBEY_MS = 3_000
"""How long couriers take to hear of a decision."""

Answer = tuple[EventType, AttemptDetail]

_DETAIL = AttemptDetail(
    host="mx.isp.test",
    remote_ip="127.0.0.2",
    source_ip="127.0.0.4",
    tls="",
    code=250,
    enhanced_code="2.0.0",
    step="dot",
    reply_class="",
    kind="",
    queue_id="",
    millis=5,
    pool="shared",
)
TAKEN: Answer = (EventType.DELIVERED, _DETAIL)


def refusal(code: int, reply_class: str, step: str = "rcpt") -> Answer:
    """A refusal as it stands in an event."""
    kind = EventType.BOUNCED if code // 100 == 5 else EventType.DEFERRED
    return kind, replace(_DETAIL, code=code, reply_class=reply_class, step=step)


TOO_FAST = refusal(421, "rate_limited")
CROWDED = refusal(421, "rate_limited", "banner")
BLOCKED = refusal(550, "reputation")


def outcome(number: int, at: int, answer: Answer, provider: str = "isp") -> MailEvent:
    """An outcome as couriers write it."""
    return MailEvent(
        event_id=event_id(f"{provider}.{number}", answer[0].value, 1),
        type=answer[0],
        unit_id=f"{provider}.{number}",
        job_id=provider,
        tenant="1",
        account="a",
        recipient_key="0",
        occurred_at=at,
        sequence=101,
        attempt=1,
        worker="w",
        provider=provider,
        detail=answer[1],
    )


@dataclass
class RateLimit:
    """A provider that takes so many in any minute and answers 421 to the rest."""

    per_minute: int | None
    taken: deque[int] = field(default_factory=deque)

    def __call__(self, at: int, connections: int) -> Answer:
        while self.taken and self.taken[0] <= at - MINUTE:
            self.taken.popleft()
        if self.per_minute is not None and len(self.taken) >= self.per_minute:
            return TOO_FAST
        self.taken.append(at)
        return TAKEN


@dataclass
class World:
    """Couriers with more mail than anybody takes, one provider, and the law between them.

    Attributes:
        provider: gives the answer to an attempt at a time, over so many connections.
        demand: attempts a minute without a limit.
        restraint: the couriers' own reflex; None: they only obey the law.
    """

    provider: Callable[[int, int], Answer]
    demand: float = 600
    partitions: int = 2
    settings: PaceSettings = SETTINGS
    restraint: Restraint | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    now: int = START
    decisions: list[PaceState] = field(default_factory=list)
    signals: list[PaceSignal] = field(default_factory=list)
    per_minute: dict[int, list[int]] = field(default_factory=dict)
    _number: int = 0
    _allowance: float = 0.0
    _offset: int = 0

    def __post_init__(self) -> None:
        self.law, self.standing = Law(self.settings, CONNECTIONS), Standing()
        self._samplers = [Sampler(self.settings, n, self.partitions) for n in range(self.partitions)]

    def in_force(self) -> PaceState | None:
        """The decision that couriers know of."""
        known = [one for one in self.decisions[-3:] if one.at <= self.now - OBEY_MS]
        return known[-1] if known else (self.decisions[-4] if len(self.decisions) > 3 else None)

    def run(self, minutes: float) -> None:
        """Let time pass, a tenth of a second at a time."""
        end = self.now + round(minutes * MINUTE)
        while self.now < end:
            self.now += 100
            pace = self.in_force()
            if pace is not None and pace.suspended_until is not None and self.now < pace.suspended_until:
                continue
            limited = pace is not None and self.now < (pace.ends_at or 0)
            rate = min(self.demand, pace.per_minute if pace and limited and pace.per_minute else self.demand)
            if self.restraint is not None:
                rate = min(rate, self.restraint.per_minute(self.now / 1000) or rate)
            connections = pace.connections if pace and limited and pace.connections else CONNECTIONS
            self._allowance = min(self._allowance + rate / 600, max(1.0, rate / 60))
            while self._allowance >= 1:
                self._allowance -= 1
                self.attempt(connections)

    def attempt(self, connections: int = CONNECTIONS) -> None:
        """One unit is tried now."""
        self._number += 1
        answer = self.provider(self.now, connections)
        self._feel(answer)
        counts = self.per_minute.setdefault((self.now - START) // MINUTE, [0, 0])
        counts[answer[0] is not EventType.DELIVERED] += 1
        partition = self.chance.randrange(self.partitions)
        self._offset += 1
        signal = self._samplers[partition].take(outcome(self._number, self.now, answer), self._offset)
        if signal is not None:
            self.signals.append(signal)
            self.standing, decision = self.law.decide(self.standing, signal)
            if decision is not None:
                self.decisions.append(decision)

    def _feel(self, answer: Answer) -> None:
        if self.restraint is None:
            return
        type_, said = answer
        if type_ is EventType.DELIVERED:
            self.restraint.taken(self.now / 1000)
        elif self.restraint.refused(
            Judgement("deferred", said.reply_class, "soft", ""), said.code, (), self.now / 1000
        ):
            self._allowance = 0.0

    def minutes(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Delivered and refused in each of these minutes."""
        for minute in range(first, last):
            delivered, refused = self.per_minute.get(minute, (0, 0))
            yield delivered, refused

    def actions(self) -> list[PaceAction]:
        """What was decided, in order."""
        return [decision.action for decision in self.decisions]
