"""Units that wait are counted once, wherever and however often they stand."""

import pytest

from depesche.analytics.backlog.backlog import WITH_COURIERS, Backlog, Waiting, waiting
from depesche.analytics.controls.orders import Traits
from depesche.schemas.records import ControlScope

TRAITS = Traits("10001", "main", None, "gmail", "gmail.com", "shop.test", "shared/gmail/0")


def one(unit: str = "u", rung: str = WITH_COURIERS, attempt: int = 1, offset: int = 5, **more: object) -> Waiting:
    values = {"accepted_at": 1_000, "next_at": 9_000, "why": "new", **more}
    return Waiting(unit, TRAITS, rung, attempt, offset=offset if rung == WITH_COURIERS else -1, **values)  # type: ignore[arg-type]


def stands(*places: Waiting) -> Backlog:
    backlog = Backlog(ControlScope())
    for place in places:
        backlog.take(place)
    return backlog


def test_a_unit_that_stands_twice_counts_where_it_is_further() -> None:
    assert [unit.rung for unit in stands(one(), one(rung="5m", attempt=2)).units()] == ["5m"]
    assert [unit.rung for unit in stands(one(attempt=2), one(rung="5m", attempt=2)).units()] == [WITH_COURIERS]
    assert [unit.offset for unit in stands(one(offset=9), one(offset=5)).units()] == [9]


def test_what_was_delivered_waits_no_more_and_what_was_parked_waits_on_the_ladder() -> None:
    backlog = stands(one("done"), one("parked"), one("parked", rung="1m"), one("came back", offset=8))
    backlog.ended("done", 1, 5, parked=False)
    backlog.ended("parked", 1, 5, parked=True)
    backlog.ended("came back", 1, 3, parked=True)
    assert sorted((unit.unit_id, unit.rung) for unit in backlog.units()) == [
        ("came back", WITH_COURIERS),
        ("parked", "1m"),
    ]


def test_a_deferred_unit_waits_for_its_next_attempt() -> None:
    backlog = stands(one(), one(rung="15m", attempt=2, why="reply 451 4.7.1"))
    backlog.ended("u", 1, 5, parked=False)
    [(name, group)] = backlog.groups("why")
    assert (name, group.units, group.next_at) == ("reply 451 4.7.1", 1, 9_000)


def test_only_the_scope_counts() -> None:
    backlog = Backlog(ControlScope(provider="microsoft"))
    backlog.take(one())
    assert len(backlog) == 0


@pytest.mark.parametrize(
    ("attempt", "last_reply", "why", "told"),
    [
        (1, None, b"", "new"),
        (2, "451 4.7.1", b"", "reply 451 4.7.1"),
        (2, None, b"", "no answer"),
        (2, "451 4.7.1", b"no room", "no room"),
    ],
)
def test_why_a_unit_waits(attempt: int, last_reply: str | None, why: bytes, told: str) -> None:
    raw = {
        **TRAITS._asdict(),
        "unit_id": "u",
        "attempt": attempt,
        "accepted_at": 1,
        "due_at": 2,
        "last_reply": last_reply,
    }
    headers = {"due": b"3", **({"why": why} if why else {})}
    assert waiting(raw, "1m", headers).why == told
    assert waiting(raw, "1m", headers).next_at == 3


def test_groups_are_counted_by_any_trait_the_largest_first() -> None:
    backlog = stands(one("a"), one("b", rung="1m", attempt=2, next_at=7), one("c", rung="1m", attempt=2, next_at=5))
    assert [(name, group.units) for name, group in backlog.groups("rung")] == [("1m", 2), (WITH_COURIERS, 1)]
    [(_, whole)] = backlog.groups("customer")
    assert whole.to_json(2_000) == {
        "waiting": 3,
        "with_couriers": 1,
        "oldest_seconds": 1,
        "next_in_seconds": 0,
        "why": {"new": 3},
    }
