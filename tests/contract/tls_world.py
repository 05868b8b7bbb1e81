"""A small world of mail hosts that show every way to speak TLS, under every policy: Postfix and Exim, signed and unsigned zones.

Each listener is a host with a name of its own under each mail server: ``good``, ``expired``, ``wrong`` (another's name), ``self``
(self-signed), ``none`` (no STARTTLS), ``old`` (TLS 1.0 only). A domain is one of these hosts and what is published for it.
"""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest_asyncio
from pytest import TempPathFactory

from depesche.infra.local.authority import Authority, Issued
from depesche.infra.local.certificate import Certificate, Validity
from depesche.infra.local.exim import Exim, EximSettings
from depesche.infra.local.postfix import Postfix, PostfixSettings
from depesche.infra.local.signed_zones import WRONG_DS, SignedZones, SignedZonesSettings
from depesche.infra.local.tls_listener import TLSListener
from depesche.infra.local.unbound import Unbound, UnboundSettings
from depesche.schemas.settings import DeliverSettings, Settings
from tests.contract.far_side import free_port, running

HOSTS = ("good", "expired", "wrong", "self", "none", "old")
SERVERS = ("postfix", "exim")
POLICY_HOST, STRANGE_POLICY_HOST = "127.0.22.1", "127.0.22.2"
INSECURE, BOGUS, BOGUS_TLSA = "insecure.test.", "bogus.test.", "_tcp.mx.hidden.test."


class PolicyHost:
    """An HTTPS server that says what it is told to, by host name."""

    def __init__(self, address: str, port: int, certificate: Certificate) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self._place = (address, port)
        self._context = certificate.server_context()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, *self._place, ssl=self._context)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ssl.SSLError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            assert head[0] == "GET /.well-known/mta-sts.txt HTTP/1.1"
            [host] = [line.partition(":")[2].strip() for line in head if line.lower().startswith("host:")]
            self.asked[host] += 1
            writer.write(self.answers.get(host, said(b"none", status="404 Not Found")))
            await writer.drain()
        writer.close()


def said(text: bytes, kind: str = "text/plain", status: str = "200 OK", more: str = "") -> bytes:
    """An HTTP answer."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n{more}Connection: close\r\n\r\n"
    )
    return head.encode() + text


def policy_text(mode: str, *mx: str, max_age: int = 86400) -> bytes:
    """A policy's text."""
    return "".join(
        ["version: STSv1\n", f"mode: {mode}\n", *(f"mx: {name}\n" for name in mx), f"max_age: {max_age}\n"]
    ).encode()


@dataclass
class World:
    """All of it, running."""

    authority: Authority
    issued: dict[str, Issued]
    smtp_port: int
    zones: SignedZones
    resolver_port: int
    policy_host: PolicyHost
    strange_policy_host: PolicyHost
    https_port: int
    postfix: Postfix
    exim: Exim
    records: dict[str, str] = field(default_factory=dict)

    def address(self, host: str, server: str) -> str:
        return addresses(server)[host]

    def settings(self, home: Path, **more: object) -> Settings:
        """Settings under which couriers live in this world."""
        deliver = {"port": self.smtp_port, "allow_private": True, "connect_seconds": 5, "command_seconds": 10}
        return Settings.model_validate(
            {
                "home": home,
                "dns": {"servers": (f"127.0.0.1:{self.resolver_port}",), "validating": True, "timeout_seconds": 4},
                "deliver": deliver,
                "tls": {"ca_file": self.authority.root, "sts_port": self.https_port, "sts_seconds": 3},
                **more,
            }
        )

    @property
    def deliver(self) -> DeliverSettings:
        return self.settings(Path("unused")).deliver

    async def publish(self, zone: str, *lines: str) -> None:
        """Add records to a zone."""
        self.records[zone] = self.records.get(zone, "") + "".join(line + "\n" for line in lines)
        await self.zones.publish(self.records)

    async def domain(self, domain: str, host: str, server: str, *lines: str, zone: str = "test.") -> None:
        """Publish a domain whose one exchanger ``mx.DOMAIN`` is a host of this world, with more records of its own."""
        mx = f"mx.{domain}."
        address = f"{mx} 60 IN A {self.address(host, server)}"
        await self.publish(zone, f"{domain}. 60 IN MX 10 {mx}", address, *lines)

    async def sts(self, domain: str, answer: bytes, id_: str = "1", address: str = POLICY_HOST) -> None:
        """Publish an MTA-STS policy of a domain."""
        self.policy_host.answers[f"mta-sts.{domain}"] = answer
        self.strange_policy_host.answers[f"mta-sts.{domain}"] = answer
        text = f'_mta-sts.{domain}. 60 IN TXT "v=STSv1; id={id_};"'
        await self.publish("test.", text, f"mta-sts.{domain}. 60 IN A {address}")

    def tlsa(self, host: str, usage: int = 3, *, wrong: bool = False) -> str:
        """A TLSA record's value: of the host's certificate (usage 3) or its root (usage 2), or of nobody's."""
        der = b"nobody" if wrong else self.issued[host].chain[0 if usage == 3 else -1]
        return f"{usage} 0 1 {sha256(der).hexdigest()}"


