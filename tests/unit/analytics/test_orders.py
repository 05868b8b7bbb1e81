"""Which order is about a unit: compiled and plain give the same answer, and no two orders send a unit round in a circle."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.analytics.controls.orders import FIELDS, Orders, Traits, described, fits
from depesche.schemas.records import Control, ControlAction, ControlScope, ControlState

NOW = 1_000_000
RANK = {ControlAction.DROP: 0, ControlAction.SUSPEND: 1}
values = st.sampled_from(["a", "b", "c"])
maybe = st.none() | values
scopes = st.builds(ControlScope, **dict.fromkeys((*FIELDS, "pool"), maybe))
units = st.builds(
    Traits, values, values, maybe, values, values, values, st.builds(lambda pool: f"{pool}/gmail/0", values)
)


def control(action: ControlAction = ControlAction.SUSPEND, id_: str = "x", **more: object) -> Control:
    made = Control(
        control_id=id_,
        action=action,
        scope=ControlScope(),
        by="test",
        at=NOW - 10,
        state=ControlState.ACTIVE,
        changed_at=NOW - 10,
    )
    return replace(made, **more)  # type: ignore[arg-type]


orders_of = st.lists(
    st.builds(
        control,
        action=st.sampled_from([ControlAction.DROP, ControlAction.SUSPEND, ControlAction.RETRY, ControlAction.UNKNOWN]),
        scope=scopes,
        state=st.sampled_from([ControlState.ACTIVE, ControlState.ACTIVE, ControlState.LIFTED]),
        until=st.none() | st.integers(NOW - 5, NOW + 5),
    ),
    max_size=8,
)


@given(orders_of, units)
def test_the_index_finds_what_a_look_at_every_order_finds(given_orders: list[Control], unit: Traits) -> None:
    orders = Orders()
    for offset, one in enumerate(given_orders):
        orders.apply(replace(one, control_id=str(offset)), offset)
    plain = [
        order
        for order in orders.all()
        if order.control.state is ControlState.ACTIVE
        and order.control.action in RANK
        and (order.control.until is None or order.control.until > NOW)
        and all(getattr(order.control.scope, name) in (None, getattr(unit, name)) for name in FIELDS)
        and order.control.scope.pool in (None, unit.route.partition("/")[0])
    ]
    plain.sort(key=lambda order: (RANK[order.control.action], -order.offset))
    assert orders.about(unit, NOW) == (plain[0] if plain else None)


@given(st.lists(st.tuples(maybe, values), max_size=6), units)
def test_rerouting_ends_at_a_pool_from_which_it_goes_no_further(
    hops: list[tuple[str | None, str]], unit: Traits
) -> None:
    orders = Orders()
    for offset, (pool, target) in enumerate(hops):
        scope = ControlScope(pool=pool)
        orders.apply(control(ControlAction.REROUTE, str(offset), scope=scope, target_pool=target), offset)
    pool = orders.pool_for(unit, NOW)
    there = unit._replace(route=f"{pool}/gmail/0")
    assert orders.pool_for(there, NOW) == pool
    assert (orders.about(unit, NOW) is None) == (pool == unit.route.partition("/")[0])


def test_an_order_ends_by_itself_or_when_it_is_lifted() -> None:
    orders, unit = Orders(), Traits("1", "main", None, "gmail", "gmail.com", "shop.test", "shared/gmail/0")
    orders.apply(control(until=NOW + 5), 0)
    assert orders.about(unit, NOW) is not None
    assert orders.about(unit, NOW + 5) is None
    orders.apply(control(state=ControlState.LIFTED), 1)
    assert orders.about(unit, NOW) is None
    orders.apply(control(), 2)
    orders.remove("x")
    assert orders.about(unit, NOW) is None
    assert orders.find("x") is None


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (ControlScope(), "everything"),
        (ControlScope(provider="gmail", tenant="10001"), "customer 10001, provider gmail"),
    ],
)
def test_a_scope_is_told_in_words(scope: ControlScope, words: str) -> None:
    assert described(scope) == words


def test_a_unit_without_a_campaign_is_in_no_campaigns_scope() -> None:
    unit = Traits("1", "main", None, "gmail", "gmail.com", "shop.test", "shared/gmail/0")
    assert not fits(ControlScope(campaign_id="summer", tenant="1"), unit)
    assert fits(ControlScope(campaign_id="summer", tenant="1"), unit._replace(campaign_id="summer"))
