"""Where mail for a domain goes, asked of a real name server that can fail on purpose."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from depesche.infra.local.dns import DNSServer
from depesche.infra.local.published import ZoneFolder
from depesche.infra.local.zone import Record
from depesche.schemas.settings import DNSSettings
from depesche.streams.wire.dns import Hosts, Resolver
from tests.contract.far_side import dns_server, zone

__all__ = ["dns_server", "zone"]


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def make(dns_server: DNSServer, clock: Clock) -> AsyncIterator[Callable[..., Resolver]]:
    made: list[Resolver] = []

    def make(*, allow_private: bool = True, timeout: float = 5.0, cache: int = 3600) -> Resolver:
        settings = DNSSettings(servers=(f"127.0.0.1:{dns_server.port}",), timeout_seconds=timeout, cache_seconds=cache)
        made.append(Resolver(settings, allow_private=allow_private, clock=clock))
        return made[-1]

    yield make
    for resolver in made:
        await resolver.close()


def names(hosts: Hosts) -> list[list[str]]:
    return [[host.name for host in group] for group in hosts.groups]


async def test_exchangers_come_by_preference_with_their_addresses(make: Callable[..., Resolver]) -> None:
    hosts = await make().mail_hosts("manymx.test")
    assert hosts.verdict == "found"
    assert [sorted(group) for group in names(hosts)] == [
        ["mx1.manymx.test"],
        ["mx2.manymx.test", "mx3.manymx.test"],
        ["mx4.manymx.test"],
    ]
    assert all(host.addresses for group in hosts.groups for host in group)


async def test_equal_exchangers_are_shuffled_and_unequal_ones_are_not(make: Callable[..., Resolver]) -> None:
    hosts = await make().mail_hosts("manymx.test")
    orders = {tuple(host.name for host in hosts.in_order(random.Random(seed))) for seed in range(50)}
    assert orders == {
        ("mx1.manymx.test", "mx2.manymx.test", "mx3.manymx.test", "mx4.manymx.test"),
        ("mx1.manymx.test", "mx3.manymx.test", "mx2.manymx.test", "mx4.manymx.test"),
    }


async def test_without_mx_the_domain_itself_takes_the_mail(make: Callable[..., Resolver]) -> None:
    assert names(await make().mail_hosts("nomx.test")) == [["nomx.test"]]


@pytest.mark.parametrize(
    ("domain", "verdict", "enhanced"),
    [
        ("nullmx.test", "permanent", "5.1.10"),
        ("no-such-domain.test", "permanent", "5.1.2"),
        ("danglingmx.test", "permanent", "5.4.4"),
        ("danglingalias.test", "permanent", "5.1.2"),
        ("literalmx.test", "permanent", "5.4.4"),
        ("txt.test", "permanent", "5.4.4"),
        ("servfail.test", "temporary", "4.4.3"),
        ("refused.test", "temporary", "4.4.3"),
        ("loop.test", "temporary", "4.4.3"),
    ],
)
async def test_a_domain_that_takes_no_mail(
    make: Callable[..., Resolver], domain: str, verdict: str, enhanced: str
) -> None:
    hosts = await make().mail_hosts(domain)
    assert (hosts.verdict, hosts.enhanced) == (verdict, enhanced)
    assert hosts.reason


async def test_a_name_server_that_says_nothing_is_a_temporary_failure(make: Callable[..., Resolver]) -> None:
    hosts = await make(timeout=0.2).mail_hosts("timeout.test")
    assert (hosts.verdict, hosts.reason) == ("temporary", "DNS: no answer in time")


@pytest.mark.parametrize("domain", ["alias.test", "aliasofalias.test", "aliasmx.test"])
async def test_aliases_are_followed(make: Callable[..., Resolver], domain: str) -> None:
    hosts = await make().mail_hosts(domain)
    assert hosts.verdict == "found"
    assert hosts.groups[0][0].addresses == ("127.0.0.2",)


async def test_a_truncated_answer_is_asked_for_again_over_tcp(make: Callable[..., Resolver]) -> None:
    assert (await make().mail_hosts("truncate.test")).verdict == "found"


@pytest.mark.parametrize(
    "domain",
    ["private.test", "linklocal.test", "unspecified.test", "privatesix.test", "mappedprivate.test", "sandbox.test"],
)
async def test_inner_addresses_are_a_mistake_of_the_domain_and_never_connected_to(
    make: Callable[..., Resolver], domain: str
) -> None:
    hosts = await make(allow_private=False).mail_hosts(domain)
    assert (hosts.verdict, hosts.enhanced, hosts.groups) == ("permanent", "5.4.4", ())
    assert "nobody may send to" in hosts.reason


async def test_both_address_families_are_offered_in_turn(make: Callable[..., Resolver]) -> None:
    hosts = await make().mail_hosts("deadsix.test")
    assert hosts.groups[0][0].addresses == ("::1", "127.0.0.2")


async def test_what_is_asked_at_the_same_time_is_asked_once(make: Callable[..., Resolver]) -> None:
    resolver = make()
    answers = await asyncio.gather(*(resolver.mail_hosts("delay-300.test") for _ in range(50)))
    assert all(answer.groups == answers[0].groups for answer in answers)
    assert resolver.asked == 3


async def test_an_answer_is_kept_for_its_ttl_and_no_longer(make: Callable[..., Resolver], clock: Clock) -> None:
    resolver = make()
    await resolver.mail_hosts("sandbox.test")
    asked = resolver.asked
    clock.now += 59
    await resolver.mail_hosts("sandbox.test")
    assert resolver.asked == asked
    clock.now += 2
    await resolver.mail_hosts("sandbox.test")
    assert resolver.asked == asked + 3


async def test_the_settings_cap_the_ttl(make: Callable[..., Resolver], clock: Clock) -> None:
    resolver = make(cache=10)
    await resolver.mail_hosts("sandbox.test")
    asked = resolver.asked
    clock.now += 11
    await resolver.mail_hosts("sandbox.test")
    assert resolver.asked == asked + 3


@pytest.mark.parametrize("domain", ["no-such-domain.test", "servfail.test"])
async def test_a_failure_is_remembered_for_half_a_minute_at_least(
    make: Callable[..., Resolver], clock: Clock, domain: str
) -> None:
    resolver = make()
    await resolver.mail_hosts(domain)
    asked = resolver.asked
    clock.now += 30
    await asyncio.gather(*(resolver.mail_hosts(domain) for _ in range(100)))
    assert resolver.asked == asked
    clock.now += 31
    await resolver.mail_hosts(domain)
    assert resolver.asked > asked


async def test_a_cancelled_question_does_not_take_the_answer_from_others(make: Callable[..., Resolver]) -> None:
    resolver = make()
    first = asyncio.create_task(resolver.mail_hosts("delay-300.test"))
    second = asyncio.create_task(resolver.mail_hosts("delay-300.test"))
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second).verdict == "found"


async def test_a_failing_address_record_defers_only_if_no_other_host_is_there(
    make: Callable[..., Resolver], zone: ZoneFolder
) -> None:
    zone.publish(Record("halfdown.test", "MX", "10 mx.servfail-halfdown.test"))
    assert (await make().mail_hosts("halfdown.test")).verdict == "temporary"
    zone.publish(Record("halfdown.test", "MX", "20 mx.sandbox.test"))
    assert names(await make().mail_hosts("halfdown.test")) == [["mx.sandbox.test"]]