def addresses(server: str) -> dict[str, str]:
    """The address of each host of a mail server."""
    net = {"postfix": 20, "exim": 21}[server]
    return {host: f"127.0.{net}.{number}" for number, host in enumerate(HOSTS, 1)}


def _certificates(authority: Authority, domains: list[str]) -> dict[str, Issued]:
    names = [f"mx.{domain}" for domain in domains]
    return {
        "good": authority.issue("good", names),
        "expired": authority.issue("expired", names, Validity(-60, -1)),
        "wrong": authority.issue("wrong", ["mx.somebody-else.test"]),
        "self": authority.self_signed("self", names),
        "none": authority.issue("none", names),
        "old": authority.issue("old", names),
    }


def _listeners(issued: dict[str, Issued], server: str) -> tuple[TLSListener, ...]:
    return tuple(
        TLSListener(address, issued[host].files, "none" if host == "none" else "old" if host == "old" else "offered")
        for host, address in addresses(server).items()
    )


def domains_of(*policies: str) -> list[str]:
    """Every domain of the matrix: ``policy-host-server.test``."""
    return [f"{policy}-{host}-{server}.test" for policy in policies for host in HOSTS for server in SERVERS]


POLICIES = ("plain", "enforce", "testing", "other", "ee", "ta", "wrongtlsa", "unusable", "both")
ODD = (
    "deaf.test",
    "cached.test",
    "turned.test",
    "odd.insecure.test",
    "odd.bogus.test",
    "hidden.test",
    "neighbours.test",
)


@pytest_asyncio.fixture(scope="module")
async def world(tmp_path_factory: TempPathFactory) -> AsyncIterator[World]:
    """Both mail servers, the zones, the validating resolver and the policy hosts."""
    folder = tmp_path_factory.mktemp("tls")
    domains = [*domains_of(*POLICIES), *ODD]
    authority = Authority(folder / "authority")
    issued = _certificates(authority, domains)
    smtp, dns, resolver, https = (free_port() for _ in range(4))
    postfix = Postfix(
        PostfixSettings(
            folder / "postfix", "127.0.20.100", smtp, tuple(domains), listeners=_listeners(issued, "postfix")
        )
    )
    exim = Exim(EximSettings(folder / "exim", smtp, _listeners(issued, "exim"), tuple(domains)))
    zones = SignedZones(SignedZonesSettings(folder / "zones", dns, ("test.", BOGUS, BOGUS_TLSA), (INSECURE,)))
    right = authority.issue("policies", [f"mta-sts.{domain}" for domain in domains])
    strange = authority.issue("strange", ["mta-sts.somebody-else.test"])
    policy_host = PolicyHost(POLICY_HOST, https, right.files)
    strange_host = PolicyHost(STRANGE_POLICY_HOST, https, strange.files)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(exim.remove)
        for part in (postfix, exim, zones):
            await stack.enter_async_context(running(part))
        anchors = (await zones.anchor("test."),)
        known = dict.fromkeys(("test.", BOGUS, BOGUS_TLSA, INSECURE), f"127.0.0.1@{dns}")
        await stack.enter_async_context(running(Unbound(UnboundSettings(folder / "unbound", resolver, known, anchors))))
        for host in (policy_host, strange_host):
            await host.start()
            stack.push_async_callback(host.stop)
        made = World(authority, issued, smtp, zones, resolver, policy_host, strange_host, https, postfix, exim)
        cuts = [f"{zone} 60 IN NS ns.test." for zone in (INSECURE, BOGUS, BOGUS_TLSA)]
        await made.publish("test.", *cuts, *(f"{zone} 60 IN DS {WRONG_DS}" for zone in (BOGUS, BOGUS_TLSA)))
        yield made
