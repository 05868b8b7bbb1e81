"""What a client sends, cut into command lines and message contents, with bounded memory and without looking at each line.

Only CRLF ends a line, only CRLF.CRLF ends a content (RFC 5321 2.3.8, 4.1.1.4); everything else that looks like an end is
told apart here, so that no two servers in a chain can disagree on where a message ends (threat 1 of the reliability note).
Pure: bytes in, lines and contents out.
"""

from __future__ import annotations

from dataclasses import dataclass

from depesche.schemas.landmark import find_by

CRLF = b"\r\n"
END_OF_CONTENT = b"\r\n.\r\n"
MAX_RUNAWAY = 1 << 16
"""Bytes beyond a limit after which a client is not listened to any longer."""
_SMALL_CHUNK = 4096
_SMALL_CHUNKS_JOINED = 1 << 16


class RunawayError(Exception):
    """The client sends far more than it may; the connection must end."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no command: ``reason`` is for the client."""

    reason: str


class Budget:
    """Bytes of unfinished contents that all connections of a door may hold together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0


class ContentCollector:
    """Collects one content up to its end.

    Attributes:
        received: bytes so far, without the end.
        starved: whether what was collected was dropped because all connections together hold too much.
    """

    def __init__(self, limit: int, budget: Budget) -> None:
        """Make it.

        Args:
            limit: largest message; as dots are still stuffed, only far more than this is refused here.
            budget: shared by all connections.
        """
        self.received = 0
        self.starved = False
        self._limit = limit
        self._budget = budget
        self._held = 0
        self._chunks: list[bytes | bytearray] = []
        # The line end of the DATA command counts as the one before a lone dot, so an empty content ends at once.
        self._border = CRLF

    def feed(self, data: bytes) -> bytes | None:
        """Take in ``data``; what follows the end of the content if it was in there, else nothing.

        Raises:
            RunawayError: the client goes on far beyond the size limit.
        """
        end = self._find_end(data)
        if end is None:
            self._keep(data)
            if self.received > self._limit + MAX_RUNAWAY:
                raise RunawayError
            self._border = data[-4:] if len(data) >= 4 else (self._border + data)[-4:]
            return None
        # ``end`` is where the three bytes of the lone dot's line begin; they may begin in an earlier chunk.
        self._keep(data[:end] if end > 0 else b"")
        if end < 0:
            self._cut(-end)
        return data[end + 3 :]

    def take(self) -> list[bytes | bytearray]:
        """The content in pieces; to be called once, when it is complete or given up."""
        chunks, self._chunks = self._chunks, []
        self._budget.held -= self._held
        self._held = 0
        return chunks

    def _find_end(self, data: bytes) -> int | None:
        border = self._border + data[:4]
        found = border.find(END_OF_CONTENT)
        if found >= 0:
            return found + 2 - len(self._border)
        found = find_by(data, END_OF_CONTENT, 2)
        return None if found < 0 else found + 2

    def _keep(self, data: bytes) -> None:
        self.received += len(data)
        if self._budget.held + len(data) > self._budget.limit:
            self.starved = True
        if self.starved:
            self.take()
            return
        self._held += len(data)
        self._budget.held += len(data)
        last = self._chunks[-1] if self._chunks else None
        if len(data) >= _SMALL_CHUNK:
            self._chunks.append(data)
        elif isinstance(last, bytearray) and len(last) < _SMALL_CHUNKS_JOINED:
            last += data
        else:
            # Many tiny pieces as objects of their own would need twenty times their size.
            self._chunks.append(bytearray(data))

    def _cut(self, count: int) -> None:
        """Take ``count`` bytes (at most 2) off the end again: they were the beginning of the dot's line."""
        self.received -= count
        while count and self._chunks:
            last = self._chunks[-1]
            part = min(count, len(last))
            self._chunks[-1] = last[: len(last) - part]
            count -= part
            if not self._chunks[-1]:
                self._chunks.pop()


class Intake:
    """Everything received and not yet used. While a collector is set, all goes there."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._collector: ContentCollector | None = None
        self._skipped = 0

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def collecting(self) -> bool:
        """Whether a content is being received."""
        return self._collector is not None

    @property
    def has_line(self) -> bool:
        """Whether a whole line waits."""
        return b"\n" in self._buffer

    def feed(self, data: bytes) -> None:
        """Take in what the client sent.

        Raises:
            RunawayError: a content goes on far beyond the size limit.
        """
        if self._collector is None:
            self._buffer += data
            return
        rest = self._collector.feed(data)
        if rest is not None:
            self._collector = None
            self._buffer += rest

    def line(self, limit: int) -> bytes | BadLine | None:
        """The next line without its CRLF; nothing when no whole one is there yet.

        A line longer than ``limit`` takes no memory while it grows.

        Raises:
            RunawayError: a line goes on far beyond ``limit``.
        """
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > limit:
                self._skipped += len(self._buffer)
                self._buffer.clear()
            if self._skipped > MAX_RUNAWAY:
                raise RunawayError
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        skipped, self._skipped = self._skipped, 0
        if skipped or len(line) > limit:
            return BadLine("Line too long")
        if not line.endswith(CRLF):
            return BadLine("A line must end with CRLF")
        line = line[:-2]
        if b"\r" in line or b"\0" in line:
            return BadLine("A line must not hold a bare CR or NUL")
        return line

    def collect(self, collector: ContentCollector) -> None:
        """From here on everything belongs to a content, up to its end; what was received already included.

        Raises:
            RunawayError: see ``feed``.
        """
        self._collector = collector
        waiting = bytes(self._buffer)
        self._buffer.clear()
        if waiting:
            self.feed(waiting)

    def discard(self) -> None:
        """Forget everything received (RFC 3207 4.2: nothing said before TLS counts)."""
        self._buffer.clear()
        self._skipped = 0
