"""Blocklists: what is asked, what an answer means, and that only an answer of a sane list changes anything."""

import asyncio
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import dns.reversename
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from depesche.analytics.log.alerts import Ledger
from depesche.schemas.settings import DNSBLSettings, Settings
from depesche.streams.mail.dnsbl import Answer, State, Status, health, judge, plain_address, plain_reason, question
from depesche.streams.monitor.alert_writer import AlertWriter
from depesche.streams.monitor.blocklists import Blocklists

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
NONE, DEAD, ON = Answer("none"), Answer("failed", (), "no answer in time"), Answer("found", ("127.0.0.2",))
OURS = ("192.0.2.1", "2001:db8::1")


@given(ADDRESSES)
def test_an_address_is_asked_for_in_the_order_of_a_reverse_name(address: str) -> None:
    """dnspython's reverse names are made of the same octets and nibbles (RFC 5782 sections 2.1 and 2.4, RFC 3596 2.5)."""
    assume(getattr(ip_address(address), "ipv4_mapped", None) is None)  # dnspython takes those for IPv4.
    reverse = dns.reversename.from_address(address).to_text()
    wanted = reverse.replace("in-addr.arpa.", "bl.example").replace("ip6.arpa.", "bl.example")
    assert question(address, "bl.example.") == wanted


def test_the_examples_of_the_standard() -> None:
    assert question("192.0.2.99", "bad.example.com") == "99.2.0.192.bad.example.com"
    six = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ugly.example.com"
    assert question("2001:db8:1:2:3:4:567:89ab", "ugly.example.com") == six


@pytest.mark.parametrize(
    ("values", "state"),
    [
        (("127.0.0.2",), "listed"),
        (("127.0.0.4", "127.0.0.10"), "listed"),
        (("127.255.255.252",), "refused"),
        (("127.255.255.254",), "refused"),
        (("127.255.255.255", "127.0.0.2"), "refused"),
        (("203.0.113.9",), "refused"),
        (("127.0.0.2", "203.0.113.9"), "refused"),
        ((), "clear"),
    ],
)
def test_only_what_lies_in_the_loopback_net_and_is_no_error_is_a_listing(values: tuple[str, ...], state: State) -> None:
    assert judge(Answer("found", values)).state == state


@given(st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=4))
def test_a_listing_never_has_a_value_from_outside(values: list[str]) -> None:
    verdict = judge(Answer("found", tuple(values)))
    assert (verdict.state == "listed") == all(v.startswith("127.") and not v.startswith("127.255.255.") for v in values)


def test_a_listing_by_policy_is_told_apart_where_the_codes_mean_it() -> None:
    pbl = Answer("found", ("127.0.0.10", "127.0.0.11"))
    assert "policy" in judge(pbl, "zen.spamhaus.org").reason
    assert judge(Answer("found", ("127.0.0.10", "127.0.0.2")), "zen.spamhaus.org").reason == ""
    assert judge(pbl, "bl.example").reason == ""


@pytest.mark.parametrize(
    ("entry", "innocent", "usable"),
    [
        (ON, NONE, True),
        (ON, ON, False),
        (NONE, NONE, False),
        (NONE, ON, False),
        (DEAD, DEAD, None),
        (ON, DEAD, None),
        (DEAD, NONE, None),
        (Answer("found", ("127.255.255.254",)), NONE, False),
        (Answer("found", ("203.0.113.9",)), Answer("found", ("203.0.113.9",)), False),
    ],
)
def test_a_list_is_believed_only_when_both_test_entries_are_right(
    entry: Answer, innocent: Answer, usable: bool | None
) -> None:
    assert health(entry, innocent).usable is usable


@given(st.lists(st.text(), max_size=5).map(tuple))
def test_a_list_s_own_words_are_one_short_printable_line(texts: tuple[str, ...]) -> None:
    said = plain_reason(texts)
    assert len(said) <= 200 and said.isprintable()


def test_what_is_no_address_is_left_out() -> None:
    assert [plain_address(text) for text in ("192.0.2.1", " 2001:DB8::1 ", "mx1.example", "")] == [*OURS, "", ""]


