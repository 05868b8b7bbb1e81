"""Opens connections to the hosts of a domain: one host after the other, IPv6 and IPv4, TLS as the policies want (RFC 5321 5.1).

Remembers for a while what did not work, so that a dead first exchanger costs its time-out once and not once per connection.
"""

from __future__ import annotations

import random
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from depesche.schemas.records import PoolAddress
from depesche.schemas.settings import DeliverSettings, Settings
from depesche.streams.mail.route import POOL
from depesche.streams.mail.tls_policy import Asked, Requirement, required
from depesche.streams.mail.tls_report import TLSSession
from depesche.streams.stages.tls_sessions import TLSTally, session_of
from depesche.streams.stages.warming import Warming
from depesche.streams.wire.dns import Host, Hosts
from depesche.streams.wire.smtp import NO_TLS, Answer, Peer, SMTPConnection, Terms, open_connection
from depesche.streams.wire.sts import authorities
from depesche.streams.wire.tls import Check, any_certificate

_MOST_TRIES = 8
_ADDRESSES_PER_HOST = 3
_LONGEST_SECONDS = 600.0
"""No new try is begun after so long; hosts that hang one after the other must not hold a courier for an hour."""
_NEXT_SECONDS = 5.0
"""How long a connection may take where there is another address to try."""
_SHUN_SECONDS = 60.0
_PLAIN_SECONDS = 600.0
_MEMORY = 10_000
_ANY = PoolAddress(ip="")
NO_ROOM = Answer("connect", 0, "4.4.7", "our addresses that are warming up have sent what they may today")
"""Nobody was asked: all own addresses that fit are cold and have used up their allowance (``streams/mail/warmup.py``)."""
OwnAddresses: TypeAlias = Callable[[str], Sequence[PoolAddress]]
"""The own addresses of an egress pool by its name."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One try: a host, one of its addresses, the own address for it, and what is asked of TLS."""

    host: Host
    address: str
    source: PoolAddress
    requirement: Requirement

    @property
    def source_ip(self) -> str:
        """The own address; empty when the system may choose."""
        return self.source.ip


