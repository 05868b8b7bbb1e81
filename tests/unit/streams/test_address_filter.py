"""No MX record leads a courier into anybody's house."""

import pytest

from depesche.streams.wire.address_filter import objection

INSIDE = [
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.9",
    "::1",
    "64:ff9b:1::a00:1",
    "2001:db8::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fec0::1",
]
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "ff02::1",
    "fe80::1%eth0",
]
OUTSIDE = ["8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.3.1", "2a00:1450:4001::1a", "2600::1"]


@pytest.mark.parametrize("address", INSIDE)
def test_an_inner_address_is_refused_unless_the_settings_allow_it(address: str) -> None:
    assert objection(address, allow_private=False)
    assert objection(address, allow_private=True) == ""


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_refused_whatever_the_settings_say(address: str) -> None:
    assert objection(address, allow_private=False)
    assert objection(address, allow_private=True)


@pytest.mark.parametrize("address", OUTSIDE)
def test_a_public_address_is_fine(address: str) -> None:
    assert objection(address, allow_private=False) == ""


def test_what_is_no_address_is_an_error_and_not_a_yes() -> None:
    for text in ("mx.example.org", "127.1", "0x7f000001", "2130706433", ""):
        with pytest.raises(ValueError):
            objection(text, allow_private=False)
