"""How a segment of the archive looks on disk, so that writer, reader and audit agree, and a torn tail is recognised.

    segment  = file header, entries, then either a footer or, while it is written or after a crash, anything
    entry    = magic, length, plain size, key id length, CRC-32 of all these and the key id; key id; sealed; trailer
    trailer  = the CRC again and a closing magic

An entry counts only when its trailer is there and repeats the header's CRC. After ``kill -9`` or a power cut the file
ends somewhere within an entry that nobody was promised; a walk stops there. Whether the bytes between are unharmed is
told by the authenticated encryption (and costs nothing until somebody reads them). A segment's name begins with the day
(UTC) of its entries: ``20261123-NAME-MILLIS-COUNTER``.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from depesche.analytics.archive.key_files import sync_directory
from depesche.schemas.errors import ContentLostError
from depesche.schemas.records import ArchiveRef

FILE_HEADER = b"Depesche archive 1\r\n"
FOOTER = b"\r\nDepesche archive: closed\r\n"
SUFFIX = ".seg"
_HEAD = struct.Struct(">4sIIHI")
_TAIL = struct.Struct(">I4s")
_MAGIC = b"DpA1"
_END = b"1ApD"
_NAME = re.compile(r"\d{8}-[A-Za-z0-9_.]+(?:-[A-Za-z0-9_.]+)*-[0-9a-f]+-\d+\Z")
OVERHEAD = _HEAD.size + _TAIL.size
MAX_KEY_ID = 80


@dataclass(frozen=True, slots=True)
class Head:
    """What an entry says about itself. ``start`` and ``end`` bound the sealed bytes within the entry."""

    length: int
    size: int
    key_id: str
    start: int
    end: int
    crc: int


def frame(size: int, key_id: str, sealed_size: int) -> tuple[bytes, bytes, int]:
    """What stands before and after an entry's sealed bytes, and the length of the whole entry."""
    name = key_id.encode()
    length = _HEAD.size + len(name) + sealed_size + _TAIL.size
    crc = zlib.crc32(_HEAD.pack(_MAGIC, length, size, len(name), 0) + name)
    return _HEAD.pack(_MAGIC, length, size, len(name), crc) + name, _TAIL.pack(crc, _END), length


def parse_head(raw: bytes | memoryview) -> Head | None:
    """The head that ``raw`` begins with, or nothing when no whole one stands there."""
    if len(raw) < _HEAD.size:
        return None
    magic, length, size, name_size, crc = _HEAD.unpack_from(raw)
    start = _HEAD.size + name_size
    if magic != _MAGIC or name_size > MAX_KEY_ID or len(raw) < start or length < start + _TAIL.size:
        return None
    name = bytes(raw[_HEAD.size : start])
    if zlib.crc32(_HEAD.pack(magic, length, size, name_size, 0) + name) != crc:
        return None
    return Head(length, size, name.decode(), start, length - _TAIL.size, crc)


def parse_entry(raw: bytes) -> Head | None:
    """The head of the entry that is exactly ``raw``, or nothing when it is not a whole one."""
    head = parse_head(raw)
    if head is None or head.length != len(raw) or raw[head.end :] != _TAIL.pack(head.crc, _END):
        return None
    return head


def walk(descriptor: int, segment: str) -> Iterator[ArchiveRef]:
    """The whole entries of an open segment in order, up to its footer or to the first one that is not whole."""
    offset = len(FILE_HEADER)
    if os.pread(descriptor, offset, 0) != FILE_HEADER:
        return
    while True:
        head = parse_head(os.pread(descriptor, _HEAD.size + MAX_KEY_ID, offset))
        if head is None:
            return
        if os.pread(descriptor, _TAIL.size, offset + head.end) != _TAIL.pack(head.crc, _END):
            return
        yield ArchiveRef(segment=segment, offset=offset, length=head.length, size=head.size, key_id=head.key_id)
        offset += head.length


def end_of_entries(descriptor: int) -> int:
    """Where the entries of an open segment end: the place for a footer."""
    end = len(FILE_HEADER)
    for ref in walk(descriptor, ""):
        end = ref.offset + ref.length
    return end


def is_closed(descriptor: int) -> bool:
    """Whether the writer finished this segment in good order (or a successor did it for it)."""
    size = os.fstat(descriptor).st_size
    return size >= len(FOOTER) and os.pread(descriptor, len(FOOTER), size - len(FOOTER)) == FOOTER


def path_of(directory: Path, segment: str) -> Path:
    """The file of a segment.

    Raises:
        ContentLostError: not the name of a segment, so it could lead out of the directory.
    """
    if not _NAME.match(segment):
        raise ContentLostError("not the name of a segment")
    return directory / (segment + SUFFIX)


def segment_names(directory: Path) -> list[str]:
    """The names of all segments, oldest day first."""
    return sorted(path.stem for path in directory.glob("*" + SUFFIX) if _NAME.match(path.stem))


def expire_before(directory: Path, day: date) -> list[str]:
    """Remove all segments of days before ``day`` and return their names; their entries are then lost on purpose.

    A writer rolls over to a new segment when the day changes, so what is removed holds nothing younger.
    """
    limit = day.strftime("%Y%m%d")
    gone = [name for name in segment_names(directory) if name[:8] < limit]
    for name in gone:
        path_of(directory, name).unlink(missing_ok=True)
    if gone:
        sync_directory(directory)
    return gone
