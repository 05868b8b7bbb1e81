"""The loader: SMTP in, as fast as the server takes it or at a fixed pace. A process of its own; its CPU is not counted.

Prints one JSON object: messages, seconds, and the accept times (final dot written to reply read) in milliseconds, with the
moment of each reply, so that the way from yes to arrival can be told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import uvloop

from depesche.infra.bench.mails import bodies, message

DOMAINS = 16
DISTINCT = 200


class Target(NamedTuple):
    """To whom mail goes: ``user`` and a number of its own, at each of ``domains`` in turn."""

    user: str
    domains: tuple[str, ...]


EVERYBODY = Target("r", tuple(f"b{number}.bench.test" for number in range(DOMAINS)))


@dataclass
class Result:
    """What one run of the loader saw."""

    accepted: int = 0
    refused: list[str] = field(default_factory=list)
    accept_ms: list[float] = field(default_factory=list)
    replied_at: dict[int, float] = field(default_factory=dict)


class Connection:
    """One kept SMTP connection with pipelined commands."""

    def __init__(self, host: str, port: int) -> None:
        self._at = (host, port)

    async def open(self) -> None:
        """Connect and greet."""
        self._reader, self._writer = await asyncio.open_connection(*self._at)
        await self._reply()
        self._writer.write(b"EHLO bench.test\r\n")
        await self._reply()

    async def close(self) -> None:
        """Leave politely."""
        self._writer.write(b"QUIT\r\n")
        await self._reply()
        self._writer.close()

    async def send(self, sender: str, recipient: str, content: bytes) -> tuple[str, float]:
        """Send one mail; the reply to the dot and how long it took in seconds."""
        self._writer.write(f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
        for _ in range(3):
            reply = await self._reply()
            if not reply.startswith(("2", "3")):
                raise ConnectionError(reply)
        self._writer.write(content + b".\r\n")
        began = time.perf_counter()
        return await self._reply(), time.perf_counter() - began

    async def _reply(self) -> str:
        while True:
            line = await self._reader.readuntil(b"\n")
            if line[3:4] != b"-":
                return line.decode("latin-1").strip()


async def flood(args: argparse.Namespace, result: Result) -> None:
    """All mails over the given number of connections, each as soon as the one before is taken."""
    pool = bodies(args.size, DISTINCT)
    numbers = iter(range(args.first, args.first + args.count))
    await asyncio.gather(*(_worker(args, numbers, pool, result) for _ in range(args.connections)))


async def _worker(args: argparse.Namespace, numbers: Iterator[int], pool: list[bytes], result: Result) -> None:
    connection = Connection(args.host, args.port)
    await connection.open()
    for number in numbers:
        await _one(args, connection, number, pool, result)
    await connection.close()


async def _one(
    args: argparse.Namespace, connection: Connection, number: int, pool: list[bytes], result: Result
) -> None:
    recipient = f"{args.user}{number}@{args.domains[number % len(args.domains)]}"
    reply, seconds = await connection.send(
        args.sender, recipient, message(number, pool[number % len(pool)], args.sender, recipient)
    )
    if not reply.startswith("250"):
        result.refused.append(reply)
        return
    result.accepted += 1
    result.accept_ms.append(round(seconds * 1000, 3))
    result.replied_at[number] = time.time()


async def pace(args: argparse.Namespace, result: Result) -> None:
    """Mails at a fixed pace, whether or not the one before was taken: a server that stalls shows as long waits."""
    pool = bodies(args.size, DISTINCT)
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(args.connections):
        connection = Connection(args.host, args.port)
        await connection.open()
        idle.put_nowait(connection)

    async def one(number: int) -> None:
        connection = await idle.get()
        try:
            await _one(args, connection, number, pool, result)
        finally:
            idle.put_nowait(connection)

    began, tasks = time.perf_counter(), []
    for place in range(args.count):
        await asyncio.sleep(max(0.0, began + place / args.rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(args.first + place)))
    await asyncio.gather(*tasks)


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0, help="mails per second; 0: as fast as they are taken")
    parser.add_argument("--user", default=EVERYBODY.user, help="what every recipient's local part begins with")
    parser.add_argument("--domains", nargs="+", default=EVERYBODY.domains, help="where mail goes, in turn")
    parser.add_argument("--sender", default="news@shop.test")
    return parser.parse_args(argv)


def main() -> None:
    """Run and print the result."""
    args, result = arguments(sys.argv[1:]), Result()
    began = time.time()
    uvloop.run(pace(args, result) if args.rate else flood(args, result))
    json.dump(
        {
            "accepted": result.accepted,
            "refused": result.refused[:5],
            "began": began,
            "seconds": time.time() - began,
            "accept_ms": result.accept_ms,
            "replied_at": result.replied_at,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
