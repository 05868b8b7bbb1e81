"""The in-process name server and Knot answer every question about the sandbox alike; faults only the first one has."""

# Fixtures are imported by name and then named as arguments, which looks like an unused import and a redefinition.
# ruff: noqa: F401, F811

import asyncio
from dataclasses import dataclass

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest

from depesche.infra.local.dns import DNSServer, split_fault
from depesche.infra.local.knot import Knot
from depesche.infra.local.published import ZoneFolder
from depesche.infra.local.zone import Record
from tests.contract.far_side import dns_server, knot, zone

KINDS = ("A", "AAAA", "MX", "TXT", "CNAME", "NS", "SOA", "PTR")
MISSING = (
    "missing.test",
    "deep.below.missing.test",
    "below.sandbox.test",
    "sandbox.test.example",
    "_domainkey.shop.test",
    "test",
    "example",
)


@dataclass(frozen=True)
class Seen:
    """What a client can tell about an answer; the order of records is nobody's promise."""

    code: str
    authoritative: bool
    truncated: bool
    answer: frozenset[tuple[str, str, str]]
    soa: bool


async def ask(port: int, name: str, kind: str, *, tcp: bool = False, payload: int | None = None) -> Seen:
    query = dns.message.make_query(name, kind, use_edns=0 if payload else -1, payload=payload or 0)
    send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    reply = await send(query, "127.0.0.1", port=port, timeout=5)
    return Seen(
        dns.rcode.to_text(reply.rcode()),
        bool(reply.flags & dns.flags.AA),
        bool(reply.flags & dns.flags.TC),
        frozenset(
            (str(found.name).lower(), dns.rdatatype.to_text(found.rdtype), item.to_text())
            for found in reply.answer
            for item in found
            if found.rdtype != dns.rdatatype.SOA
        ),
        any(found.rdtype == dns.rdatatype.SOA for found in reply.authority),
    )


def resolver(port: int) -> dns.asyncresolver.Resolver:
    made = dns.asyncresolver.Resolver(configure=False)
    made.nameservers, made.port, made.lifetime = ["127.0.0.1"], port, 3.0
    return made


def names_of(zone: ZoneFolder) -> list[str]:
    names = {record.name for record in zone.read().records} | set(MISSING)
    return sorted(name for name in names if not split_fault(name, {})[1])


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("kind", KINDS)
async def test_both_answer_every_name_of_the_zone_alike(
    dns_server: DNSServer,
    knot: Knot,
    zone: ZoneFolder,
    kind: str,
    tcp: bool,
) -> None:
    differences = {}
    for name in names_of(zone):
        ours, theirs = await asyncio.gather(
            ask(dns_server.port, name, kind, tcp=tcp), ask(knot.settings.port, name, kind, tcp=tcp)
        )
        # Where an alias points at a missing name or in a circle, servers differ in whether the SOA comes along.
        if (ours.code, ours.authoritative, ours.answer) != (theirs.code, theirs.authoritative, theirs.answer):
            if not (ours.truncated and theirs.truncated):
                differences[name] = (ours, theirs)
        elif not ours.answer and ours.soa != theirs.soa:
            differences[name] = (ours, theirs)
    assert not differences


async def test_an_answer_that_does_not_fit_is_cut_and_whole_over_tcp(dns_server: DNSServer, knot: Knot) -> None:
    for port in (dns_server.port, knot.settings.port):
        assert (await ask(port, "bigtxt.test", "TXT")).truncated
        assert (await ask(port, "longtxt.test", "TXT")).truncated
        assert not (await ask(port, "longtxt.test", "TXT", payload=1232)).truncated
        whole = await ask(port, "bigtxt.test", "TXT", tcp=True)
        assert not whole.truncated
        assert len(whole.answer) == 12
        assert len(await resolver(port).resolve("bigtxt.test", "TXT")) == 12


async def test_a_resolver_sees_what_a_courier_needs(dns_server: DNSServer, knot: Knot) -> None:
    for port in (dns_server.port, knot.settings.port):
        client = resolver(port)
        many = await client.resolve("manymx.test", "MX")
        assert [item.preference for item in sorted(many, key=lambda item: item.preference)] == [10, 20, 20, 30]
        null = await client.resolve("nullmx.test", "MX")
        assert [(item.preference, str(item.exchange)) for item in null] == [(0, ".")]
        assert str((await client.resolve("alias.test", "MX")).canonical_name) == "sandbox.test."
        assert (await client.resolve("mx.aliasmx.test", "A"))[0].address == "127.0.0.2"
        assert (await client.resolve("mx.mappedprivate.test", "AAAA"))[0].address == "::ffff:10.0.0.1"
        with pytest.raises(dns.resolver.NoAnswer):
            await client.resolve("nomx.test", "MX")
        with pytest.raises(dns.resolver.NXDOMAIN):
            await client.resolve("gmail.com", "MX")
        with pytest.raises(dns.resolver.NoNameservers):
            await client.resolve("servfail.test", "MX")


