"""What leaves under which TLS policy, to real mail servers with good and broken TLS (RFC 7435, 7672, 8461, 8460).

Postfix (OpenSSL) and Exim (GnuTLS) are the far sides, Knot signs the zones, Unbound validates them.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import dns.asyncquery
import dns.flags
import dns.message
import pytest

from depesche.infra.local.sink.mailbox import list_mails
from depesche.streams.mail.tls_policy import Asked
from depesche.streams.mail.tls_report import TLSSession
from depesche.streams.stages.connections import Connections
from depesche.streams.wire.destinations import Destinations, destinations
from depesche.streams.wire.dns import Hosts
from depesche.streams.wire.smtp import Answer, SMTPConnection
from depesche.streams.wire.smtp_encode import Envelope
from depesche.streams.wire.sts import authorities
from tests.contract.tls_world import (
    BOGUS,
    HOSTS,
    INSECURE,
    POLICIES,
    SERVERS,
    STRANGE_POLICY_HOST,
    World,
    policy_text,
    said,
    world,
)

__all__ = ["world"]

NUMBERS = itertools.count()
UNPROVEN = {
    "expired": "certificate-expired",
    "wrong": "certificate-host-mismatch",
    "self": "certificate-not-trusted",
    "none": "starttls-not-supported",
    "old": "validation-failure",
}
"""What reports call it that a host does not prove its name."""
NO_TLS = {host: UNPROVEN[host] for host in ("none", "old")}


@dataclass
class Courier:
    """What a courier does with one mail, without the log around it."""

    world: World
    home: Path
    sessions: list[TLSSession] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = self.world.settings(self.home)
        self.where: Destinations = destinations(self.settings)
        self.connections = Connections(
            self.settings.deliver,
            "courier.test",
            authorities=lambda: authorities(self.settings.tls),
            tally=self.sessions.append,
        )

    async def carry(self, domain: str, asked: Asked = "may") -> Answer:
        """Send a mail to the domain; the answer to it, or to the attempt to get a connection."""
        hosts = await self.where.mail_hosts(domain)
        assert hosts.verdict == "found", hosts
        connection = await self.connections.open(hosts, asked)
        if isinstance(connection, Answer):
            return connection
        assert isinstance(connection, SMTPConnection)
        message = b"Subject: hello\r\nMessage-ID: <%d@shop.test>\r\n\r\nHello\r\n" % next(NUMBERS)

        async def yes() -> bool:
            return True

        answer = await connection.send(Envelope("a@shop.test", f"ada@{domain}", len(message)), message, yes)
        connection.quit()
        return answer


@pytest.fixture
async def courier(world: World, tmp_path: Path) -> AsyncIterator[Courier]:
    made = Courier(world, tmp_path)
    yield made
    await made.where.close()


async def _published(world: World) -> None:
    """The domains of the matrix, once."""
    if "plain-good-postfix.test" in world.records["test."]:
        return
    lines = []
    for policy, host, server in itertools.product(POLICIES, HOSTS, SERVERS):
        domain = f"{policy}-{host}-{server}.test"
        lines += [f"{domain}. 60 IN MX 10 mx.{domain}.", f"mx.{domain}. 60 IN A {world.address(host, server)}"]
        record = {
            "ee": world.tlsa(host, 3),
            "ta": world.tlsa("good", 2),
            "wrongtlsa": world.tlsa(host, wrong=True),
            "both": world.tlsa(host, wrong=True),
            "unusable": world.tlsa(host).replace("3", "1", 1),
        }
        if policy in record:
            lines.append(f"_25._tcp.mx.{domain}. 60 IN TLSA {record[policy]}")
        if policy in ("enforce", "testing", "other", "both"):
            mx = "mx.somebody-else.test" if policy == "other" else f"*.{domain}"
            mode = "testing" if policy == "testing" else "enforce"
            world.policy_host.answers[f"mta-sts.{domain}"] = said(policy_text(mode, mx))
            lines += [f'_mta-sts.{domain}. 60 IN TXT "v=STSv1; id=1;"', f"mta-sts.{domain}. 60 IN A 127.0.22.1"]
    await world.publish("test.", *lines)


def _wanted(policy: str, asked: str, host: str) -> tuple[str, str, str]:
    """Name of the policy in force, the result type that is counted, and how the mail leaves: tls, plain or not at all."""
    unencrypted = NO_TLS.get(host, "")
    if policy == "plain":
        leaves = "tls" if not unencrypted else "plain" if asked == "may" else "no"
        return asked, unencrypted, leaves
    if policy == "enforce":
        result = UNPROVEN.get(host, "")
        return "sts-enforce", result, "no" if result else "tls"
    if policy == "testing":
        leaves = "tls" if not unencrypted else "plain" if asked == "may" else "no"
        return "sts-testing", UNPROVEN.get(host, ""), leaves
    if policy == "other":
        return "sts-enforce", "validation-failure", "no"
    if policy == "unusable":
        return "dane-unusable", "tlsa-invalid", "no" if unencrypted else "tls"
    if policy == "ee":
        return "dane", unencrypted, "no" if unencrypted else "tls"
    if policy == "ta":
        result = UNPROVEN.get(host, "")
        return "dane", result, "no" if result else "tls"
    return "dane", unencrypted or "certificate-not-trusted", "no"


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("asked", ["may", "must"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_the_matrix(world: World, courier: Courier, policy: str, asked: Asked, server: str) -> None:
    await _published(world)
    found, wanted = {}, {}
    for host in HOSTS:
        answer = await courier.carry(f"{policy}-{host}-{server}.test", asked)
        leaves = "no" if not answer.delivered else "tls" if answer.peer.tls.startswith("TLSv1.") else "plain"
        [session] = [one for one in courier.sessions if one.domain == f"{policy}-{host}-{server}.test"]
        found[host] = (answer.peer.policy, session.result, leaves)
        wanted[host] = _wanted(policy, asked, host)
        if leaves == "no":
            assert (answer.step, answer.enhanced) == ("starttls", "4.7.5"), answer
            assert "MAIL FROM" not in answer.transcript
        assert f"TLS policy {answer.peer.policy}" in answer.transcript
    assert found == wanted


async def test_both_servers_keep_what_they_took(world: World, courier: Courier) -> None:
    await _published(world)
    for server, maildir in (("postfix", world.postfix.settings.maildir), ("exim", world.exim.maildir)):
        before = len(list_mails(maildir))
        assert (await courier.carry(f"plain-good-{server}.test")).delivered
        for _ in range(200):
            if len(list_mails(maildir)) > before:
                break
            await asyncio.sleep(0.05)
        assert len(list_mails(maildir)) > before


# DNSSEC.


async def test_where_the_zone_is_not_signed_tlsa_records_say_nothing(world: World, courier: Courier) -> None:
    tlsa = f"_25._tcp.mx.odd.insecure.test. 60 IN TLSA {world.tlsa('good', wrong=True)}"
    await world.domain("odd.insecure.test", "good", "postfix", tlsa, zone=INSECURE)
    answer = await courier.carry("odd.insecure.test")
    assert answer.delivered
    assert answer.peer.policy == "may"


async def test_what_does_not_validate_is_deferred(world: World, courier: Courier) -> None:
    await world.domain("odd.bogus.test", "good", "postfix", zone=BOGUS)
    hosts = await courier.where.mail_hosts("odd.bogus.test")
    assert (hosts.verdict, hosts.enhanced) == ("temporary", "4.4.3")


async def test_tlsa_records_that_somebody_hides_keep_the_mail_here(world: World, courier: Courier) -> None:
    # MX and address are secure; only the question for TLSA ends in SERVFAIL.
    await world.domain("hidden.test", "good", "exim")
    hosts = await courier.where.mail_hosts("hidden.test")
    assert hosts.verdict == "found"
    answer = await courier.carry("hidden.test")
    assert (answer.step, answer.enhanced, answer.peer.policy) == ("starttls", "4.7.5", "dane-failed")
    assert [session.result for session in courier.sessions] == ["dnssec-invalid"]


class Braggart(asyncio.DatagramProtocol):
    """A resolver on the way that calls every answer secure."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.ensure_future(self._answer(data, addr))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = await dns.asyncquery.udp(dns.message.from_wire(data), "127.0.0.1", timeout=5, port=self.port)
        answer.flags |= dns.flags.AD
        self.transport.sendto(answer.to_wire(), addr)