@dataclass
class Lists:
    """Blocklists of a test: by zone whether it is sane, and what it lists; a zone can fail altogether."""

    zones: dict[str, set[str]]
    state: dict[str, Status | str] = field(default_factory=dict)

    async def addresses(self, name: str) -> Answer:
        zone = next(zone for zone in self.zones if name.endswith(f".{zone}"))
        state = self.state.get(zone, "")
        if state == "failed":
            return DEAD
        if state == "everything":
            return ON
        if state == "dead":
            return NONE
        entries = {question(one, zone) for one in (*self.zones[zone], "127.0.0.2", "::ffff:127.0.0.2")}
        return ON if name in entries else NONE

    async def reason(self, name: str) -> str:
        return f"see https://bl.example/{name}"


class Producer:
    """Acknowledges at once."""

    async def send(self, *_: Any, **__: Any) -> "asyncio.Future[Any]":
        sent = asyncio.get_running_loop().create_future()
        sent.set_result(SimpleNamespace(offset=0))
        return sent


class World:
    """The rounds with the log's ledger behind them; ``restart`` forgets all but the ledger."""

    def __init__(self, lists: Lists, ours: Collection[str] = OURS) -> None:
        self.lists, self.ours, self.ledger = lists, set(ours), Ledger()
        self.restart()

    def restart(self) -> None:
        writer = AlertWriter(Settings(), self.ledger, Producer())  # type: ignore[arg-type]
        settings = DNSBLSettings(zones=tuple(self.lists.zones))
        self.rounds = Blocklists(settings, self.lists, lambda: self.ours, writer, lambda: 1, random.Random(1))

    async def look(self) -> list[str]:
        before = len(self.ledger.alerts)
        await self.rounds.look()
        return [f"{one.kind.value} {one.subject} {one.state.value}" for one in self.ledger.alerts[before:]]


async def test_each_change_of_a_listing_is_said_once_also_over_a_restart() -> None:
    world = World(Lists({"bl.test": set()}))
    assert await world.look() == []
    world.lists.zones["bl.test"] = set(OURS)
    assert await world.look() == [f"listed {one}/bl.test raised" for one in OURS]
    assert "see https://bl.example/1.2.0.192.bl.test" in world.ledger.alerts[0].explanation
    world.restart()
    assert await world.look() == []
    world.lists.zones["bl.test"] = {OURS[1]}
    assert await world.look() == ["listed 192.0.2.1/bl.test cleared"]


@pytest.mark.parametrize("state", ["failed", "everything", "dead"])
async def test_a_list_that_cannot_be_believed_changes_no_address_and_is_reported_once(state: str) -> None:
    world = World(Lists({"bl.test": {OURS[0]}}))
    assert await world.look() == ["listed 192.0.2.1/bl.test raised"]
    world.lists.state["bl.test"] = state
    said = [line for _ in range(6) for line in await world.look()]
    assert {line for line in said if "/ipv6" not in line} == {"list_unusable bl.test raised"}
    assert len(said) == len(set(said))
    world.restart()
    assert [line for _ in range(6) for line in await world.look()] == []
    world.lists.state = {}
    cleared = await world.look()
    assert "list_unusable bl.test cleared" in cleared and all(line.endswith("cleared") for line in cleared)
    assert [str(key) for key in world.ledger.open()] == ["listed/high/192.0.2.1/bl.test"]


async def test_one_round_without_an_answer_is_nothing() -> None:
    world = World(Lists({"bl.test": set()}, {"bl.test": "failed"}))
    assert [await world.look(), await world.look()] == [[], []]
    world.lists.state = {}
    assert await world.look() == []


async def test_an_address_that_is_given_up_and_a_list_that_is_dropped_end_their_alerts() -> None:
    world = World(Lists({"bl.test": set(OURS), "other.test": {OURS[0]}}))
    assert len(await world.look()) == 3
    world.ours.remove(OURS[0])
    assert sorted(await world.look()) == ["listed 192.0.2.1/bl.test cleared", "listed 192.0.2.1/other.test cleared"]
    world.lists.zones = {}
    world.restart()
    assert await world.look() == ["listed 2001:db8::1/bl.test cleared"]
    assert world.ledger.open() == {}
