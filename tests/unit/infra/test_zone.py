"""The zone: what may stand in it, how it is written, and which names fail on purpose."""

import dns.rdatatype
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.infra.local.dns import split_fault
from depesche.infra.local.sink.listeners import addresses, all_listeners
from depesche.infra.local.zone import FarSides, Kind, Record, ZoneError, render_zone, sandbox_zone


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("Upper.test", "A", "127.0.0.2"),
        ("dot.test.", "A", "127.0.0.2"),
        ("", "A", "127.0.0.2"),
        ("a..test", "A", "127.0.0.2"),
        ("x" * 64 + ".test", "A", "127.0.0.2"),
        ("line\nbreak.test", "A", "127.0.0.2"),
        ("six.test", "A", "::1"),
        ("four.test", "AAAA", "127.0.0.2"),
        ("name.test", "A", "sandbox.test"),
        ("mx.test", "MX", "mx.sandbox.test"),
        ("mx.test", "MX", "70000 mx.sandbox.test"),
        ("mx.test", "MX", "10 bad host"),
        ("alias.test", "CNAME", "two words"),
    ],
)
def test_a_record_that_no_server_could_serve_is_refused(name: str, kind: Kind, value: str) -> None:
    with pytest.raises(ZoneError):
        Record(name, kind, value)


def test_a_kind_that_is_not_served_is_refused() -> None:
    with pytest.raises(ZoneError):
        Record("key.test", "DNSKEY", "x")  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=700))
def test_any_text_survives_the_master_file(text: str) -> None:
    zone = dns.zone.from_text(render_zone([Record("t.test", "TXT", text)], 7), origin=".", relativize=False)
    (found,) = zone.find_rdataset("t.test.", dns.rdatatype.TXT)
    assert b"".join(found.strings).decode() == text
    assert max(map(len, found.strings)) <= 255


def test_the_whole_sandbox_is_a_zone_that_others_can_read() -> None:
    far = FarSides(inbox="127.0.0.3", listeners=addresses(all_listeners()), catch_all=True)
    records = sandbox_zone(far)
    zone = dns.zone.from_text(render_zone(records, 7), origin=".", relativize=False)
    for record in records:
        kind = dns.rdatatype.from_text(record.kind)
        assert zone.get_rdataset(f"{record.name}.", kind) is not None, record
    assert zone.find_rdataset(".", dns.rdatatype.SOA)[0].serial == 7


def test_every_far_side_stands_on_loopback_unless_its_name_says_otherwise() -> None:
    odd = ("private.test", "linklocal.test", "unspecified.test", "privatesix.test", "mappedprivate.test")
    for record in sandbox_zone(FarSides(listeners=addresses(all_listeners()))):
        if record.kind in ("A", "AAAA") and not record.name.endswith(odd):
            assert record.value.startswith("127.") or record.value == "::1", record


@pytest.mark.parametrize(
    ("asked", "looked_up", "fault"),
    [
        ("sandbox.test", "sandbox.test", ""),
        ("servfail.test", "servfail.test", "servfail"),
        ("mx.servfail.test", "mx.servfail.test", "servfail"),
        ("timeout-sandbox.test", "sandbox.test", "timeout"),
        ("mx.delay-300-sandbox.test", "mx.sandbox.test", "delay-300"),
        ("delay-300.test", "delay-300.test", "delay-300"),
        ("nxdomain-a-b.test", "a-b.test", "nxdomain"),
        ("servfailing.test", "servfailing.test", ""),
        ("not-timeout.test", "not-timeout.test", ""),
    ],
)
def test_the_fault_of_a_name_stands_in_one_of_its_labels(asked: str, looked_up: str, fault: str) -> None:
    assert split_fault(asked, {}) == (looked_up, fault)


def test_a_fault_that_was_switched_on_covers_all_below_the_name() -> None:
    faults = {"inbox.test": "truncate"}
    assert split_fault("mx.inbox.test", faults) == ("mx.inbox.test", "truncate")
    assert split_fault("myinbox.test", faults) == ("myinbox.test", "")
