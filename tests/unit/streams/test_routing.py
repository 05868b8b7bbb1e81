"""Finding the provider of a domain in time, whatever DNS does."""

import asyncio

from depesche.streams.mail.route import Providers
from depesche.streams.stages.routing import Routing

TABLE = Providers({"big": {"domains": ["big.example"], "mx": ["mx.example"]}})


class Names:
    """A name server of words; what it does not know, it never answers."""

    def __init__(self, **exchangers: tuple[str, ...]) -> None:
        self.exchangers_ = exchangers
        self.asked: list[str] = []

    async def exchangers(self, domain: str) -> tuple[str, ...]:
        self.asked.append(domain)
        found = self.exchangers_.get(domain.partition(".")[0])
        return found if found is not None else await asyncio.get_running_loop().create_future()


async def test_a_well_known_domain_is_never_asked_for() -> None:
    names = Names()
    assert await Routing(names, TABLE).providers_of(["big.example"]) == {"big.example": "big"}
    assert names.asked == []


async def test_domains_go_with_their_exchangers_and_dead_dns_costs_one_bound_for_all() -> None:
    names = Names(a=("1.mx.example",), b=("in.hoster.example",), c=("out.hoster.example",), none=())
    domains = ["a.test", "b.test", "c.test", "none.test", *(f"dead{number}.test" for number in range(50))]
    routing = Routing(names, TABLE, bound_seconds=0.05)
    async with asyncio.timeout(2):
        found = await routing.providers_of(domains)
    assert (found["a.test"], found["b.test"], found["c.test"]) == ("big", "hoster.example", "hoster.example")
    assert {domain for domain in domains if found[domain] == domain} == {"none.test", *domains[4:]}


async def test_a_domain_that_moves_is_found_at_its_new_provider() -> None:
    names = Names(a=("1.mx.example",))
    routing = Routing(names, TABLE)
    assert (await routing.rollup("a.test")).provider == "big"
    names.exchangers_["a"] = ("mx.other.example",)
    assert (await routing.rollup("a.test")).provider == "other.example"
