"""Opens connections to the hosts of a domain: one host after the other, IPv6 and IPv4, TLS where it works (RFC 5321 5.1).

Remembers for a while what did not work, so that a dead first exchanger costs its time-out once and not once per connection.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from depesche.schemas.settings import DeliverSettings
from depesche.streams.wire.dns import Hosts
from depesche.streams.wire.smtp import Answer, SMTPConnection, Terms, TLSPolicy, open_connection

_MOST_TRIES = 8
_ADDRESSES_PER_HOST = 3
_LONGEST_SECONDS = 600.0
"""No new try is begun after so long; hosts that hang one after the other must not hold a courier for an hour."""
_SHUN_SECONDS = 60.0
_PLAIN_SECONDS = 600.0
_MEMORY = 10_000


class Connections:
    """Opens connections for all routes of a courier process."""

    def __init__(
        self,
        settings: DeliverSettings,
        helo: str,
        shuffle: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to open.

        Args:
            settings: port, time-outs, own addresses.
            helo: our name in EHLO.
            shuffle: chooses among equal hosts.
            clock: monotonic seconds.
        """
        self._settings = settings
        self._helo = helo
        self._shuffle = shuffle or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._clock = clock
        self._shunned: OrderedDict[str, float] = OrderedDict()
        self._plain: OrderedDict[str, float] = OrderedDict()
        self._turn = 0

    async def open(self, hosts: Hosts, tls: TLSPolicy = "may") -> SMTPConnection | Answer:
        """A connection to one of ``hosts`` (verdict ``found``), or the answer of those that were tried.

        A host that does not answer, does not greet or greets with a refusal is passed over for the next. When none is left,
        the answer is for now if any host's was for now, else for good.
        """
        answers: list[Answer] = []
        begun = self._clock()
        for name, address, source_ip in self._tries(hosts):
            terms = Terms(self._helo, self._settings.port, self._settings, source_ip, tls)
            result = await self._try(name, address, terms)
            if isinstance(result, SMTPConnection):
                self._shunned.pop(address, None)
                return result
            answers.append(result)
            if result.step != "starttls":
                # A host whose TLS is not enough for this policy may still be good enough for another.
                self._note(self._shunned, address, _SHUN_SECONDS)
            if self._clock() - begun > _LONGEST_SECONDS:
                break
        return _summed_up(answers)

    def _tries(self, hosts: Hosts) -> list[tuple[str, str, str]]:
        """Host name, address and own address of each try, in order; what failed just now comes last."""
        found = []
        for host in hosts.in_order(self._shuffle):
            for address in host.addresses[:_ADDRESSES_PER_HOST]:
                source_ip = self._source_ip(address)
                if source_ip is not None:
                    found.append((host.name, address, source_ip))
        return sorted(found, key=lambda way: self._noted(self._shunned, way[1]))[:_MOST_TRIES]

    def _source_ip(self, address: str) -> str | None:
        """An own address of the same family, each in turn; empty when the system may choose, None when there is none."""
        own = self._settings.source_ips
        if not own:
            return ""
        fitting = [mine for mine in own if (":" in mine) == (":" in address)]
        if not fitting:
            return None
        self._turn += 1
        return fitting[self._turn % len(fitting)]

    async def _try(self, name: str, address: str, terms: Terms) -> SMTPConnection | Answer:
        opportunistic = terms.tls == "may"
        if opportunistic and self._noted(self._plain, address):
            terms = replace(terms, tls="never")
        result = await open_connection(name, address, terms)
        if isinstance(result, SMTPConnection) or result.step != "starttls" or not opportunistic:
            return result
        # Opportunistic TLS (RFC 7435): what cannot be encrypted goes as it went before, on a new connection.
        self._note(self._plain, address, _PLAIN_SECONDS)
        plain = await open_connection(name, address, replace(terms, tls="never"))
        if isinstance(plain, SMTPConnection):
            plain.tls_failed = result.text
        return plain

    def _note(self, memory: OrderedDict[str, float], address: str, seconds: float) -> None:
        memory[address] = self._clock() + seconds
        memory.move_to_end(address)
        if len(memory) > _MEMORY:
            memory.popitem(last=False)

    def _noted(self, memory: OrderedDict[str, float], address: str) -> bool:
        return memory.get(address, 0.0) > self._clock()


def _summed_up(answers: list[Answer]) -> Answer:
    if not answers:
        return Answer("connect", 0, "4.4.4", "we have no address of the family that the domain's hosts have")
    for_now = [answer for answer in answers if answer.code // 100 != 5]
    transcript = "\n\n".join(answer.transcript for answer in answers)
    return replace((for_now or answers)[-1], transcript=transcript[-4_000:])