class Connections:
    """Opens connections for all routes of a courier process."""

    def __init__(
        self,
        settings: DeliverSettings,
        helo: str,
        shuffle: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        authorities: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        tally: Callable[[TLSSession], None] | None = None,
        own: OwnAddresses | None = None,
        warming: Warming | None = None,
    ) -> None:
        """Prepare to open.

        Args:
            settings: port, time-outs, own addresses.
            helo: our name in EHLO.
            shuffle: chooses among equal hosts.
            clock: monotonic seconds.
            authorities: makes the context for hosts that must prove their name by a known authority; asked once.
            tally: told of every session on which it came to the question of TLS.
            own: the own addresses of each egress pool; a pool without any has those of the settings.
            warming: which of them may send now; without it all may.
        """
        self._settings = settings
        self._helo = helo
        self._shuffle = shuffle or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._clock = clock
        self._authorities = authorities
        self._strict: ssl.SSLContext | None = None
        self._tally = tally
        self._own = own or (lambda pool: ())
        self._warming = warming
        self._by_settings = tuple(PoolAddress(ip=ip) for ip in settings.source_ips)
        self._shunned: OrderedDict[str, float] = OrderedDict()
        self._plain: OrderedDict[str, float] = OrderedDict()
        self._turn = 0

    async def open(
        self, hosts: Hosts, tls: Asked = "may", pool: str = POOL, provider: str = ""
    ) -> SMTPConnection | Answer:
        """A connection for one mail to one of ``hosts`` (verdict ``found``), or the answer of those that were tried.

        A host that does not answer, does not greet, greets with a refusal or is not as its domain's TLS policy wants it is
        passed over for the next. When none is left, the answer is for now if any host's was for now, else for good.

        Args:
            hosts: whom to try, with what their domain asks of TLS.
            tls: what the sender asks of TLS.
            pool: the egress pool to send from.
            provider: whose hosts they are; cold addresses send each provider only so much a day. ``NO_ROOM`` is the answer
                where that kept every host from being asked.
        """
        answers: list[Answer] = []
        begun = self._clock()
        ways = self._ways(hosts, tls, pool)
        for way in ways:
            if way.requirement.refusal:
                answers.append(_refused(way))
                self._count(hosts, way, way.requirement.result)
                continue
            source = self._source(self._own(pool) or self._by_settings, way.address, pool, provider)
            if source is None:
                continue
            result = await self._from(source, hosts, way, provider, last=way is ways[-1])
            if isinstance(result, SMTPConnection):
                self._shunned.pop(way.address, None)
                return result
            answers.append(result)
            if result.step != "starttls":
                # A host whose TLS is not enough for this policy may still be good enough for another.
                self._note(self._shunned, way.address, _SHUN_SECONDS)
            if self._clock() - begun > _LONGEST_SECONDS:
                break
        return NO_ROOM if ways and not answers else _summed_up(answers)

    def may_go_on(self, connection: SMTPConnection, pool: str, provider: str) -> bool:
        """Whether one more mail may leave over a connection, for the own address that it was opened from."""
        return self._warming is None or self._warming.take_again(pool, provider, connection.peer.source_ip)

    async def _from(
        self, source: PoolAddress, hosts: Hosts, way: _Way, provider: str, *, last: bool
    ) -> SMTPConnection | Answer:
        """A try from ``source``, which was counted as having sent; it has not, unless a connection stands."""
        result: SMTPConnection | Answer | None = None
        try:
            result = await self._try(hosts, replace(way, source=source), last=last)
            return result
        finally:
            if self._warming is not None and not isinstance(result, SMTPConnection):
                self._warming.give_back(provider, source.ip)

    def _ways(self, hosts: Hosts, tls: Asked, pool: str) -> list[_Way]:
        """The tries in order; what failed just now comes last, and a host that must not be used stands there once."""
        found = []
        own = self._own(pool) or self._by_settings or (_ANY,)
        for host in hosts.in_order(self._shuffle):
            requirement = required(host.name, hosts.domain, tls, host.dane, hosts.sts)
            for address in host.addresses[: 1 if requirement.refusal else _ADDRESSES_PER_HOST]:
                fitting = _fitting(own, address)
                if fitting:
                    found.append(_Way(host, address, fitting[0], requirement))
        return sorted(found, key=lambda way: self._noted(self._shunned, way.address))[:_MOST_TRIES]

    def _source(self, own: Sequence[PoolAddress], address: str, pool: str, provider: str) -> PoolAddress | None:
        """An own address of the same family, each in turn; an empty one when the system may choose, None when none may now."""
        self._turn += 1
        if self._warming is not None and self._own(pool):
            return self._warming.take(pool, provider, ipv6=":" in address, turn=self._turn)
        fitting = _fitting(own or (_ANY,), address)
        return fitting[self._turn % len(fitting)]

    async def _try(self, hosts: Hosts, way: _Way, *, last: bool) -> SMTPConnection | Answer:
        wanted, terms = way.requirement, self._terms(way)
        if not last:
            # A family or host that swallows packets must not cost the whole wait while another may answer.
            terms = replace(terms, connect_seconds=min(_NEXT_SECONDS, self._settings.connect_seconds))
        if not wanted.encrypt and self._noted(self._plain, way.address) and not wanted.authority:
            terms = replace(terms, tls="never")
        result = await open_connection(way.host.name, way.address, terms)
        if isinstance(result, SMTPConnection):
            self._count(
                hosts, way, wanted.result or result.tls_result or ("" if result.peer.tls else "validation-failure")
            )
            return result
        if result.step != "starttls":
            return result
        self._count(hosts, way, wanted.result or result.tls_result or "validation-failure")
        if wanted.encrypt and not wanted.lenient:
            return result
        return await self._leniently(way, terms, result)

    async def _leniently(self, way: _Way, terms: Terms, failure: Answer) -> SMTPConnection | Answer:
        """Another connection after ``failure``, that goes as it would without the policy that only counts."""
        result: SMTPConnection | Answer = failure
        if way.requirement.lenient and terms.check is not None:
            tls: Asked = "must" if way.requirement.encrypt else "may"
            result = await open_connection(way.host.name, way.address, replace(terms, tls=tls, check=None))
        if way.requirement.encrypt or isinstance(result, SMTPConnection) or result.step != "starttls":
            return result
        # Opportunistic TLS (RFC 7435): what cannot be encrypted goes as it went before, on a new connection.
        self._note(self._plain, way.address, _PLAIN_SECONDS)
        plain = await open_connection(way.host.name, way.address, replace(terms, tls="never", check=None))
        if isinstance(plain, SMTPConnection):
            plain.tls_failed = failure.text
        return plain

    def _terms(self, way: _Way) -> Terms:
        wanted = way.requirement
        tls: Asked = "must" if wanted.encrypt or wanted.authority else "may"
        return Terms(
            way.source.helo or self._helo,
            self._settings.port,
            self._settings,
            way.source_ip,
            tls,
            wanted.server_name,
            self._check(wanted),
            wanted.name,
        )

    def _check(self, wanted: Requirement) -> Check | None:
        if wanted.authority:
            if self._strict is None:
                self._strict = self._authorities()
            return Check(self._strict, by=f"MTA-STS ({wanted.name})")
        if wanted.records:
            return Check(any_certificate(), wanted.records, wanted.names, "DANE")
        return None

    def _count(self, hosts: Hosts, way: _Way, result: str) -> None:
        if self._tally is not None:
            self._tally(session_of(hosts, way.host, way.requirement, result, way.address, way.source_ip))

    def _note(self, memory: OrderedDict[str, float], address: str, seconds: float) -> None:
        memory[address] = self._clock() + seconds
        memory.move_to_end(address)
        if len(memory) > _MEMORY:
            memory.popitem(last=False)

    def _noted(self, memory: OrderedDict[str, float], address: str) -> bool:
        return memory.get(address, 0.0) > self._clock()