@pytest.mark.parametrize("validating", [False, True])
async def test_that_an_answer_is_secure_is_believed_only_of_a_resolver_that_is_trusted(
    world: World, tmp_path: Path, validating: bool
) -> None:
    await _published(world)
    loop = asyncio.get_running_loop()
    transport, braggart = await loop.create_datagram_endpoint(lambda: Braggart(world.resolver_port), ("127.0.0.1", 0))
    server = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    where = destinations(world.settings(tmp_path, dns={"servers": (server,), "validating": validating}))
    hosts = await where.mail_hosts("wrongtlsa-good-postfix.test")
    assert [host.dane is not None for group in hosts.groups for host in group] == [validating]
    await where.close()
    transport.close()
    await asyncio.gather(*braggart.tasks)


# MTA-STS.


async def test_a_policy_outlives_our_restart_its_host_and_its_record(world: World, tmp_path: Path) -> None:
    await world.domain("cached.test", "expired", "postfix")
    await world.sts("cached.test", said(policy_text("enforce", "mx.cached.test")))
    first = Courier(world, tmp_path)
    assert not (await first.carry("cached.test")).delivered
    await first.where.close()
    # The policy's host goes away, and so does its record; an attacker who can do both gets nothing for it.
    await world.policy_host.stop()
    try:
        world.records["test."] = "".join(
            line + "\n" for line in world.records["test."].splitlines() if "mta-sts.cached.test" not in line
        )
        await world.publish("test.")
        second = Courier(world, tmp_path)
        hosts = await second.where.mail_hosts("cached.test")
        assert hosts.sts is not None
        assert (hosts.sts.mode, hosts.sts_problem) == ("enforce", "")
        answer = await second.carry("cached.test")
        assert (answer.delivered, answer.peer.policy) == (False, "sts-enforce")
        await second.where.close()
        # Announced anew, and still nobody there to fetch it from: the old one holds, and the failure is known.
        await world.publish("test.", '_mta-sts.cached.test. 60 IN TXT "v=STSv1; id=2;"')
        await world.publish("test.", "mta-sts.cached.test. 60 IN A 127.0.22.1")
        async with asyncio.timeout(30):
            # The validating resolver may remember for a moment that there was no record.
            problem = ""
            while not problem:
                third = Courier(world, tmp_path)
                hosts = await third.where.mail_hosts("cached.test")
                await third.where.close()
                assert hosts.sts is not None
                problem = hosts.sts_problem
        assert problem == "sts-policy-fetch-error"
    finally:
        await world.policy_host.start()


