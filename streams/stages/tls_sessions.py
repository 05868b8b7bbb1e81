"""Counts sessions by how they ended with regard to TLS, and writes the counts to mail.tls (RFC 8460).

A count is the whole of what this process has seen of its kind on that day, written again when it grew: whoever reads takes the
newest of each key and adds the processes up. Each life of a process counts under a name of its own, so a restart begins at
nothing and takes nothing away. What a kill loses is what was counted in the last seconds; a report is statistics, not a bill.
"""

from __future__ import annotations

import asyncio
import uuid
from hashlib import sha256

from aiokafka import AIOKafkaProducer

from depesche.analytics.log.client import full_name
from depesche.schemas.codec import encode
from depesche.schemas.records import TLSCount
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import TLS
from depesche.streams.mail.tls_policy import Requirement
from depesche.streams.mail.tls_report import TLSSession, day_of
from depesche.streams.wire.dns import Host, Hosts

_FLUSH_SECONDS = 2.0
_MOST_KINDS = 50_000
"""Kinds of sessions that are told apart on one day; beyond, addresses are no longer."""


class TLSTally:
    """The counter of one courier process."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, worker: str, clock: Clock = now_ms) -> None:
        """Prepare to count.

        Args:
            settings: the topic's full name.
            producer: a started producer.
            worker: who counts.
            clock: the time in milliseconds.
        """
        self._topic = full_name(settings.kafka, TLS.name)
        self._producer = producer
        self._counter = f"{worker}/{uuid.uuid4().hex[:12]}"
        self._clock = clock
        self._counts: dict[tuple[str, TLSSession], int] = {}
        self._grown: set[tuple[str, TLSSession]] = set()

    def add(self, session: TLSSession) -> None:
        """Count a session."""
        key = (day_of(self._clock()), session)
        if key not in self._counts and len(self._counts) >= _MOST_KINDS:
            bare = TLSSession(session.domain, session.kind, session.policy, session.mx_host, session.result)
            key = (key[0], bare)
        self._counts[key] = self._counts.get(key, 0) + 1
        self._grown.add(key)

    async def work(self) -> None:
        """Write what has grown every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what has grown, and forget days that are over.

        Raises:
            KafkaError: the log refuses for good.
        """
        grown, self._grown = self._grown, set()
        for day, session in grown:
            record = self._record(day, session)
            parts = (day, self._counter, session.domain, session.kind, session.result, session.host)
            more = (session.remote_ip, session.source_ip, *session.policy)
            key = sha256("|".join((*parts, *more)).encode()).hexdigest()[:32].encode()
            await self._producer.send(self._topic, encode(record), key=key, partition=0)
        today = day_of(self._clock())
        over = [kept for kept in self._counts if kept[0] != today and kept not in self._grown]
        for kept in over:
            del self._counts[kept]

    def _record(self, day: str, session: TLSSession) -> TLSCount:
        return TLSCount(
            day=day,
            counter=self._counter,
            domain=session.domain,
            kind=session.kind,
            policy=session.policy,
            mx_host=session.mx_host,
            result=session.result,
            host=session.host,
            remote_ip=session.remote_ip,
            source_ip=session.source_ip,
            count=self._counts[day, session],
        )


def session_of(hosts: Hosts, host: Host, wanted: Requirement, result: str, address: str, source_ip: str) -> TLSSession:
    """What a session with ``address`` of ``host`` was, that ended with ``result``, under the policy ``wanted``."""
    kind, policy = wanted.kind, _policy_lines(hosts, host, wanted)
    mx_host: tuple[str, ...] = ()
    if wanted.kind == "sts" and hosts.sts is not None:
        mx_host = hosts.sts.mx
    elif wanted.kind == "no-policy-found" and hosts.sts_problem:
        # The domain says that it has a policy, and nobody could read it (RFC 8460 4.3.2.2).
        kind, result = "sts", hosts.sts_problem
    if not result:
        # Successes are not told apart by address: reports do not either.
        return TLSSession(hosts.domain, kind, policy, mx_host)
    return TLSSession(hosts.domain, kind, policy, mx_host, result, host.name, address, source_ip)


def _policy_lines(hosts: Hosts, host: Host, wanted: Requirement) -> tuple[str, ...]:
    if wanted.kind == "tlsa" and host.dane is not None:
        return tuple(f"_25._tcp.{host.dane.base}. IN TLSA {record}" for record in host.dane.records)
    if wanted.kind == "sts" and hosts.sts is not None:
        return hosts.sts.lines
    return ()