def connections(
    settings: Settings, sessions: TLSTally, own: OwnAddresses | None = None, warming: Warming | None = None
) -> Connections:
    """Connections as the settings want them, from the ``own`` addresses of each pool, counted in ``sessions``."""
    return Connections(
        settings.deliver,
        settings.deliver.helo or settings.smtp.hostname,
        authorities=partial(authorities, settings.tls),
        tally=sessions.add,
        own=own,
        warming=warming,
    )


def _fitting(own: Sequence[PoolAddress], address: str) -> Sequence[PoolAddress]:
    """The own addresses of the family of ``address``; an empty one, for which the system chooses, fits all."""
    return [mine for mine in own if not mine.ip or (":" in mine.ip) == (":" in address)]


def _refused(way: _Way) -> Answer:
    """The answer of a host that is not even asked."""
    wanted = way.requirement
    peer = Peer(way.host.name, way.address, way.source_ip, policy=wanted.name)
    transcript = f"= TLS policy {wanted.name}\n= {way.host.name} [{way.address}]: not connected, {wanted.refusal}"
    return Answer("starttls", 0, NO_TLS, wanted.refusal, transcript=transcript, peer=peer, tls_result=wanted.result)


def _summed_up(answers: list[Answer]) -> Answer:
    if not answers:
        return Answer("connect", 0, "4.4.4", "we have no address of the family that the domain's hosts have")
    for_now = [answer for answer in answers if answer.code // 100 != 5]
    transcript = "\n\n".join(answer.transcript for answer in answers)
    return replace((for_now or answers)[-1], transcript=transcript[-4_000:])
