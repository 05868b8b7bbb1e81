"""MTA-STS: records, policy texts and host names (RFC 8461)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.streams.mail.sts import LONGEST_SECONDS, matches, parse_policy, record_id

TEXT = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


def test_a_policy_is_read() -> None:
    policy = parse_policy(TEXT)
    assert (policy.mode, policy.mx, policy.max_age) == ("enforce", ("mail.example.com", "*.example.net"), 604800)
    assert policy.lines[0] == "version: STSv1"
    assert parse_policy(TEXT.replace("\r\n", "\n")) == policy
    assert parse_policy("max_age:1\nmode:none\nversion:STSv1\nfuture: x:y\n").mx == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("STSv1", "STSv2"),
        ("version: STSv1", "x: y"),
        ("enforce", "strict"),
        ("604800", "a week"),
        ("604800", "-1"),
        ("max_age: 604800", ""),
        ("mail.example.com", "not a host"),
        ("mail.example.com", "mail.*.com"),
        ("mail.example.com", ""),
        ("mx: mail.example.com\r\nmx: *.example.net\r\n", ""),
        ("mode: enforce", "mode"),
    ],
)
def test_what_is_no_policy_is_refused(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_policy(TEXT.replace(old, new, 1))


def test_of_repeated_keys_the_first_counts_and_a_long_age_is_cut() -> None:
    policy = parse_policy(TEXT + "mode: none\r\nmax_age: 1\r\n")
    assert (policy.mode, policy.max_age) == ("enforce", 604800)
    assert parse_policy(TEXT.replace("604800", "9999999999")).max_age == LONGEST_SECONDS


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1;id=1"], "1"),
        (["v=spf1 -all", "v=STSv1; id=a1;"], "a1"),
        (["v=STSv1; id=a;", "v=STSv1; id=b;"], None),
        (["v=STSv1; id=" + "a" * 33], None),
        (["v=STSv1; id=a b;"], None),
        (["v=STSv1;"], None),
        (["id=1; v=STSv1"], None),
        ([], None),
    ],
)
def test_a_domain_announces_exactly_one_policy_or_none(texts: list[str], found: str | None) -> None:
    assert record_id(texts) == found


def test_an_asterisk_stands_for_one_label() -> None:
    assert matches("mx.example.net", "*.example.net")
    assert matches("MX.Example.net.", "*.example.NET")
    assert not matches("example.net", "*.example.net")
    assert not matches("a.b.example.net", "*.example.net")
    assert not matches(".example.net", "*.example.net")
    assert not matches("mx.example.net", "*.net")


@given(st.text(max_size=300))
def test_whatever_a_policy_host_says_is_a_policy_or_a_value_error(text: str) -> None:
    try:
        policy = parse_policy(text)
    except ValueError:
        return
    assert policy.mode in ("enforce", "testing", "none")
    assert 0 <= policy.max_age <= LONGEST_SECONDS
