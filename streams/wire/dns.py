"""Where a domain's mail goes: MX and address records (RFC 5321 5.1, RFC 7505), asked once and remembered for a while.

The cache is ours, because a courier asks for the same few thousand names all day and because failures must be remembered
too: a dead name server answered by one question per mail would be a storm (reliability N1). What is asked at the same time
is asked once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, TypeVar, cast

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.nameserver
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.TLSA
import dns.rdtypes.ANY.TXT
import dns.resolver

from depesche.schemas.settings import DNSSettings
from depesche.streams.mail.dane import Dane, TLSARecord
from depesche.streams.mail.sts import StsPolicy
from depesche.streams.wire.address_filter import objection

Kind = Literal["MX", "A", "AAAA", "TXT", "TLSA"]
Status = Literal["found", "empty", "missing", "failed"]
Verdict = Literal["found", "permanent", "temporary"]

_CACHE_ENTRIES = 50_000
_NEGATIVE_SECONDS = 60.0
_FAILURE_SECONDS = 45.0
_MOST_HOSTS = 20
"""Exchangers of one domain that are looked up; a list of thousands is nobody's mail system."""
_MOST_ADDRESSES = 8
_TLSA_PORT = 25
"""The port in the name of TLSA records is that of mail, wherever our connection goes (RFC 7672 2.2.3)."""


@dataclass(frozen=True, slots=True)
class Host:
    """A mail exchanger.

    Attributes:
        name: its name.
        addresses: its addresses in the order to try them (IPv6 and IPv4 in turn).
        dane: what DNSSEC says about its certificate; None: nothing.
    """

    name: str
    addresses: tuple[str, ...]
    dane: Dane | None = None


@dataclass(frozen=True, slots=True)
class Hosts:
    """The answer to "who takes mail for this domain".

    Attributes:
        domain: the domain asked for.
        verdict: ``found``; ``permanent``: nobody ever will; ``temporary``: cannot be told now.
        groups: hosts by rising preference; those of one group are equal and tried in any order.
        enhanced: enhanced status code (RFC 3463, RFC 7505) of a verdict that is not ``found``, else empty.
        reason: the verdict in a few words, without an address of ours.
        expires: until when this may be used, on the resolver's clock (monotonic seconds).
        sts: the domain's MTA-STS policy; None: it has none.
        sts_problem: result type (RFC 8460 4.3.2.2) of a policy that is announced and could not be had; empty: none.
    """

    domain: str
    verdict: Verdict
    groups: tuple[tuple[Host, ...], ...] = ()
    enhanced: str = ""
    reason: str = ""
    expires: float = 0.0
    sts: StsPolicy | None = None
    sts_problem: str = ""

    @property
    def key(self) -> str:
        """Names the set of hosts and what their domain asks of TLS: domains with the same key can share connections.

        A neighbour on the same hosts, whose policy fails or who has none, has another key.
        """
        names = sorted(host.name + ("+dane" if host.dane else "") for host in self.groups[0]) if self.groups else []
        return ",".join([*names, *([f"sts-{self.sts.mode}-{self.sts.digest}"] if self.sts else [])])

    def in_order(self, shuffle: random.Random) -> list[Host]:
        """The hosts in the order in which to try them once, equal ones shuffled (RFC 5321 5.1)."""
        order: list[Host] = []
        for group in self.groups:
            order += shuffle.sample(group, len(group))
        return order


@dataclass(slots=True)
class _Found:
    """What one question brought: the values, and until when that holds."""

    status: Status
    expires: float
    values: tuple[tuple[int, str], ...] = ()
    """Preference (0 for others than MX) and host name, address, text, or TLSA record in presentation form."""
    reason: str = ""
    secure: bool = False
    """Whether a validating resolver vouches for the answer, a denial included."""
    canonical: str = ""
    """The name that has the values, at the end of all aliases."""


@dataclass(slots=True)
class _Exchanger:
    """An exchanger's addresses after the filter."""

    host: Host
    refused: list[str] = field(default_factory=list)
    failed: bool = False
    expires: float = 0.0
    secure: bool = False
    canonical: str = ""


_Key: TypeAlias = tuple[str, Kind]
_K = TypeVar("_K")
_V = TypeVar("_V")
Resolution: TypeAlias = dns.resolver.Answer


