"""Couriers, agents and a provider with a limit of its own: the limit is found, kept and let go of, and others left alone.

The couriers' own reflexes work beside the shared pace, as they do in production; `tests/unit/streams/test_pace.py` judges the law
alone.
Time is scaled: a minute of the ladder and of the provider takes three seconds.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from depesche.analytics.pace.book import PaceBook
from depesche.analytics.pace.log import read_told
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.published import ZoneFolder
from depesche.infra.local.sink.server import Sink
from depesche.infra.local.zone import Record
from depesche.schemas.records import EventType, PaceAction
from depesche.schemas.settings import Settings
from depesche.streams.mail.pace import Law, replayed
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.retry import Retry
from depesche.streams.stages.shaping_watch import ShapingWatch
from depesche.streams.stages.terms import Guidance
from tests.contract.far_side import dns_server, sink, zone
from tests.contract.outbox import opened, running, settings_for
from tests.contract.rates_worker import agents

__all__ = ["dns_server", "sink", "zone"]
pytestmark = [pytest.mark.long, pytest.mark.timeout(500)]

ADDRESS = "127.0.9.1"
WINDOW = 3.0
LIMIT = 30
PACE = {
    "window_seconds": WINDOW,
    "raise_factor": 1.3,
    "hold_seconds": 4 * WINDOW,
    "longest_hold_seconds": 8 * WINDOW,
    "limit_seconds": 100 * WINDOW,
    "memory_seconds": 200 * WINDOW,
}


class LimitedISP:
    """An SMTP server that takes ``limit`` mails in any window, and answers 421 to the rest."""

    def __init__(self) -> None:
        self.limit: int | None = LIMIT
        self.taken: list[float] = []
        self.refused: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One conversation."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(b"220 mx.limited.test ESMTP\r\n")
            while line := await reader.readline():
                if not self._answer(line[:4].upper(), writer):
                    break
                if line[:4].upper() == b"DATA":
                    await reader.readuntil(b"\r\n.\r\n")
                    self.taken.append(time.monotonic())
                    writer.write(b"250 2.0.0 kept\r\n")
                await writer.drain()
        writer.close()

    def _answer(self, verb: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer a command; whether the conversation goes on."""
        now = time.monotonic()
        if verb == b"RCPT" and self.limit is not None and self._lately(self.taken, now) >= self.limit:
            self.refused.append(now)
            writer.write(b"421 4.7.28 Too many messages from your IP address, slow down\r\n")
            return False
        writer.write({b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(verb, b"250 2.1.0 ok\r\n"))
        return verb != b"QUIT"

    @staticmethod
    def _lately(times: list[float], now: float) -> int:
        return sum(1 for at in reversed(times[-500:]) if at > now - WINDOW)


@contextlib.asynccontextmanager
async def serving(isp: LimitedISP, port: int) -> AsyncIterator[None]:
    """Let the provider listen beside the sink."""
    server = await asyncio.start_server(isp.serve, ADDRESS, port)
    try:
        yield
    finally:
        server.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a fact, however busy the machine is."""
    async with asyncio.timeout(150):
        while not holds():
            await asyncio.sleep(0.05)


def limited(book: PaceBook) -> bool:
    """Whether the shared pace has a rate for the provider."""
    return book.pace("shared", "limited.test").per_minute is not None


async def test_the_pace_finds_a_providers_limit_and_lets_go_of_it(
    kafka_broker: KafkaBroker, dns_server: DNSServer, zone: ZoneFolder, sink: Sink, tmp_path: Path
) -> None:
    zone.publish(Record("limited.test", "MX", "10 mx.limited.test"), Record("mx.limited.test", "A", ADDRESS))
    settings = settings_for(kafka_broker, dns_server, sink.port, "paceend.", tmp_path, time_scale=WINDOW / 60)
    settings = Settings.model_validate(settings.model_dump() | {"pace": PACE})
    isp, book = LimitedISP(), PaceBook(settings)
    async with opened(settings) as outbox, serving(isp, sink.port), contextlib.AsyncExitStack() as stack:
        await book.start()
        stack.push_async_callback(book.stop)
        guidance = Guidance(ShapingWatch(settings).of, book)
        deliver = Deliver(settings, outbox.keyring, outbox.archive, "a", guidance=guidance)
        with agents(settings):
            async with running(deliver), running(Retry(settings, "a")):
                good = await outbox.units(*(f"fine-{number}@sandbox.test" for number in range(200)))
                units = await outbox.units(*(f"r{number}@limited.test" for number in range(800)))
                await outbox.all_final(120, good)
                await until(lambda: limited(book))
                # Fifty mails to find its way; of the next two hundred it must hardly try one too many.
                await until(lambda: len(isp.taken) >= LIMIT + 50)
                taken, refused = len(isp.taken), len(isp.refused)
                await until(lambda: len(isp.taken) >= taken + 200)
                taken, refused = len(isp.taken) - taken, len(isp.refused) - refused
                print(f"{refused} refused while {taken} were taken, pace {book.pace('shared', 'limited.test')}")
                assert refused <= 0.15 * taken
                # Whoever is the stricter one, the shared pace or a courier's own reflex: the limit is known to all.
                assert limited(book)
                isp.limit = None
                units += await outbox.units(*(f"s{number}@limited.test" for number in range(800)))
                await until(lambda: not limited(book))
                await outbox.all_final(120, units)
            told = await read_told(settings)
        finals = await outbox.finals()
        events = {event.unit_id: event.type for event in await outbox.told() if finals[event.unit_id]}
    assert set(finals.values()) == {1}
    assert {events[unit.unit_id] for unit in outbox.sent} == {EventType.DELIVERED}
    assert {one.provider for one in told.history} == {"limited.test"}
    assert told.history[0].action is PaceAction.LOWERED
    assert told.history[0].reason == "rate_limited"
    assert (told.history[0].per_minute or 0) <= LIMIT * 60 / WINDOW
    assert told.history[-1].action is PaceAction.LIFTED
    assert replayed(Law(settings.pace, settings.deliver.connections_per_route), told.signals) == told.history
