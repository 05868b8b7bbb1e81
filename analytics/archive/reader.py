"""Reads message bodies back: one ``pread`` per content, from any process, while others write."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.archive.segments import parse_entry, path_of, segment_names, walk
from depesche.schemas.errors import ArchiveUnavailableError, ContentLostError
from depesche.schemas.records import ArchiveRef

MAX_OPEN = 64


class ArchiveReader:
    """The archive's read side for one process. Safe to call from any thread."""

    def __init__(self, directory: Path, keyring: Keyring) -> None:
        self._directory = directory
        self._keyring = keyring
        self._open: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ref: ArchiveRef) -> bytes:
        """The content that ``ref`` stands for; authenticated, so never a wrong or an empty one.

        Raises:
            ContentLostError: the segment expired, the key was erased, or the bytes are damaged or another entry's.
            ArchiveUnavailableError: the disk fails just now; says nothing about the content.
        """
        try:
            raw = self._read(ref)
            head = parse_entry(raw)
            if head is None or head.key_id != ref.key_id or head.size != ref.size:
                raise ContentLostError(f"no whole entry at {ref.segment}:{ref.offset}")
            key = self._keyring.key(ref.key_id)
        except FileNotFoundError as fault:
            raise ContentLostError(f"segment {ref.segment} is gone") from fault
        except OSError as fault:
            raise ArchiveUnavailableError(f"the archive cannot be read: {fault}") from fault
        return key.open(memoryview(raw)[head.start : head.end], b"archive|" + ref.segment.encode())

    def entries(self) -> Iterator[ArchiveRef]:
        """Every whole entry of every segment, for the audit; also those of segments being written or left by a crash."""
        for name in segment_names(self._directory):
            try:
                descriptor = os.open(path_of(self._directory, name), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                # It expired while we walked.
                continue
            try:
                yield from walk(descriptor, name)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def _read(self, ref: ArchiveRef) -> bytes:
        # Under the lock, so that nobody closes the file between finding and reading it; pread takes microseconds.
        with self._lock:
            return os.pread(self._descriptor(ref.segment), ref.length, ref.offset)

    def _descriptor(self, segment: str) -> int:
        descriptor = self._open.get(segment)
        if descriptor is not None and os.fstat(descriptor).st_nlink:
            self._open.move_to_end(segment)
            return descriptor
        self._close_removed()
        descriptor = os.open(path_of(self._directory, segment), os.O_RDONLY | os.O_CLOEXEC)
        self._open[segment] = descriptor
        if len(self._open) > MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

    def _close_removed(self) -> None:
        """Let go of segments that expired, or their space would never come back."""
        for name, descriptor in list(self._open.items()):
            if not os.fstat(descriptor).st_nlink:
                os.close(self._open.pop(name))
