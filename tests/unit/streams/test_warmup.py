"""The warm-up plan: never more than the allowance, cold before warm, the family that is needed, a new day at midnight UTC."""

from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from depesche.schemas.records import Pool, PoolAddress
from depesche.streams.agents.rates import Held
from depesche.streams.agents.warmup import count_of, key_of
from depesche.streams.mail.warmup import (
    CAP,
    DAY_MS,
    DEFAULT_PLAN,
    allowance,
    chosen,
    day_of,
    plan_of,
    warm,
    warm_at,
)
from depesche.streams.stages.warming import Warming

TODAY = 20_000 * DAY_MS
IPS = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2")
HELPING = ("198.51.100.1", "2001:db8:1::1")
BEGUN = st.one_of(st.none(), st.integers(-40, 3).map(lambda day: TODAY + day * DAY_MS + 5))


def pools(ips: tuple[str, ...], least: int = 1) -> st.SearchStrategy[Pool]:
    """Pools of some of these addresses, each cold, warm or not begun, with a short plan or the service's."""
    some = st.lists(st.sampled_from(ips), unique=True, min_size=least)
    addresses = some.flatmap(lambda own: st.tuples(*(BEGUN.map(lambda at, ip=ip: _cold(ip, at)) for ip in own)))
    plans = st.one_of(st.just(()), st.lists(st.integers(0, 6), min_size=1, max_size=5).map(tuple))
    return st.builds(lambda own, plan: Pool(addresses=tuple(own), warm_up_plan=plan), addresses, plans)


def _cold(ip: str, begun: int | None) -> PoolAddress:
    return PoolAddress(ip=ip, warm_up_from=begun)


class Unheard:
    """A fold that has told nothing, or what it is given."""

    def __init__(self, told: Callable[[str], int] = lambda ip: 0) -> None:
        self._told = told

    def used(self, ip: str, provider: str, day: int) -> int:
        return self._told(ip)


def test_the_services_plan_doubles_to_its_cap_and_ends_after_thirty_days() -> None:
    assert DEFAULT_PLAN[:4] == (50, 100, 200, 400)
    assert (max(DEFAULT_PLAN), DEFAULT_PLAN[10], DEFAULT_PLAN[9], len(DEFAULT_PLAN)) == (CAP, CAP, CAP // 2, 30)
    address = _cold("192.0.2.1", TODAY + DAY_MS - 1)
    assert allowance(address, DEFAULT_PLAN, TODAY - 1) == 0  # It has not begun.
    assert allowance(address, DEFAULT_PLAN, TODAY) == 50  # The day on which it began, from its midnight.
    assert allowance(address, DEFAULT_PLAN, TODAY + DAY_MS) == 100
    assert warm_at(address, DEFAULT_PLAN) == TODAY + 30 * DAY_MS
    assert not warm(address, DEFAULT_PLAN, TODAY + 30 * DAY_MS - 1)
    assert allowance(address, DEFAULT_PLAN, TODAY + 30 * DAY_MS) is None


@given(pools(IPS), st.one_of(st.none(), pools(HELPING)), st.booleans(), st.integers(0, DAY_MS - 1), st.data())
def test_a_mail_takes_a_cold_address_with_room_then_a_warm_one_then_a_helper(
    own: Pool, overflow: Pool | None, ipv6: bool, later: int, data: st.DataObject
) -> None:
    now, turn = TODAY + later, data.draw(st.integers(0, 100))
    used = data.draw(st.fixed_dictionaries(dict.fromkeys((*IPS, *HELPING), st.integers(0, 8))))
    found = chosen(own, overflow, ipv6=ipv6, used=used.__getitem__, now=now, turn=turn)

    def of_kind(pool: Pool, kind: str) -> set[str]:
        names = set()
        for address in pool.addresses:
            allowed = allowance(address, plan_of(pool), now)
            free = "warm" if allowed is None else "room" if used[address.ip] < allowed else "none"
            if (":" in address.ip) == ipv6 and free == kind:
                names.add(address.ip)
        return names

    helpers = of_kind(overflow, "warm") if overflow else set()
    best = of_kind(own, "room") or of_kind(own, "warm") or helpers
    assert (found.ip in best) if found is not None else not best


@given(pools(IPS), st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=60))
def test_couriers_never_pass_the_allowance_and_use_it_up_first(own: Pool, mails: list[tuple[str, bool]]) -> None:
    """Whatever is asked in whatever order, with a fold that lags behind for ever: the local count holds the allowance."""
    warming, sent = Warming({"vip": own}.get, Unheard(), lambda: TODAY), Counter[tuple[str, str]]()
    by_ip = {address.ip: address for address in own.addresses}
    for turn, (provider, ipv6) in enumerate(mails):
        cold_room = any(
            sent[ip, provider] < (allowance(address, plan_of(own), TODAY) or 0)
            for ip, address in by_ip.items()
            if (":" in ip) == ipv6
        )
        taken = warming.take("vip", provider, ipv6=ipv6, turn=turn)
        if taken is None:
            assert not cold_room
            continue
        assert taken.ip in by_ip
        assert (":" in taken.ip) == ipv6
        assert warm(taken, plan_of(own), TODAY) != cold_room
        sent[taken.ip, provider] += 1
    for (ip, _), count in sent.items():
        allowed = allowance(by_ip[ip], plan_of(own), TODAY)
        assert allowed is None or count <= allowed