async def test_a_new_version_is_fetched_and_an_old_one_is_not_fetched_twice(world: World, tmp_path: Path) -> None:
    await world.domain("turned.test", "good", "exim")
    await world.sts("turned.test", said(policy_text("enforce", "mx.turned.test")))

    async def now() -> Hosts:
        fresh = Courier(world, tmp_path)
        hosts = await fresh.where.mail_hosts("turned.test")
        await fresh.where.close()
        return hosts

    for _ in range(3):
        hosts = await now()
        assert hosts.sts is not None
        assert hosts.sts.mode == "enforce"
    assert world.policy_host.asked["mta-sts.turned.test"] == 1
    world.records["test."] = world.records["test."].replace(
        '_mta-sts.turned.test. 60 IN TXT "v=STSv1; id=1;"', '_mta-sts.turned.test. 60 IN TXT "v=STSv1; id=20261127;"'
    )
    world.policy_host.answers["mta-sts.turned.test"] = said(policy_text("testing", "mx.turned.test"))
    await world.publish("test.")
    for _ in range(3):
        hosts = await now()
        assert hosts.sts is not None
        assert hosts.sts.mode == "testing"
    assert world.policy_host.asked["mta-sts.turned.test"] == 2


REDIRECT = said(b"", status="301 Moved Permanently", more="Location: https://127.0.22.1/elsewhere\r\n")
GOOD = policy_text("enforce", "mx.deaf.test")
NO_POLICY = {
    "redirect": (REDIRECT, "127.0.22.1", "sts-policy-fetch-error"),
    "html": (said(GOOD, "text/html"), "127.0.22.1", "sts-policy-fetch-error"),
    "missing": (said(GOOD, status="404 Not Found"), "127.0.22.1", "sts-policy-fetch-error"),
    "long": (said(GOOD + b"x: y\n" * 20_000), "127.0.22.1", "sts-policy-invalid"),
    "nonsense": (said(b"<html>"), "127.0.22.1", "sts-policy-invalid"),
    "garbled": (b"no HTTP\r\n\r\n", "127.0.22.1", "sts-policy-fetch-error"),
    "strange": (said(GOOD), STRANGE_POLICY_HOST, "sts-webpki-invalid"),
    "nobody": (said(GOOD), "127.0.22.9", "sts-policy-fetch-error"),
}


@pytest.mark.parametrize("case", NO_POLICY)
async def test_what_is_no_policy_leaves_the_domain_as_it_was_and_is_counted(
    world: World, courier: Courier, case: str
) -> None:
    answer, address, problem = NO_POLICY[case]
    kept = world.records["test."]
    try:
        await world.domain("deaf.test", "expired", "postfix")
        await world.sts("deaf.test", answer, id_=case, address=address)
        delivered = await courier.carry("deaf.test")
        assert (delivered.delivered, delivered.peer.policy) == (True, "may")
        [session] = courier.sessions
        assert (session.kind, session.result) == ("sts", problem)
    finally:
        world.records["test."] = kept