async def test_a_published_record_can_be_asked_for_at_once(
    dns_server: DNSServer,
    knot: Knot,
    zone: ZoneFolder,
) -> None:
    key = Record("s1._domainkey.shop.test", "TXT", "v=DKIM1; k=rsa; p=" + "A" * 392)
    for port in (dns_server.port, knot.settings.port):
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver(port).resolve(key.name, "TXT")
    zone.publish(key)
    zone.publish(key)
    await asyncio.to_thread(knot.reload)
    for port in (dns_server.port, knot.settings.port):
        found = await resolver(port).resolve(key.name, "TXT")
        assert [b"".join(item.strings).decode() for item in found] == [key.value]
    zone.withdraw(key.name)
    await asyncio.to_thread(knot.reload)
    for port in (dns_server.port, knot.settings.port):
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver(port).resolve(key.name, "TXT")


async def test_knot_follows_the_zone_folder_by_itself(knot: Knot, zone: ZoneFolder) -> None:
    follower = asyncio.create_task(knot.follow())
    try:
        await asyncio.sleep(0)
        zone.publish(Record("followed.test", "A", "127.0.0.2"))
        for _attempt in range(100):
            if (await ask(knot.settings.port, "followed.test", "A")).answer:
                break
            await asyncio.sleep(0.05)
        assert (await ask(knot.settings.port, "followed.test", "A")).answer
    finally:
        follower.cancel()
        zone.withdraw("followed.test")


async def test_an_asterisk_answers_for_missing_names_only(
    dns_server: DNSServer,
    knot: Knot,
    zone: ZoneFolder,
) -> None:
    zone.publish(Record("*", "MX", "10 mx.sandbox.test"), Record("*.wild.test", "A", "127.0.0.2"))
    await asyncio.to_thread(knot.reload)
    for port in (dns_server.port, knot.settings.port):
        assert (await ask(port, "gmail.com", "MX")).answer == {("gmail.com.", "MX", "10 mx.sandbox.test.")}
        assert (await ask(port, "a.b.wild.test", "A")).answer == {("a.b.wild.test.", "A", "127.0.0.2")}
        assert (await ask(port, "missing.test", "MX")).code == "NXDOMAIN"
        assert (await ask(port, "gmail.com", "A")).code == "NOERROR"
    zone.withdraw("*")
    zone.withdraw("*.wild.test")
    await asyncio.to_thread(knot.reload)


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("servfail.test", dns.resolver.NoNameservers),
        ("servfail-sandbox.test", dns.resolver.NoNameservers),
        ("mx.refused-sandbox.test", dns.resolver.NoNameservers),
        ("nxdomain-sandbox.test", dns.resolver.NXDOMAIN),
        ("timeout-sandbox.test", dns.resolver.LifetimeTimeout),
    ],
)
async def test_a_fault_in_the_name_makes_the_question_fail(
    dns_server: DNSServer,
    name: str,
    failure: type[dns.exception.DNSException],
) -> None:
    client = resolver(dns_server.port)
    client.lifetime = 0.5
    with pytest.raises(failure):
        await client.resolve(name, "MX")


async def test_a_late_or_cut_answer_is_still_the_answer(dns_server: DNSServer) -> None:
    client = resolver(dns_server.port)
    for name in ("delay-40-sandbox.test", "truncate-sandbox.test", "truncate.test", "delay-300.test"):
        found = await client.resolve(name, "MX")
        assert str(found.rrset.name if found.rrset else "") == f"{name}."
    assert (await ask(dns_server.port, "truncate-sandbox.test", "MX")).truncated


async def test_a_fault_can_be_switched_on_and_off_while_it_runs(dns_server: DNSServer, zone: ZoneFolder) -> None:
    client = resolver(dns_server.port)
    zone.set_fault("inbox.test", "servfail")
    with pytest.raises(dns.resolver.NoNameservers):
        await client.resolve("mx.inbox.test", "A")
    zone.set_fault("inbox.test", None)
    assert (await client.resolve("mx.inbox.test", "A"))[0].address == "127.0.0.3"


async def test_garbage_is_not_answered_and_hurts_nobody(dns_server: DNSServer) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.0.0.1", dns_server.port)
    )
    for garbage in (b"", b"\0", b"\xff" * 12, bytes(600)):
        transport.sendto(garbage)
    transport.close()
    assert (await ask(dns_server.port, "sandbox.test", "MX")).answer


async def test_a_damaged_folder_is_a_failure_and_heals(dns_server: DNSServer, zone: ZoneFolder) -> None:
    zone.publish(Record("healed.test", "A", "127.0.0.2"))
    content = zone.published_file.read_bytes()
    zone.published_file.write_bytes(b"{")
    assert (await ask(dns_server.port, "sandbox.test", "MX")).code == "SERVFAIL"
    zone.published_file.write_bytes(content)
    assert (await ask(dns_server.port, "healed.test", "A")).answer
    zone.withdraw("healed.test")
