"""Returns: reads what came back to the return path and says what it means for the unit that its key names.

The key alone decides which unit that is. What else an event needs (whose unit, its provider, how far its story goes) is asked of
the store; a report can be there before the store has the mail it is about, so it waits, and nothing is committed past it. A
report that has been counted is recognised by its event's id, in the store and, for the last moments, in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from aiokafka import AIOKafkaProducer

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.archive.return_keys import return_keys
from depesche.analytics.log import meters
from depesche.analytics.log.client import full_name, producer
from depesche.analytics.log.topics import partition_counts
from depesche.analytics.store.rows import accepted_at_of
from depesche.analytics.units.lookup import KnownUnit, UnitLookup
from depesche.schemas import cloudevents
from depesche.schemas.codec import decode, encode
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import NotFoundError, StoreUnavailableError, UndecodableError
from depesche.schemas.identity import job_of
from depesche.schemas.records import ReturnedEnvelope, ReturnedMail
from depesche.schemas.return_key import KEPT_AS
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTCOMES, RETURNS, partition_of
from depesche.streams.mail.returns.keys import Found
from depesche.streams.mail.returns.meaning import Fact, Reading, fact_of, read_returned
from depesche.streams.runner.guard import guarded_await
from depesche.streams.runner.runner import Limits, Runner
from depesche.streams.runner.stage import Flight, Stage
from depesche.streams.stages.returned import Pen, event_of, id_of

log = structlog.get_logger(__name__)

IN_FLIGHT = 64
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 10.0
KEPT_MS = 44 * 86_400_000
"""A unit older than this may have left the store; a report about it comes too late to change anything."""
END_SECONDS = 5.0
"""How long a report that is faster than the sink waits for the end of its unit to be known, so that it can name it."""
REMEMBERED = 10_000
ERASE_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Gear:
    """What the stage works with.

    Attributes:
        keyring: opens envelopes, seals what is personal, holds the secret of the return keys.
        archive: where returned mail lies.
        units: knows whose a unit is.
        out: a started producer for events.
    """

    keyring: Keyring
    archive: ArchiveReader
    units: UnitLookup
    out: AIOKafkaProducer


class Returning(Stage):
    """The stage."""

    name = "returns"
    topics = (RETURNS.name,)

    def __init__(self, settings: Settings, gear: Gear, worker: str, clock: Clock = now_ms) -> None:
        self._settings = settings
        self._gear = gear
        self._keys = return_keys(gear.keyring)
        self._pepper = gear.keyring.pepper("person") if settings.suppression.scope == "global" else b""
        self._worker = worker
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: OrderedDict[str, asyncio.Future[None]] = OrderedDict()
        self._partitions = 0
        self._waiting: dict[str, str] = {}

    async def start(self) -> None:
        """Learn how many partitions there are to write to."""
        self._partitions = (await partition_counts(self._settings, OUTCOMES))[OUTCOMES.name]

    async def stop(self) -> None:
        """Let go of what still waits; it is read again by whoever comes next."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, flight: Flight) -> None:
        """Begin with a returned mail."""
        if flight.record.value is None:
            raise UndecodableError("a returned mail without a value")
        mail = decode(ReturnedMail, flight.record.value)
        task = asyncio.create_task(guarded_await(flight, self._settle(flight, mail)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def waiting(self) -> str | None:
        """See ``Stage.waiting``."""
        return next(iter(self._waiting.values()), None)

    async def _settle(self, flight: Flight, mail: ReturnedMail) -> None:
        key = self._gear.keyring.key(mail.key_id)
        opened = key.open(mail.sealed_envelope, b"returned|" + mail.returned_id.encode())
        recipients = decode(ReturnedEnvelope, opened).recipients
        # In a thread, because a large bounce takes as long to read as a hundred mails to sign.
        reading = await asyncio.to_thread(self._read, mail, recipients)
        place = f"{RETURNS.name}/{flight.record.partition}/{flight.record.offset}"
        for found in reading.units:
            flight.unit_id = found.unit_id
            await self._about(found, reading, mail, place)
        if not reading.units:
            meters.count("mail_returns_total", meaning="no key")
        crashpoint("R4")
        flight.done()

    def _read(self, mail: ReturnedMail, recipients: tuple[str, ...]) -> Reading:
        content = b"".join(self._gear.archive.get(ref) for ref in mail.content)
        return read_returned(content, recipients, self._keys)

    async def _about(self, found: Found, reading: Reading, mail: ReturnedMail, place: str) -> None:
        """Say what a returned mail means for one unit, unless it means nothing."""
        if fact_of(reading, found.purpose, "") is None:
            meters.count("mail_returns_total", meaning="nothing")
            return
        unit = await self._known(found.unit_id, mail)
        fact = fact_of(reading, found.purpose, unit.recipient) if unit is not None else None
        if unit is None or fact is None:
            meters.count("mail_returns_total", meaning="too late")
            return
        crashpoint("R3")
        say = partial(self._say, unit, fact, mail, place)
        new = id_of(unit.unit_id, fact) not in unit.events and await self._once(id_of(unit.unit_id, fact), say)
        meters.count("mail_returns_total", meaning=fact.type.value if new else "repeated")

    async def _once(self, id_: str, say: Callable[[], Awaitable[None]]) -> bool:
        """Say an event unless that was done lately; gives whether it was said now. What is being said just now is waited for."""
        known = self._said.get(id_)
        if known is not None:
            await asyncio.shield(known)
            return False
        saying = self._said[id_] = asyncio.ensure_future(say())
        saying.add_done_callback(partial(self._forget_if_failed, id_))
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        await saying
        return True

    def _forget_if_failed(self, id_: str, saying: asyncio.Future[None]) -> None:
        if saying.cancelled() or saying.exception() is not None:
            self._said.pop(id_, None)

    async def _say(self, unit: KnownUnit, fact: Fact, mail: ReturnedMail, place: str) -> None:
        pen = Pen(self._gear.keyring.today(unit.tenant), self._pepper, self._worker)
        event = event_of(unit, fact, mail, place, pen)
        await self._gear.out.send_and_wait(
            full_name(self._settings.kafka, OUTCOMES.name),
            encode(event),
            key=event.recipient_key.encode(),
            partition=partition_of(event.recipient_key, self._partitions),
            headers=cloudevents.of_event(event),
        )

    async def _known(self, unit_id: str, mail: ReturnedMail) -> KnownUnit | None:
        """The unit, once the store has it; None: it is so old that the store has forgotten it.

        Raises:
            NotFoundError: the store answers, and has not got it after all the time that is allowed.
        """
        too_late = mail.received_at - accepted_at_of(unit_id, job_of(unit_id)) > KEPT_MS
        pause, patience, end = FIRST_WAIT_SECONDS, self._settings.returns.unit_wait_seconds, END_SECONDS
        try:
            while True:
                try:
                    unit = await self._gear.units.find(unit_id)
                except StoreUnavailableError:
                    # Nobody's report: it waits as long as the store is down, and the time does not count.
                    self._waiting[unit_id] = "the store does not answer"
                else:
                    if too_late or (unit is not None and (unit.final_event or end <= 0)):
                        return unit
                    self._waiting[unit_id] = "a report came before the store has its mail"
                    if unit is not None:
                        pause = min(pause, end)
                        end -= pause
                    elif patience > 0:
                        pause = min(pause, patience)
                        patience -= pause
                    else:
                        raise NotFoundError(f"the store does not know the unit {unit_id}, which a report is about")
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_WAIT_SECONDS)
        finally:
            self._waiting.pop(unit_id, None)


class Returns:
    """The stage as a service, with its own producer; it also erases the keys of returned mail that is old enough."""

    name = "returns"

    def __init__(
        self, settings: Settings, keyring: Keyring, archive: ArchiveReader, units: UnitLookup, member: str
    ) -> None:
        self._settings = settings
        self._keyring = keyring
        self._archive = archive
        self._units = units
        self._member = member

    async def run(self, ready: Callable[[], None]) -> None:
        """See ``schemas.service.Service``."""
        out = producer(self._settings, f"returns-{self._member}")
        await out.start()
        worker = f"returns-{self._member}"
        stage = Returning(self._settings, Gear(self._keyring, self._archive, self._units, out), worker)
        erasing = asyncio.create_task(self._erase_often(), name="erase returned mail")
        try:
            await stage.start()
            await Runner(self._settings, stage, out, self._member, Limits(in_flight=IN_FLIGHT)).run(ready)
        finally:
            erasing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await erasing
            await stage.stop()
            await out.stop()

    async def _erase_often(self) -> None:
        while True:
            gone = await asyncio.to_thread(erase_old, self._keyring, self._settings.returns.retention_days, now_ms())
            if gone:
                log.info("returned_mail_erased", keys=gone)
            await asyncio.sleep(ERASE_SECONDS)


def erase_old(keyring: Keyring, retention_days: int, now: int) -> list[str]:
    """Make returned mail of days before the last ``retention_days`` unreadable for everybody; gives the ids of the erased keys.

    Args:
        keyring: holds them.
        retention_days: whole days (UTC) before today that are kept.
        now: milliseconds since 1970 UTC.
    """
    today = datetime.fromtimestamp(now / 1000, UTC).date()
    return keyring.erase_before(today - timedelta(days=retention_days), KEPT_AS)
