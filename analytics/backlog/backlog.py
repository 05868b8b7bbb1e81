"""Units that wait, folded from the records in which they stand: each counts once, at its latest. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from depesche.analytics.controls.orders import Traits, fits
from depesche.schemas.records import ControlScope

By = Literal["provider", "pool", "customer", "account", "campaign", "domain", "sender-domain", "rung", "why"]
WITH_COURIERS: Final = "couriers"
"""Where a unit stands that is in mail.outbound: its courier has it, or will take it next."""
ALL_BY: Final[tuple[By, ...]] = (
    "provider",
    "pool",
    "customer",
    "account",
    "campaign",
    "domain",
    "sender-domain",
    "rung",
    "why",
)


_TRAIT: Final[Mapping[By, str]] = {
    "provider": "provider",
    "customer": "tenant",
    "account": "account",
    "campaign": "campaign_id",
    "domain": "recipient_domain",
    "sender-domain": "sender_domain",
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """One unit that waits.

    Attributes:
        unit_id: which.
        traits: whose, and where to.
        rung: rung of the ladder, or ``couriers``.
        attempt: number of its next attempt.
        accepted_at: since when it is ours, in milliseconds since 1970 UTC.
        next_at: when it is tried next, in milliseconds since 1970 UTC; with its couriers: 0, as soon as there is room.
        why: what it waits for: ``reply 451 4.7.1``, ``no room``, ``suspended ID``, ``scheduled``, ``rerouted`` or ``new``.
        offset: where it stands in mail.outbound; -1 on the ladder.
    """

    unit_id: str
    traits: Traits
    rung: str
    attempt: int
    accepted_at: int
    next_at: int
    why: str
    offset: int = -1

    def value(self, by: By) -> str:
        """What it is counted under."""
        if by == "pool":
            return self.traits.route.partition("/")[0]
        if by in ("rung", "why"):
            return self.rung if by == "rung" else self.why
        return str(getattr(self.traits, _TRAIT[by]) or "")

    def to_json(self, now: int) -> dict[str, Any]:
        """As data; ``now`` in milliseconds since 1970 UTC."""
        traits = self.traits
        return {
            "unit_id": self.unit_id,
            "customer": traits.tenant,
            "account": traits.account,
            "campaign": traits.campaign_id,
            "provider": traits.provider,
            "domain": traits.recipient_domain,
            "sender_domain": traits.sender_domain,
            "pool": self.value("pool"),
            "rung": self.rung,
            "attempt": self.attempt,
            "age_seconds": (now - self.accepted_at) // 1000,
            "next_in_seconds": max(0, self.next_at - now) // 1000,
            "why": self.why,
        }


def waiting(raw: Mapping[str, Any], rung: str, headers: Mapping[str, bytes], offset: int = -1) -> Waiting:
    """The unit in a record of mail.outbound or the ladder.

    Args:
        raw: the record's fields, as the codec reads them.
        rung: where it was found.
        headers: the record's.
        offset: in mail.outbound.

    Raises:
        ValueError: the headers are not ours.
    """
    traits = Traits(
        raw["tenant"],
        raw["account"],
        raw["campaign_id"],
        raw["provider"],
        raw["recipient_domain"],
        raw["sender_domain"],
        raw["route"],
    )
    why = headers.get("why", b"").decode("utf-8", "replace")
    if not why:
        why = f"reply {raw['last_reply']}" if raw["last_reply"] else "no answer" if raw["attempt"] > 1 else "new"
    next_at = 0 if rung == WITH_COURIERS else int(headers.get("due", b"") or raw["due_at"])
    return Waiting(raw["unit_id"], traits, rung, raw["attempt"], raw["accepted_at"], next_at, why, offset)


@dataclass(slots=True)
class Group:
    """Units that have something in common.

    Attributes:
        units: how many wait.
        with_couriers: how many of them with their couriers.
        oldest: when the oldest was accepted, in milliseconds since 1970 UTC.
        next_at: when the first of those on the ladder is tried next; None: none is there.
        whys: how many wait for what.
    """

    units: int = 0
    with_couriers: int = 0
    oldest: int = 1 << 62
    next_at: int | None = None
    whys: Counter[str] = field(default_factory=Counter)

    def add(self, one: Waiting) -> None:
        """Count one more."""
        self.units += 1
        self.oldest = min(self.oldest, one.accepted_at)
        self.whys[one.why] += 1
        if one.rung == WITH_COURIERS:
            self.with_couriers += 1
        else:
            self.next_at = one.next_at if self.next_at is None else min(self.next_at, one.next_at)

    def to_json(self, now: int) -> dict[str, Any]:
        """As data; ``now`` in milliseconds since 1970 UTC."""
        return {
            "waiting": self.units,
            "with_couriers": self.with_couriers,
            "oldest_seconds": (now - self.oldest) // 1000,
            "next_in_seconds": None if self.next_at is None else max(0, self.next_at - now) // 1000,
            "why": dict(self.whys.most_common(3)),
        }


class Backlog:
    """The units of a scope that wait."""

    def __init__(self, scope: ControlScope) -> None:
        self.scope = scope
        self._with_couriers: dict[str, Waiting] = {}
        self._on_the_ladder: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return sum(1 for _ in self.units())

    def units(self) -> Iterator[Waiting]:
        """Each once; of one that stands twice, the place where it is further."""
        couriers, ladder = self._with_couriers, self._on_the_ladder
        for id_, one in couriers.items():
            if id_ not in ladder or ladder[id_].attempt <= one.attempt:
                yield one
        for id_, one in ladder.items():
            if id_ not in couriers or couriers[id_].attempt < one.attempt:
                yield one

    def take(self, one: Waiting) -> None:
        """A record in which a unit stands."""
        if not fits(self.scope, one.traits):
            return
        units = self._with_couriers if one.rung == WITH_COURIERS else self._on_the_ladder
        known = units.get(one.unit_id)
        if known is None or (one.attempt, one.offset) >= (known.attempt, known.offset):
            units[one.unit_id] = one

    def ended(self, unit_id: str, attempt: int, offset: int, *, parked: bool) -> None:
        """An attempt of a unit ended; what stands for it waits no more.

        Args:
            unit_id: which.
            attempt: which attempt.
            offset: where the unit then stood in mail.outbound.
            parked: whether it only was moved to the ladder: there, and in a later record, it still waits.
        """
        known = self._with_couriers.get(unit_id)
        its_place = known is not None and (not parked or known.attempt < attempt or known.offset <= offset)
        if known is not None and known.attempt <= attempt and its_place:
            del self._with_couriers[unit_id]
        waits = self._on_the_ladder.get(unit_id)
        if waits is not None and waits.attempt <= attempt and not parked:
            del self._on_the_ladder[unit_id]

    def groups(self, by: By) -> list[tuple[str, Group]]:
        """Counted by a trait, the largest first."""
        found: dict[str, Group] = {}
        for one in self.units():
            found.setdefault(one.value(by), Group()).add(one)
        return sorted(found.items(), key=lambda pair: (-pair[1].units, pair[0]))

    def total(self) -> Group:
        """All of them."""
        whole = Group()
        for one in self.units():
            whole.add(one)
        return whole

    def oldest(self, limit: int) -> list[Waiting]:
        """The ``limit`` that were accepted first, those first."""
        return sorted(self.units(), key=lambda one: (one.accepted_at, one.unit_id))[:limit]
