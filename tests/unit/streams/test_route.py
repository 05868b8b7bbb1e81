"""Which way a unit goes."""

from depesche.streams.mail.route import provider_of_domain, route_of


def test_the_domains_of_a_large_provider_share_a_route() -> None:
    assert provider_of_domain("googlemail.com") == provider_of_domain("gmail.com") == "gmail"
    assert route_of(provider_of_domain("hotmail.de")) == "shared/microsoft/0"


def test_any_other_domain_is_its_own_provider() -> None:
    assert route_of(provider_of_domain("example.org"), "vip", 3) == "vip/example.org/3"
