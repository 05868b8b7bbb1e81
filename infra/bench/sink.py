"""The sink of the benchmark: takes mail, counts it and notes when each arrived. A process of its own, not counted.

It serves its figures on a second port: a connection there gets one JSON line and is closed. ``reset`` written to it first
starts the count anew, ``arrived`` asks for the moment of each arrival too, which is long.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

GREETING = b"220 sink.bench.test ESMTP\r\n"
EHLO = b"250-sink.bench.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 60000000\r\n"
MARK = b"\r\nX-Bench: "


class Counter:
    """What has arrived."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.count = 0
        self.bytes = 0
        self.last = 0.0
        self.signed = 0
        self.arrived: dict[int, float] = {}
        self.copies = 0

    def take(self, mail: bytes | bytearray) -> None:
        """Count one mail."""
        self.count += 1
        self.bytes += len(mail)
        self.last = time.time()
        head = bytes(mail[:4096])
        self.signed += head.startswith(b"DKIM-Signature:") or b"\r\nDKIM-Signature:" in head
        at = head.find(MARK)
        if at >= 0:
            number = int(head[at + len(MARK) :].split(b"\r\n", 1)[0])
            self.copies += number in self.arrived
            self.arrived.setdefault(number, self.last)


class Session(asyncio.Protocol):
    """One SMTP connection: bulk reading, replies in order."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._buffer = bytearray()
        self._in_data = False
        self._scanned = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        # uvloop's transports do not inherit from asyncio's, so this cannot be asserted.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        """Take what came, answer what is complete."""
        self._buffer += data
        replies: list[bytes] = []
        while self._data() if self._in_data else self._command(replies):
            pass
        if replies:
            self._transport.write(b"".join(replies))

    def _data(self) -> bool:
        end = self._buffer.find(b"\r\n.\r\n", max(0, self._scanned - 4))
        if end < 0:
            self._scanned = len(self._buffer)
            return False
        self._counter.take(self._buffer[: end + 2])
        del self._buffer[: end + 5]
        self._in_data, self._scanned = False, 0
        self._transport.write(b"250 2.0.0 Ok\r\n")
        return True

    def _command(self, replies: list[bytes]) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        verb = bytes(self._buffer[:4]).upper()
        del self._buffer[: end + 2]
        if verb == b"EHLO":
            replies.append(EHLO)
        elif verb == b"DATA":
            replies.append(b"354 go\r\n")
            self._in_data = True
        elif verb == b"QUIT":
            replies.append(b"221 2.0.0 bye\r\n")
            self._transport.write(b"".join(replies))
            self._transport.close()
            replies.clear()
        else:
            replies.append(b"250 2.0.0 Ok\r\n")
        return True


async def serve(host: str, port: int, report_port: int) -> None:
    """Listen until killed."""
    counter = Counter()

    async def report(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readline()).strip()
        if asked == b"reset":
            counter.reset()
        names = ("count", "bytes", "last", "signed", "copies", *(("arrived",) if asked == b"arrived" else ()))
        figures = {name: getattr(counter, name) for name in names}
        writer.write(json.dumps(figures).encode() + b"\n")
        await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Session(counter), host, port, backlog=500)
    await asyncio.start_server(report, "127.0.0.1", report_port)
    await asyncio.Event().wait()


def main() -> None:
    """``sink.py HOST PORT REPORT_PORT``."""
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))


if __name__ == "__main__":
    main()
