"""How long a unit may wait for its hosts, and how a lane backs off."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

from depesche.schemas.records import MailUnit
from depesche.streams.mail.shaping.shape import Shape
from depesche.streams.stages.errand import Errand
from depesche.streams.stages.lane import STILL_SECONDS, Lane, asked_tls, lane_key
from depesche.streams.wire.dns import Host, Hosts

ERRAND = cast(Errand, SimpleNamespace(unit=SimpleNamespace(tenant="1")))


SHAPE = Shape("example.org", 10, None, 100, ("1m",))


def lane() -> Lane:
    return Lane("mx", Hosts("example.org", "found"), 100.0)


def test_an_empty_lane_makes_nobody_wait_however_long_it_was_empty() -> None:
    made = lane()
    made.add(ERRAND, 5000.0)
    assert made.wait_expected(5000.0, "1") < 1
    assert not made.stands(5000.0)


def test_a_lane_that_moves_keeps_its_units_and_one_that_stands_does_not() -> None:
    made = lane()
    made.add(ERRAND, 100.0)
    made.under_way = 1
    for number in range(50):
        made.add(ERRAND, 100.0)
        made.moved(100.0 + number * 0.01)
    moving = made.wait_expected(100.5, "1")
    standing = made.wait_expected(100.5 + STILL_SECONDS + 10, "1")
    assert moving < 1
    assert standing > 60
    assert made.stands(100.5 + STILL_SECONDS + 10)


def test_one_halt_of_a_second_is_no_new_speed_but_a_slow_lane_is_soon_known_as_slow() -> None:
    made, now = lane(), 100.0
    for _ in range(4000):
        made.add(ERRAND, now)
    for gap in (*[0.004] * 2000, 1.0, *[0.004] * 5):
        now += gap
        made.moved(now)
    assert 10 < made.wait_expected(now, "1") < 60
    for _ in range(10):
        now += 1.0
        made.moved(now)
    assert made.wait_expected(now, "1") > 60


def test_failures_close_the_lane_for_longer_and_longer_and_then_let_one_probe() -> None:
    made = lane()
    first = made.back_off(100.0, 1.0)
    assert 12 <= first <= 18
    assert made.closed(100.0 + first - 0.1)
    assert not made.closed(100.0 + first + 0.1)
    assert made.limit(200.0) == 1
    assert [made.back_off(200.0, 1.0) for _ in range(12)][-1] <= 720
    made.moved(300.0)
    assert made.limit(300.0) > 100


def test_a_refused_connection_beside_others_lowers_the_number_for_a_minute() -> None:
    made = lane()
    made.refused_one_more(5, 100.0)
    assert made.limit(100.0) == 5
    assert made.limit(161.0) > 100
    assert not made.closed(100.0)


def test_a_lane_is_forgotten_only_when_nothing_needs_to_be_remembered() -> None:
    made = lane()
    made.back_off(100.0, 1.0)
    assert not made.forgettable(101.0)
    assert made.forgettable(1000.0)


def test_what_must_be_encrypted_has_a_lane_of_its_own() -> None:
    hosts = Hosts("example.org", "found", ((Host("mx.example.org", ("192.0.2.1",)),),))
    may, must, strange = (cast(MailUnit, SimpleNamespace(tls=word)) for word in ("may", "must", "of another version"))
    assert [asked_tls(unit, SHAPE) for unit in (may, must, strange)] == ["may", "must", "must"]
    assert asked_tls(may, replace(SHAPE, tls="must")) == "must"
    assert lane_key("may", hosts) != lane_key("must", hosts)