def test_a_connection_ends_with_the_allowance_and_a_new_day_brings_a_new_one() -> None:
    now, told = TODAY, Counter[str]()
    own = Pool(addresses=(_cold("192.0.2.1", TODAY),), warm_up_plan=(3, 4))
    warming = Warming({"vip": own}.get, Unheard(lambda ip: told[ip]), lambda: now)
    assert warming.take("vip", "gmail", ipv6=False, turn=1) == own.addresses[0]
    warming.give_back("gmail", "192.0.2.1")  # No connection: the place is free again.
    again = [warming.take_again("vip", "gmail", "192.0.2.1") for _ in range(5)]
    assert again == [True, True, True, False, False]
    assert warming.take("vip", "gmail", ipv6=False, turn=2) is None
    assert warming.take("vip", "gmx", ipv6=False, turn=2) is not None  # Each provider has its own count.
    now += DAY_MS
    assert [warming.take_again("vip", "gmail", "192.0.2.1") for _ in range(5)] == [True] * 4 + [False]
    now += DAY_MS
    assert warming.take_again("vip", "gmail", "192.0.2.1")  # Warm.


def test_what_others_have_sent_counts_as_soon_as_it_is_told() -> None:
    told = Counter[str]()
    own = Pool(addresses=(_cold("192.0.2.1", TODAY),), warm_up_plan=(5,))
    warming = Warming({"vip": own}.get, Unheard(lambda ip: told[ip]), lambda: TODAY)
    told["192.0.2.1"] = 2  # A predecessor's, before our first.
    assert [warming.take_again("vip", "gmail", "192.0.2.1") for _ in range(2)] == [True, True]
    told["192.0.2.1"] = 5  # Ours and one of somebody else.
    assert not warming.take_again("vip", "gmail", "192.0.2.1")


@given(st.text(max_size=30), st.sampled_from(IPS), st.integers(0, 30_000), st.integers(0, 255))
def test_a_key_reads_back_whatever_the_provider_is_called(provider: str, ip: str, day: int, partition: int) -> None:
    told = count_of(key_of(ip, provider, day * DAY_MS, partition), Held(3, 7))
    assert (told.source_ip, told.provider, told.day, told.source_partition) == (ip, provider, day * DAY_MS, partition)
    assert (told.count, told.watermark, day_of(told.day + 5)) == (3, 7, told.day)
