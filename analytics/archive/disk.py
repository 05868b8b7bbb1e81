"""The few things the archive does to a disk, in one place, so that tests can watch them and let them fail.

``SegmentFile`` is a segment being written; ``Disk`` holds the system calls under it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from depesche.analytics.archive import segments
from depesche.analytics.archive.key_files import sync_directory


class Disk:
    """The real disk."""

    def preallocate(self, descriptor: int, size: int) -> None:
        """Reserve ``size`` bytes, so that later writes need no new space and no new length.

        Raises:
            OSError: not enough space.
        """
        os.posix_fallocate(descriptor, 0, size)

    def write(self, descriptor: int, content: memoryview, offset: int) -> int:
        """Write some or all of ``content`` at ``offset`` and return how many bytes."""
        return os.pwrite(descriptor, content, offset)

    def sync(self, descriptor: int) -> None:
        """Wait until what was written is on disk (fdatasync)."""
        os.fdatasync(descriptor)

    def sync_directory(self, directory: Path) -> None:
        """Wait until the names in ``directory`` are on disk."""
        sync_directory(directory)


class SegmentFile:
    """One segment while it is written: locked against recovery, preallocated, appended to, closed or abandoned."""

    def __init__(self, directory: Path, name: str, size: int, disk: Disk) -> None:
        """Create the segment; its name is durable afterwards.

        Raises:
            FileExistsError: the name is taken.
            OSError: not enough space.
        """
        self.name = name
        self.size = size
        self.end = len(segments.FILE_HEADER)
        self._disk = disk
        self._path = segments.path_of(directory, name)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            disk.preallocate(self._descriptor, size)
            self._write(memoryview(segments.FILE_HEADER), 0)
            os.fsync(self._descriptor)
            disk.sync_directory(directory)
        except OSError:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            raise

    @property
    def room(self) -> int:
        """Bytes that still fit, with the footer left out."""
        return self.size - self.end - len(segments.FOOTER)

    def append(self, content: memoryview, *, sync: bool) -> None:
        """Append whole entries; they are on disk afterwards if ``sync``.

        Raises:
            OSError: nothing of it counts. The segment must be abandoned: after a failed sync nobody knows what the disk
                holds, and a second sync would say yes to pages the kernel has already given up.
        """
        self._write(content, self.end)
        if sync:
            self._disk.sync(self._descriptor)
        self.end += len(content)

    def close(self) -> None:
        """Give back the space that is left and mark the segment as closed.

        Raises:
            OSError: the disk fails; what was appended before is not touched by that.
        """
        try:
            _finish(self._descriptor, self.end)
        finally:
            os.close(self._descriptor)

    def _write(self, rest: memoryview, offset: int) -> None:
        while rest:
            written = self._disk.write(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written


def finish_abandoned(directory: Path) -> list[str]:
    """Close the segments whose writer died: cut off the torn tail, give the space back. Returns their names.

    A segment that is being written is locked by its writer and left alone; so is one just being created.
    """
    done = []
    for name in segments.segment_names(directory):
        try:
            descriptor = os.open(segments.path_of(directory, name), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_size and not segments.is_closed(descriptor):
                _finish(descriptor, segments.end_of_entries(descriptor))
                done.append(name)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return done


def _finish(descriptor: int, end: int) -> None:
    os.ftruncate(descriptor, end)
    os.pwrite(descriptor, segments.FOOTER, end)
    os.fsync(descriptor)
