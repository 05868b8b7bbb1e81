"""Writes message bodies so that they survive: one thread, one fdatasync for all that waits.

Whoever calls ``put`` hears nothing before the bytes are on disk. While one group is being synced the next one gathers, so
the number of syncs adapts to the load by itself. A group is taken as a whole or refused as a whole.
"""

from __future__ import annotations

import asyncio
import queue
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from depesche.analytics.archive.disk import Disk, SegmentFile, finish_abandoned
from depesche.analytics.archive.keyring import SEAL_BYTES, Buffer, DataKey, Keyring
from depesche.analytics.archive.segments import FILE_HEADER, FOOTER, MAX_KEY_ID, OVERHEAD, frame
from depesche.schemas.errors import ArchiveUnavailableError
from depesche.schemas.records import ArchiveRef
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.settings import ArchiveSettings

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
MAX_GROUP_BYTES = 4 << 20
KEPT_BUFFER_BYTES = MAX_GROUP_BYTES + (1 << 20)
_NAME = re.compile(r"[A-Za-z0-9_.]+(?:-[A-Za-z0-9_.]+)*\Z")


@dataclass(slots=True, eq=False)
class _Request:
    tenant: str
    contents: Sequence[Buffer]
    future: asyncio.Future[list[ArchiveRef]]
    need: int


_Verdict = tuple[_Request, list[ArchiveRef] | Exception]


