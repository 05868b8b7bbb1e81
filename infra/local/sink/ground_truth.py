"""Ground truth: what really reached the far side, one JSON line for each final dot.

The line is written before the reply goes out, in one write to a file opened for appending, so that it is there for every other
process as soon as the sender hears anything, and a killed sink has not forgotten what it acknowledged. It is this file, not what
our own log claims, that a proof compares with.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

_MESSAGE_ID = re.compile(rb"^message-id:[ \t]*(?:\r\n[ \t]+)?(<[^>\r\n]*>)", re.IGNORECASE | re.MULTILINE)
_FAMILIAR_MESSAGE_ID = b"\nMessage-ID: <"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One mail whose final dot was seen.

    `time` is Unix time in seconds; `size` and the SHA-256 values are of the content with dots unstuffed, `body_sha256` of
    what follows the first empty line. `reply` is what was said after the dot ("" for nothing); `kept` says whether the mail
    is in our hands, whatever was said. `bare_newline` is set when a CR or an LF stood alone, None when nobody looked.
    """

    time: float
    session: str
    listener: str
    sender: str
    recipients: list[str]
    size: int
    sha256: str
    body_sha256: str
    message_id: str
    reply: str
    kept: bool
    tls: bool
    bare_newline: bool | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What can be told about a content: see Arrival."""

    size: int
    sha256: str
    body_sha256: str
    message_id: str
    bare_newline: bool | None


def measure(content: bytes, *, newlines: bool = True) -> Measured:
    """Return size, digests and Message-ID of a content, and whether its newlines are whole if `newlines` is set.

    Costs 27 µs at 10 KB and 0.5 ms at 200 KB, half of it for the newlines.
    """
    end = content.find(b"\r\n\r\n")
    body_start = len(content) if end < 0 else end + 4
    return Measured(
        len(content),
        hashlib.sha256(content).hexdigest(),
        hashlib.sha256(memoryview(content)[body_start:]).hexdigest(),
        _message_id(content, len(content) if end < 0 else end),
        _has_bare_newline(content) if newlines else None,
    )


def _has_bare_newline(content: bytes) -> bool:
    return not content.count(b"\n") == content.count(b"\r") == content.count(b"\r\n")


def _message_id(content: bytes, end: int) -> str:
    # The usual spelling is found a hundred times faster without a pattern; anything else is still found.
    start = content.find(_FAMILIAR_MESSAGE_ID, 0, end)
    if start >= 0:
        start += len(_FAMILIAR_MESSAGE_ID) - 1
        stop = content.find(b">", start, end)
        if stop >= 0 and b"\n" not in content[start:stop]:
            return content[start : stop + 1].decode("utf-8", "backslashreplace")
    match = _MESSAGE_ID.search(content, 0, end)
    return match[1].decode("utf-8", "backslashreplace") if match else ""


class GroundTruth:
    """The file of arrivals, open for appending. With `fsync`, each line is on the disk before the reply."""

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self._fsync = fsync
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, arrival: Arrival) -> None:
        """Append one line. Raises OSError when the disk is full: the caller must not acknowledge then."""
        line = orjson.dumps(arrival, option=orjson.OPT_APPEND_NEWLINE)
        written = os.write(self._handle, line)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes of the ground truth were written")
        if self._fsync:
            os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def read_ground_truth(path: Path) -> Iterator[Arrival]:
    """Yield the arrivals in order; nothing when the file is not there. A line that is being written is left out."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if line.endswith(b"\n"):
                yield Arrival(**orjson.loads(line))
