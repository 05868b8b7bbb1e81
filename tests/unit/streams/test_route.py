"""Which way a unit goes, and whose exchangers are whose."""

import tomllib
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depesche.schemas.identity import recipient_key
from depesche.schemas.values import domain_name
from depesche.streams.mail.route import (
    Rollup,
    default_providers,
    pool_of,
    provider_of_domain,
    route_of,
    shard_of,
)


def test_the_domains_of_a_large_provider_share_a_route() -> None:
    assert provider_of_domain("googlemail.com") == provider_of_domain("gmail.com") == "gmail"
    assert route_of(provider_of_domain("hotmail.de")) == "shared/microsoft/0"


def test_any_other_domain_is_its_own_provider_by_its_name() -> None:
    assert route_of(provider_of_domain("example.org"), "vip", 3) == "vip/example.org/3"
    assert pool_of("vip/example.org/3") == "vip"


@pytest.mark.parametrize(
    ("exchangers", "provider"),
    [
        (["aspmx.l.google.com", "alt1.aspmx.l.google.com"], "gmail"),
        (["example-com.mail.protection.outlook.com"], "microsoft365"),
        (["outlook-com.olc.protection.outlook.com"], "microsoft"),
        (["example-com.a-v1.mx.microsoft"], "microsoft365"),
        (["smtpin.rzone.de"], "strato"),
        (["mx00.kundenserver.de", "mx01.kundenserver.de"], "ionos"),
        (["mx23a.antispameurope.com"], "hornetsecurity"),
        (["mxa-0012.gslb.pphosted.com"], "proofpoint"),
        (["mx1.hc42-1.eu.iphmx.com"], "cisco"),
        (["mx1.t-online.de"], "t-online"),
        (["notgoogle.com"], "notgoogle.com"),
        (["in.mx.hoster.co.uk", "backup.hoster.co.uk"], "hoster.co.uk"),
        (["inbound-smtp.eu-west-1.amazonaws.com"], "amazon"),
        ([], "example.org"),
    ],
)
def test_the_exchangers_say_who_the_provider_is(exchangers: list[str], provider: str) -> None:
    assert default_providers().of_exchangers("example.org", exchangers).provider == provider


def test_customers_of_a_hoster_nobody_listed_share_its_route() -> None:
    one, other = (
        default_providers().of_exchangers(domain, [f"{domain.replace('.', '-')}.in.hoster.example"])
        for domain in ("first.example", "second.example")
    )
    assert one == other == Rollup("hoster.example", "MX in hoster.example")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a.google.com", "b.google.com", "mx.one.example", "mx.two.example", "x"]), max_size=6))
def test_the_order_of_exchangers_changes_nothing(exchangers: list[str]) -> None:
    table = default_providers()
    assert table.of_exchangers("d.example", exchangers) == table.of_exchangers("d.example", exchangers[::-1])


def test_the_table_names_each_domain_and_ending_once_and_as_dns_does() -> None:
    text = files("depesche.streams.mail").joinpath("providers.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text)["provider"].values()
    for what in ("domains", "mx"):
        named = [name for entry in entries for name in entry.get(what, ())]
        assert len(named) == len(set(named))
        assert named == [domain_name(name) for name in named]


@settings(deadline=None)
@given(st.integers(1, 7))
def test_shards_are_all_used(shards: int) -> None:
    keys = [recipient_key(b"secret", f"{number}@example.org") for number in range(200)]
    assert {shard_of(key, shards) for key in keys} == set(range(shards))