class ArchiveWriter:
    """The archive's write side for one process.

    ``available`` is whether the last attempt to write went well. While it is false the writer tries again each second by
    itself, so a door may stop asking and still notices when space returns.
    """

    def __init__(
        self,
        directory: Path,
        keyring: Keyring,
        name: str,
        settings: ArchiveSettings,
        disk: Disk | None = None,
        clock: Clock = now_ms,
    ) -> None:
        """Make the writer; it does nothing before ``start``.

        Args:
            directory: where all writers' segments lie.
            keyring: seals the contents.
            name: stands in this writer's segment names, for people; several processes may have the same one.
            settings: segment size and whether to sync.
            disk: the system calls, for tests.
            clock: for segment names and the change of the day.
        """
        if not _NAME.match(name):
            raise ValueError("a writer's name has letters, digits, dots and dashes")
        self.available = True
        self._directory = directory
        self._keyring = keyring
        self._name = name
        self._settings = settings
        self._disk = disk or Disk()
        self._clock = clock
        self._counter = 0
        self._segment: SegmentFile | None = None
        self._buffer = bytearray(KEPT_BUFFER_BYTES)
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Finish the segments that dead writers left, open a first one of our own, and begin to write.

        Raises:
            OSError: the directory cannot be made or read at all.
        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._prepare)
        self._thread = threading.Thread(target=self._run, name=f"archive-{self._name}", daemon=True)
        self._thread.start()

    async def put(self, tenant: str, contents: Sequence[Buffer]) -> list[ArchiveRef]:
        """Store ``contents`` for ``tenant``, sealed with its key of the day; one reference each, in order.

        Returns only when they are on disk. If the caller is cancelled they may be stored without anybody knowing, which
        is harmless: they expire with their segment.

        Raises:
            ArchiveUnavailableError: nothing was stored (no space, failing disk, or the writer is closed).
            ValueError: the tenant's name is not a customer number.
        """
        if self._loop is None or self._thread is None:
            raise ArchiveUnavailableError("the archive's writer is not running")
        need = sum(map(len, contents)) + len(contents) * (OVERHEAD + SEAL_BYTES + MAX_KEY_ID)
        request = _Request(tenant, contents, self._loop.create_future(), need)
        self._queue.put(request)
        return await request.future

    async def close(self) -> None:
        """Write what waits, close the segment, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(thread.join)

    def _prepare(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        finished = finish_abandoned(self._directory)
        if finished:
            log.info("archive_segments_recovered", count=len(finished))
        self._try_again()

    def _run(self) -> None:
        while True:
            group, last = self._gather()
            if group:
                self._commit(group)
            elif not self.available:
                self._try_again()
            if last:
                self._roll()
                return

    def _gather(self) -> tuple[list[_Request], bool]:
        """All that waits, up to a size; nothing after a while in which the archive should be tried again."""
        group: list[_Request] = []
        size = 0
        try:
            request = self._queue.get(timeout=None if self.available else RETRY_SECONDS)
            while request is not None:
                group.append(request)
                size += request.need
                if size > MAX_GROUP_BYTES:
                    return group, False
                request = self._queue.get_nowait()
            return group, True
        except queue.Empty:
            return group, False

    def _commit(self, group: list[_Request]) -> None:
        """Write one group; it goes into one segment unless the segment's end or the day's end falls into it."""
        waiting = group
        try:
            while waiting:
                segment = self._segment_for(waiting[0].need)
                run = _fitting(segment.room, waiting)
                verdicts = self._written(segment, run)
                waiting = waiting[len(run) :]
                self.available = True
                self._answer(verdicts)
        except Exception as fault:
            # The guard of the writer's thread: whatever went wrong, everybody who waits must get an answer, and the
            # thread must live to write again. A fault of the disk is expected here; a bug of ours is logged as one.
            self._fail(fault)
            self._answer([(request, _unavailable(fault)) for request in waiting])

    def _written(self, segment: SegmentFile, run: list[_Request]) -> list[_Verdict]:
        """Seal and write the requests of one run with one sync.

        Raises:
            OSError: none of them counts.
        """
        verdicts: list[_Verdict] = []
        need = sum(request.need for request in run)
        room = memoryview(self._buffer if need <= KEPT_BUFFER_BYTES else bytearray(need))
        size = 0
        for request in run:
            try:
                key = self._keyring.today(request.tenant)
            except (OSError, ValueError) as fault:
                verdicts.append((request, fault if isinstance(fault, ValueError) else _unavailable(fault)))
                continue
            refs = []
            for content in request.contents:
                refs.append(_sealed(room[size:], content, key, segment.name, segment.end + size))
                size += refs[-1].length
            verdicts.append((request, refs))
        if size:
            segment.append(room[:size], sync=self._settings.fsync)
        return verdicts

    def _segment_for(self, need: int) -> SegmentFile:
        """The open segment, or a new one when the day has changed or ``need`` bytes do not fit.

        Raises:
            OSError: no new segment can be made.
        """
        now = self._clock()
        day = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%d")
        if self._segment is not None and (not self._segment.name.startswith(day) or self._segment.room < need):
            self._roll()
        while self._segment is None:
            self._counter += 1
            name = f"{day}-{self._name}-{now:x}-{self._counter}"
            size = max(self._settings.segment_bytes, need + len(FILE_HEADER) + len(FOOTER))
            try:
                self._segment = SegmentFile(self._directory, name, size, self._disk)
            except FileExistsError:
                # Another process with our name was faster in this very millisecond; the next number is free.
                continue
        return self._segment

    def _roll(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return
        try:
            segment.close()
        except OSError as fault:
            # Its entries are safe; the next start of any writer gives the space back.
            log.warning("archive_segment_not_closed", segment=segment.name, cause=str(fault))

    def _try_again(self) -> None:
        try:
            self._segment_for(0)
            if not self.available:
                log.info("archive_writable")
            self.available = True
        except OSError as fault:
            self._fail(fault)

    def _fail(self, fault: Exception) -> None:
        if self.available or not isinstance(fault, OSError):
            log.error("archive_not_writable", cause=str(fault), exc_info=not isinstance(fault, OSError))
        self.available = False
        self._roll()

    def _answer(self, verdicts: list[_Verdict]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_resolve, verdicts)
        except RuntimeError:
            # The loop is closed: nobody is left who could wait.
            log.warning("archive_answers_unheard", count=len(verdicts))


def _fitting(room: int, waiting: list[_Request]) -> list[_Request]:
    """The first of ``waiting`` that fit into ``room`` together; always at least one."""
    room -= waiting[0].need
    count = 1
    while count < len(waiting) and waiting[count].need <= room:
        room -= waiting[count].need
        count += 1
    return waiting[:count]


def _sealed(place: memoryview, content: Buffer, key: DataKey, segment: str, offset: int) -> ArchiveRef:
    """Put the entry of ``content`` at the begin of ``place``."""
    before, after, length = frame(len(content), key.id, len(content) + SEAL_BYTES)
    start, end = len(before), length - len(after)
    place[:start] = before
    key.seal_into(place[start:end], content, b"archive|" + segment.encode())
    place[end:length] = after
    return ArchiveRef(segment=segment, offset=offset, length=length, size=len(content), key_id=key.id)


def _unavailable(fault: Exception) -> ArchiveUnavailableError:
    return ArchiveUnavailableError(f"the archive cannot be written: {type(fault).__name__}: {fault}")


def _resolve(verdicts: list[_Verdict]) -> None:
    for request, verdict in verdicts:
        if request.future.done():
            continue
        if isinstance(verdict, Exception):
            request.future.set_exception(verdict)
        else:
            request.future.set_result(verdict)