class Resolver:
    """Resolves for couriers. One per process and event loop."""

    def __init__(
        self, settings: DNSSettings, *, allow_private: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare to ask.

        Args:
            settings: which servers, how long to wait, how long to remember.
            allow_private: see ``address_filter.objection``.
            clock: monotonic seconds.
        """
        self._settings = settings
        self._allow_private = allow_private
        self._clock = clock
        self._stub = stub(settings)
        self._answers: OrderedDict[_Key, _Found] = OrderedDict()
        self._hosts: OrderedDict[str, Hosts] = OrderedDict()
        self._asking: dict[_Key, asyncio.Future[_Found]] = {}
        self.asked = 0

    def known_hosts(self, domain: str) -> Hosts | None:
        """The hosts of ``domain`` if they are in the cache; costs a microsecond."""
        hosts = self._hosts.get(domain)
        if hosts is None or hosts.expires <= self._clock():
            return None
        self._hosts.move_to_end(domain)
        return hosts

    async def mail_hosts(self, domain: str) -> Hosts:
        """The hosts that take mail for ``domain`` (an A-label in lower case); never raises for what DNS says."""
        known = self.known_hosts(domain)
        if known is not None:
            return known
        hosts = await self._look_up(domain)
        _remember(self._hosts, domain, hosts)
        return hosts

    async def exchangers(self, domain: str) -> tuple[str, ...]:
        """The names of the domain's mail exchangers of lowest preference; empty when it has none or DNS does not say.

        Asks for MX records only: enough to tell who the provider is, and a delivery that follows finds them in the cache.
        """
        mx = await self._ask(domain, "MX")
        named = sorted(value for value in mx.values if value[1])
        return tuple(host for preference, host in named if preference == named[0][0])

    async def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of a host of any kind that may be connected to; none when it has none or DNS fails."""
        return (await self._exchanger(name)).host.addresses

    async def texts(self, name: str) -> tuple[str, ...] | None:
        """The TXT records of a name, each as one text; None when it cannot be told."""
        found = await self._ask(name, "TXT")
        return None if found.status == "failed" else tuple(text for _, text in found.values)

    async def close(self) -> None:
        """Give up all questions that are on their way; whoever waits for one is cancelled."""
        asking = list(self._asking.values())
        for question in asking:
            question.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _look_up(self, domain: str) -> Hosts:
        mx = await self._ask(domain, "MX")
        if mx.status == "missing":
            return Hosts(domain, "permanent", (), "5.1.2", "The domain does not exist.", mx.expires)
        if mx.status == "failed":
            return Hosts(domain, "temporary", (), "4.4.3", f"DNS: {mx.reason}", mx.expires)
        if mx.status == "empty":
            # No MX at all: the domain itself is its exchanger (RFC 5321 5.1).
            return await self._of_exchangers(domain, ((0, domain),), mx)
        if all(host == "" for _, host in mx.values):
            return Hosts(domain, "permanent", (), "5.1.10", "The domain takes no mail (null MX).", mx.expires)
        # A null MX beside others is a mistake that RFC 7505 section 3 leaves without effect.
        exchangers = tuple(value for value in sorted(mx.values) if value[1])[:_MOST_HOSTS]
        return await self._of_exchangers(domain, exchangers, mx)

    async def _of_exchangers(self, domain: str, exchangers: Sequence[tuple[int, str]], mx: _Found) -> Hosts:
        found = await asyncio.gather(*(self._mail_exchanger(name, secure=mx.secure) for _, name in exchangers))
        expires = min([mx.expires, *(exchanger.expires for exchanger in found)])
        groups: dict[int, list[Host]] = {}
        for (preference, _), exchanger in zip(exchangers, found, strict=True):
            if exchanger.host.addresses:
                groups.setdefault(preference, []).append(exchanger.host)
        if groups:
            return Hosts(domain, "found", tuple(tuple(groups[key]) for key in sorted(groups)), expires=expires)
        if any(exchanger.failed for exchanger in found):
            return Hosts(domain, "temporary", (), "4.4.3", "DNS: no address of a mail host could be had.", expires)
        refused = sorted({reason for exchanger in found for reason in exchanger.refused})
        if refused:
            text = f"The domain's mail hosts have only addresses that nobody may send to ({', '.join(refused)})."
            return Hosts(domain, "permanent", (), "5.4.4", text, expires)
        return Hosts(domain, "permanent", (), "5.4.4", "The domain's mail hosts have no address.", expires)

    async def _mail_exchanger(self, name: str, *, secure: bool) -> _Exchanger:
        """An exchanger that was named ``secure``-ly or not, with its TLSA records where they count (RFC 7672 2.2)."""
        found = await self._exchanger(name)
        if secure and found.secure and found.host.addresses:
            dane, expires = await self._dane(name, found.canonical)
            found.host = replace(found.host, dane=dane)
            found.expires = min(found.expires, expires)
        return found

    async def _dane(self, name: str, canonical: str) -> tuple[Dane | None, float]:
        """The TLSA records of a host whose addresses are secure: under its real name first, then under its alias."""
        expires = float("inf")
        for base in dict.fromkeys((canonical or name, name)):
            tlsa = await self._ask(f"_{_TLSA_PORT}._tcp.{base}", "TLSA")
            expires = min(expires, tlsa.expires)
            if tlsa.status == "failed":
                return Dane(base, failed=True), expires
            if tlsa.values and tlsa.secure:
                return Dane(base, tuple(_tlsa(text) for _, text in tlsa.values)), expires
        return None, expires

    async def _exchanger(self, name: str) -> _Exchanger:
        six, four = await asyncio.gather(self._ask(name, "AAAA"), self._ask(name, "A"))
        refused: list[str] = []
        allowed: dict[str, list[str]] = {"six": [], "four": []}
        for family, answer in (("six", six), ("four", four)):
            for _, address in answer.values:
                reason = objection(address, allow_private=self._allow_private)
                if reason:
                    refused.append(reason)
                else:
                    allowed[family].append(address)
        return _Exchanger(
            Host(name, _in_turn(allowed["six"], allowed["four"])[:_MOST_ADDRESSES]),
            refused,
            "failed" in (six.status, four.status),
            min(six.expires, four.expires),
            # All addresses that may be used must be vouched for; a failed question for the other family takes nothing away,
            # or whoever can suppress an answer could switch DANE off.
            all(answer.secure for answer in (six, four) if answer.values),
            four.canonical if four.values else six.canonical,
        )

    async def _ask(self, name: str, kind: Kind) -> _Found:
        key = (name, kind)
        known = self._answers.get(key)
        if known is not None and known.expires > self._clock():
            self._answers.move_to_end(key)
            return known
        asking = self._asking.get(key)
        if asking is None:
            # A task of its own: whoever asked first may be cancelled while others still wait for the same answer.
            asking = asyncio.ensure_future(self._query(name, kind))
            self._asking[key] = asking
            asking.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(asking)

    def _answered(self, key: _Key, done: asyncio.Future[_Found]) -> None:
        del self._asking[key]
        if not done.cancelled() and done.exception() is None:
            _remember(self._answers, key, done.result())

    async def _query(self, name: str, kind: Kind) -> _Found:
        self.asked += 1
        now = self._clock
        try:
            answer = await self._stub.resolve(
                name + ".", kind, raise_on_no_answer=False, search=False, lifetime=self._settings.timeout_seconds
            )
        except dns.resolver.NXDOMAIN:
            return _Found("missing", now() + self._capped(_NEGATIVE_SECONDS))
        except (dns.exception.DNSException, OSError, EOFError) as fault:
            return _Found("failed", now() + self._capped(_FAILURE_SECONDS), reason=_in_words(fault))
        secure = self._vouched(answer.response)
        if answer.rrset is None:
            return _Found("empty", now() + self._capped(_NEGATIVE_SECONDS), secure=secure)
        # One second at least, or a TTL of zero would ask anew for each mail of a burst.
        seconds = max(1.0, min(float(answer.rrset.ttl), self._settings.cache_seconds))
        canonical = answer.canonical_name.to_text().rstrip(".").lower()
        return _Found("found", now() + seconds, _values(answer, kind), secure=secure, canonical=canonical)

    def _vouched(self, answer: dns.message.Message) -> bool:
        return self._settings.validating and bool(answer.flags & dns.flags.AD)

    def _capped(self, seconds: float) -> float:
        return min(seconds, self._settings.cache_seconds)


def stub(settings: DNSSettings) -> dns.asyncresolver.Resolver:
    """A resolver of dnspython that asks the servers that are set."""
    stub = dns.asyncresolver.Resolver(configure=not settings.servers)
    if settings.servers:
        stub.nameservers = [dns.nameserver.Do53Nameserver(*_host_and_port(server)) for server in settings.servers]
    # A lost datagram must cost a fraction of the whole wait, so that a second try still fits.
    stub.timeout = min(2.0, settings.timeout_seconds / 2)
    # A resolver says that an answer is secure only to those who ask (RFC 6840 5.7).
    stub.use_edns(0, dns.flags.DO if settings.validating else 0, 1232)
    return stub


def _host_and_port(server: str) -> tuple[str, int]:
    if server.startswith("["):
        host, _, port = server[1:].partition("]")
        return host, int(port.removeprefix(":") or 53)
    host, colon, port = server.rpartition(":")
    if not colon or ":" in host:
        return server, 53
    return host, int(port)


def _values(answer: Resolution, kind: Kind) -> tuple[tuple[int, str], ...]:
    if kind == "TXT":
        return tuple((0, _joined(cast(dns.rdtypes.ANY.TXT.TXT, record))) for record in answer)
    if kind != "MX":
        return tuple((0, record.to_text()) for record in answer)
    records = (cast(dns.rdtypes.ANY.MX.MX, record) for record in answer)
    return tuple((record.preference, record.exchange.to_text().rstrip(".").lower()) for record in records)


def _joined(record: dns.rdtypes.ANY.TXT.TXT) -> str:
    return b"".join(record.strings).decode("utf-8", "replace")


def _tlsa(text: str) -> TLSARecord:
    usage, selector, matching, *data = text.split()
    return TLSARecord(int(usage), int(selector), int(matching), bytes.fromhex("".join(data)))


def _in_words(fault: Exception) -> str:
    if isinstance(fault, dns.resolver.LifetimeTimeout):
        return "no answer in time"
    if isinstance(fault, dns.resolver.NoNameservers):
        return "the name servers report a failure"
    return f"the answer could not be used ({type(fault).__name__})"


def _in_turn(first: list[str], second: list[str]) -> tuple[str, ...]:
    """The addresses of both families in turn, so that a dead family costs one attempt and not all of them."""
    both = [address for pair in zip(first, second, strict=False) for address in pair]
    shorter = min(len(first), len(second))
    return (*both, *first[shorter:], *second[shorter:])


def _remember(cache: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > _CACHE_ENTRIES:
        cache.popitem(last=False)
