"""Addresses are parsed once at the edge; what gets through is valid ever after."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.schemas.errors import InvalidRequestError
from depesche.schemas.values import Address, Mailbox, domain_name, has_control


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("ada@example.org", "ada", "example.org"),
        ("Ada.Lovelace+tag@EXAMPLE.org", "Ada.Lovelace+tag", "example.org"),
        ("a!#$%&'*+/=?^_`{|}~-z@x.test", "a!#$%&'*+/=?^_`{|}~-z", "x.test"),
        ('"a b@c"@x.test', '"a b@c"', "x.test"),
        ("grüße@bücher.example", "grüße", "xn--bcher-kva.example"),
    ],
)
def test_valid_addresses_are_understood(text: str, local: str, domain: str) -> None:
    assert Address.parse(text) == Address(local, domain)


@pytest.mark.parametrize(
    "text",
    [
        "", "@", "ada", "ada@", "@example.org", "ada@nodot", "a..b@x.test", ".a@x.test", "a.@x.test", "a b@x.test", "a@x..test",
        "a@-x.test", "a@x.1", "a@[127.0.0.1]", "a\r\n@x.test", "a@x.test\n", "<a@x.test>", "a@b@x.test", "a\u2028@x.test",
        "x" * 65 + "@x.test", "a@" + "x" * 64 + ".test", "a@" + "x." * 130 + "test", "a;b@x.test", "a,b@x.test", "\ud800@x.test",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("Ada Example<ada@example.org>", "Ada Example", "ada@example.org"),
        ('"Example, Ada" <ada@example.org>', "Example, Ada", "ada@example.org"),
        ("<ada@example.org>", "", "ada@example.org"),
        ("  ada@example.org ", "", "ada@example.org"),
    ],
)
def test_friendly_names_and_addresses_share_one_string(text: str, name: str, address: str) -> None:
    mailbox = Mailbox.parse(text)
    assert (mailbox.name, str(mailbox.address)) == (name, address)


@pytest.mark.parametrize(
    "text", ["Ada\r\nBcc: x@y.test<a@b.test>", "Ada\x00<a@b.test>", "Ada <a@b.test> x", "<<a@b.test>>"]
)
def test_a_friendly_name_cannot_carry_a_header(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        Mailbox.parse(text)


@given(st.text(max_size=80))
def test_whatever_passes_is_safe_in_a_command(text: str) -> None:
    try:
        address = Address.parse(text)
    except InvalidRequestError:
        return
    assert not has_control(str(address))
    assert " " not in address.domain
    assert address.domain.isascii()
    assert Address.parse(str(address)) == address


def test_a_domain_becomes_a_lower_case_a_label() -> None:
    assert domain_name("Bücher.EXAMPLE") == "xn--bcher-kva.example"
