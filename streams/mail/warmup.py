"""Warm-up: how many mails an own address that nobody knows yet may send to a provider today, and which address sends the next.

A provider trusts an address by what it has seen of it, so each provider is told of a new one slowly, day by day (UTC). Cold
addresses get their allowance first, because only what they send warms them; the rest goes to warm ones. Pure: counts, time and
turn are arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from depesche.schemas.records import Pool, PoolAddress

DAY_MS = 86_400_000
FIRST = 50
CAP = 51_200
"""Ten doublings of the first day: who sends more than that to one provider a day has a plan of their own."""
DAYS = 30
DEFAULT_PLAN: tuple[int, ...] = tuple(min(CAP, FIRST << day) for day in range(DAYS))
"""Mails per provider on each day: 50, 100, 200 ... 51,200 on the eleventh day and every day until the thirtieth."""


def day_of(now: int) -> int:
    """Start of the UTC day of ``now``, both in milliseconds since 1970."""
    return now // DAY_MS * DAY_MS


def plan_of(pool: Pool) -> Sequence[int]:
    """The plan of a pool's addresses: mails per provider, day by day."""
    return pool.warm_up_plan or DEFAULT_PLAN


def day_of_plan(address: PoolAddress, now: int) -> int | None:
    """Which day of its warm-up an address has at ``now``, the first being 0; below: it has not begun; None: it has none."""
    return None if address.warm_up_from is None else (day_of(now) - day_of(address.warm_up_from)) // DAY_MS


def warm_at(address: PoolAddress, plan: Sequence[int]) -> int | None:
    """When an address is warm, in milliseconds since 1970 UTC; None: it has always been."""
    return None if address.warm_up_from is None else day_of(address.warm_up_from) + len(plan) * DAY_MS


def warm(address: PoolAddress, plan: Sequence[int], now: int) -> bool:
    """Whether an address may send as much as it likes at ``now``."""
    at = warm_at(address, plan)
    return at is None or now >= at


def allowance(address: PoolAddress, plan: Sequence[int], now: int) -> int | None:
    """Mails that an address may send to each provider on the day of ``now``; None: as many as it likes."""
    day = day_of_plan(address, now)
    if day is None or day >= len(plan):
        return None
    return max(0, plan[day]) if day >= 0 else 0


def room(address: PoolAddress, plan: Sequence[int], used: int, now: int) -> bool:
    """Whether an address that has sent ``used`` mails to a provider today may send one more."""
    allowed = allowance(address, plan, now)
    return allowed is None or used < allowed


def chosen(
    own: Pool, overflow: Pool | None, *, ipv6: bool, used: Callable[[str], int], now: int, turn: int
) -> PoolAddress | None:
    """The own address that sends the next mail to a provider, equal ones each in turn.

    Args:
        own: the pool that the mail leaves from.
        overflow: the pool whose warm addresses help when those of ``own`` may not; None: nobody helps.
        ipv6: the family that is needed.
        used: what an own address has sent to the provider today.
        now: milliseconds since 1970 UTC.
        turn: any number; grows from mail to mail.

    Returns:
        A cold address with something left, else a warm one of the pool, else a warm one of the overflow pool. None: there is no
        address of the family, or only cold ones that have sent what they may today.
    """
    plan = plan_of(own)
    fitting = [address for address in own.addresses if (":" in address.ip) == ipv6]
    at_ease = [address for address in fitting if warm(address, plan, now)]
    cold = [address for address in fitting if address not in at_ease and room(address, plan, used(address.ip), now)]
    helping = overflow.addresses if overflow is not None and not (cold or at_ease) else ()
    others = [a for a in helping if (":" in a.ip) == ipv6 and overflow and warm(a, plan_of(overflow), now)]
    best = cold or at_ease or others
    return best[turn % len(best)] if best else None
