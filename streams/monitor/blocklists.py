"""Looks in every round whether an own address is on a blocklist, and says what has changed (mission D9).

Only an answer changes anything: a list that fails, refuses, or may not be believed leaves every address as it was.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from depesche.analytics.log import meters
from depesche.analytics.log.alerts import AlertKey
from depesche.schemas.records import AlertKind, Severity
from depesche.schemas.service import Clock
from depesche.schemas.settings_monitor import DNSBLSettings
from depesche.streams.mail.dnsbl import (
    NO_TEST_ENTRY,
    TEST_ENTRIES,
    Answer,
    Health,
    Verdict,
    family,
    health,
    judge,
    question,
)
from depesche.streams.monitor.alert_writer import AlertWriter

AT_ONCE = 16
"""Questions on their way at the same time."""
_JITTER = 0.2
_FAMILY = {4: "", 6: "/ipv6"}


class Resolver(Protocol):
    """What is asked: see ``wire.dnsbl.BlocklistResolver``."""

    async def addresses(self, name: str) -> Answer:
        """The IPv4 addresses of a name."""
        ...

    async def reason(self, name: str) -> str:
        """The list's words about a name."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """How an address stands on a list. ``verdict`` is nothing where the list was not asked, because of its ``health``."""

    address: str
    zone: str
    health: Health
    verdict: Verdict | None = None
    reason: str = ""


async def examine(resolver: Resolver, addresses: Collection[str], zones: Collection[str]) -> list[Standing]:
    """Ask every list about every address, after it has been asked about its test entries.

    Args:
        resolver: answers.
        addresses: IPv4 and IPv6.
        zones: the lists.

    Raises:
        ValueError: an address is none.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(address: str, zone: str) -> Answer:
        async with gate:
            return await resolver.addresses(question(address, zone))

    async def stands(address: str, zone: str, found: Health) -> Standing:
        if not found.usable:
            return Standing(address, zone, found)
        verdict = judge(await ask(address, zone), zone)
        said = await resolver.reason(question(address, zone)) if verdict.state == "listed" else ""
        return Standing(address, zone, found, verdict, "; ".join(filter(None, (said, verdict.reason))))

    async def of_zone(zone: str, version: int) -> list[Standing]:
        found = health(*await asyncio.gather(*(ask(entry, zone) for entry in TEST_ENTRIES[version])))
        ours = sorted(address for address in addresses if family(address) == version)
        return await asyncio.gather(*(stands(address, zone, found) for address in ours))

    versions = sorted({family(address) for address in addresses})
    parts = await asyncio.gather(*(of_zone(zone, version) for zone in zones for version in versions))
    return [standing for part in parts for standing in part]


class Blocklists:
    """The rounds."""

    def __init__(
        self,
        settings: DNSBLSettings,
        resolver: Resolver,
        addresses: Callable[[], Collection[str]],
        writer: AlertWriter,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        """Prepare to look.

        Args:
            settings: which lists, how often.
            resolver: answers.
            addresses: the own addresses as they are now.
            writer: says what changes, and knows what was said before.
            clock: the time in milliseconds.
            chance: spreads the rounds of many installations.
        """
        self._settings = settings
        self._resolver = resolver
        self._addresses = addresses
        self._writer = writer
        self._clock = clock
        self._chance = chance
        self._silent: dict[str, int] = {}

    async def run(self) -> None:
        """Look again and again until cancelled.

        Raises:
            LogUnavailableError: an alert could not be said.
        """
        while True:
            await self.look()
            spread = self._chance.uniform(1 - _JITTER, 1 + _JITTER)
            await asyncio.sleep(self._settings.interval_seconds * spread)

    async def look(self) -> list[Standing]:
        """One round; tells how each address stands."""
        addresses, zones = set(self._addresses()), self._settings.zones
        found = await examine(self._resolver, addresses, zones)
        healths = {f"{one.zone}{_FAMILY[family(one.address)]}": one.health for one in found}
        for name, state in sorted(healths.items()):
            await self._tell_health(name, state)
        for standing in found:
            await self._tell_listing(standing)
        await self._end_what_is_no_longer_asked(addresses, frozenset(zones), frozenset(healths))
        return found

    async def _tell_health(self, name: str, found: Health) -> None:
        silent = self._silent[name] = self._silent.get(name, 0) + 1 if found.usable is None else 0
        if found.usable is None and silent < self._settings.silent_rounds:
            return
        if found.reason == NO_TEST_ENTRY and name.endswith(_FAMILY[6]):
            # Many lists know no IPv6; that is nothing to tell anybody every time.
            return
        reason = "" if found.usable else f"The blocklist {name} is not believed: {found.reason}."
        await self._say(
            AlertKind.LIST_UNUSABLE, name, not found.usable, reason or f"The blocklist {name} answers again."
        )

    async def _tell_listing(self, standing: Standing) -> None:
        verdict = standing.verdict
        if verdict is None or verdict.state not in ("listed", "clear"):
            return
        listed = verdict.state == "listed"
        meters.gauge("mail_ip_listed", float(listed), ip=standing.address, list=standing.zone)
        said = f": {standing.reason}" if standing.reason else ""
        codes = ", ".join(verdict.codes)
        where = f"{standing.address} is on {standing.zone} ({codes}){said}" if listed else ""
        subject = f"{standing.address}/{standing.zone}"
        await self._say(
            AlertKind.LISTED, subject, listed, where or f"{standing.address} is not on {standing.zone} any more."
        )

    async def _end_what_is_no_longer_asked(
        self, addresses: Collection[str], zones: Collection[str], lists: Collection[str]
    ) -> None:
        for key in list(self._writer.ledger.open()):
            address, _, zone = key.subject.partition("/")
            if key.kind is AlertKind.LISTED and (address not in addresses or zone not in zones):
                meters.gauge("mail_ip_listed", 0.0, ip=address, list=zone)
                await self._say(AlertKind.LISTED, key.subject, False, f"{zone} is not asked about {address} any more.")
            if key.kind is AlertKind.LIST_UNUSABLE and key.subject not in lists:
                await self._say(AlertKind.LIST_UNUSABLE, key.subject, False, f"{key.subject} is not asked any more.")

    async def _say(self, kind: AlertKind, subject: str, raised: bool, explanation: str) -> None:
        severity = Severity.HIGH if kind is AlertKind.LISTED else Severity.WARN
        await self._writer.say(
            AlertKey(kind, severity, subject), raised=raised, at=self._clock(), explanation=explanation
        )
