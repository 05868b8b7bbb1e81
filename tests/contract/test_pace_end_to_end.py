"""Couriers, agents and a provider with a limit of its own: the limit is found, kept and let go of, and others left alone.

The couriers' own reflexes work beside the shared pace, as they do in production; `tests/unit/streams/test_pace.py` judges the law
alone.
Time is scaled: a minute of the ladder and of the provider takes three seconds.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
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

__all__ = ["dns_server", "sink", "zone"]
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

WORKER = Path(__file__).with_name("rates_worker.py")
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

    def between(self, begin: float, end: float) -> tuple[int, int]:
        """Taken and refused in this time."""
        return sum(begin < at <= end for at in self.taken), sum(begin < at <= end for at in self.refused)


@contextlib.asynccontextmanager
async def serving(isp: LimitedISP, port: int) -> AsyncIterator[None]:
    """Let the provider listen beside the sink."""
    server = await asyncio.start_server(isp.serve, ADDRESS, port)
    try:
        yield
    finally:
        server.close()


@contextlib.contextmanager
def agents(settings: Settings) -> Iterator[None]:
    """The agents in a process of their own."""
    file = settings.home / "agents.json"
    file.write_text(settings.model_dump_json())
    with (settings.home / "agents.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, str(WORKER), str(file)], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


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
                units = await outbox.units(*(f"r{number}@limited.test" for number in range(1200)))
                await outbox.all_final(60, good)
                async with asyncio.timeout(60):
                    while book.pace("shared", "limited.test").per_minute is None:
                        await asyncio.sleep(0.05)
                # Three windows to find its way, then ten in which it must keep to the limit and use it.
                await asyncio.sleep(3 * WINDOW)
                begin = time.monotonic()
                await asyncio.sleep(10 * WINDOW)
                taken, refused = isp.between(begin, begin + 10 * WINDOW)
                held = book.pace("shared", "limited.test")
                print(f"taken {taken} of {10 * LIMIT}, refused {refused}, pace {held}")
                assert taken >= 0.5 * 10 * LIMIT
                assert refused <= 0.15 * taken
                # Whether the shared pace or a courier's own reflex is the stricter one at this moment is open.
                isp.limit = None
                async with asyncio.timeout(60):
                    while book.pace("shared", "limited.test").per_minute is not None:
                        await asyncio.sleep(0.05)
                await outbox.all_final(60, units)
            told = await read_told(settings)
        finals = await outbox.finals()
        events = {event.unit_id: event.type for event in await outbox.told() if finals[event.unit_id]}
    assert set(finals.values()) == {1}
    assert {events[unit.unit_id] for unit in outbox.sent} == {EventType.DELIVERED}
    assert {one.provider for one in told.history} == {"limited.test"}
    assert told.history[0].action is PaceAction.LOWERED
    assert told.history[0].reason == "rate_limited"
    assert replayed(Law(settings.pace, settings.deliver.connections_per_route), told.signals) == told.history
