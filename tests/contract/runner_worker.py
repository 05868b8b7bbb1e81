"""A small stage on the real runner: copies records out of order, and can be told to do badly. Also a process to be killed."""

import asyncio
import random
import sys
from collections.abc import Collection
from functools import partial

from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from depesche.analytics.log.client import full_name, producer
from depesche.schemas.errors import ArchiveUnavailableError, UndecodableError
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import EVENTS, JOBS
from depesche.streams.runner.guard import guarded
from depesche.streams.runner.runner import Runner
from depesche.streams.runner.stage import Flight, Stage


class Copier(Stage):
    """Copies mail.jobs to mail.events after a random moment; ``poison``, ``outage`` and ``stuck`` do what they say."""

    name = "copier"
    topics = (JOBS.name,)

    def __init__(self, out: AIOKafkaProducer, settings: Settings, slowest: float = 0.02) -> None:
        self._out = out
        self._topic = full_name(settings.kafka, EVENTS.name)
        self._slowest = slowest
        self._ready: asyncio.Queue[Flight] = asyncio.Queue()
        self.taken: list[bytes] = []
        self.owned: set[TopicPartition] = set()
        self.excuse: str | None = None

    def take(self, flight: Flight) -> None:
        value = flight.record.value or b""
        self.taken.append(value)
        if value == b"poison":
            raise UndecodableError("as told")
        if value == b"stuck":
            return
        later = random.uniform(0, self._slowest)
        asyncio.get_running_loop().call_later(later, guarded, flight, self._decide, flight)

    def _decide(self, flight: Flight) -> None:
        if flight.record.value == b"outage":
            raise ArchiveUnavailableError("as told")
        if flight.record.value == b"bug":
            raise ZeroDivisionError
        self._ready.put_nowait(flight)

    async def work(self) -> None:
        while True:
            flight = await self._ready.get()
            sent = await self._out.send(self._topic, flight.record.value, partition=flight.record.partition)
            sent.add_done_callback(partial(self._copied, flight))

    @staticmethod
    def _copied(flight: Flight, sent: asyncio.Future[object]) -> None:
        fault = None if sent.cancelled() else sent.exception()
        if isinstance(fault, Exception):
            flight.fail(fault)
        elif not sent.cancelled():
            flight.done()

    async def assigned(self, partitions: Collection[TopicPartition]) -> None:
        await asyncio.sleep(0.05)
        self.owned |= set(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.owned -= set(partitions)

    def waiting(self) -> str | None:
        return self.excuse


def settings_for(bootstrap: str, prefix: str) -> Settings:
    return Settings(kafka=KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix))


async def main(bootstrap: str, prefix: str, member: str) -> None:
    settings = settings_for(bootstrap, prefix)
    out = producer(settings, member)
    await out.start()
    await Runner(settings, Copier(out, settings, slowest=0.3), out, member).run(lambda: print("ready", flush=True))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
