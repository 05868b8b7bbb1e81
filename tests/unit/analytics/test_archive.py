"""The archive: what is acknowledged is on disk, what is torn is recognised, and a failing disk is never half a yes."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from datetime import date
from pathlib import Path

import pytest
import pytest_asyncio

from depesche.analytics.archive import segments
from depesche.analytics.archive.disk import Disk, finish_abandoned
from depesche.analytics.archive.keyring import DAY_MS, Keyring
from depesche.analytics.archive.reader import ArchiveReader
from depesche.analytics.archive.writer import ArchiveWriter
from depesche.schemas.errors import ArchiveUnavailableError, ContentLostError
from depesche.schemas.records import ArchiveRef
from depesche.schemas.settings import MB, ArchiveSettings

NOON = 1_795_348_800_000  # 2026-11-22 12:00 UTC
SMALL = ArchiveSettings.model_validate({"segment_bytes": MB})


class WatchedDisk(Disk):
    """The real disk, which writes down what happens and fails when told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.fail: dict[str, OSError] = {}
        self.short = 0
        self.gate = threading.Event()
        self.gate.set()

    def _do(self, what: str) -> None:
        if what in self.fail:
            raise self.fail[what]
        self.done.append(what)

    def preallocate(self, descriptor: int, size: int) -> None:
        self._do("preallocate")
        super().preallocate(descriptor, size)

    def write(self, descriptor: int, content: memoryview, offset: int) -> int:
        self._do("write")
        return super().write(descriptor, content[: self.short or None], offset)

    def sync(self, descriptor: int) -> None:
        self.gate.wait(30)
        self._do("sync")
        super().sync(descriptor)

    def sync_directory(self, directory: Path) -> None:
        self._do("directory")
        super().sync_directory(directory)


class Bench:
    """A writer and a reader over one directory."""

    def __init__(self, home: Path) -> None:
        self.now = NOON
        self.disk = WatchedDisk()
        self.directory = home / "archive"
        self.keyring = Keyring.open(home / "keys", clock=lambda: self.now)
        self.reader = ArchiveReader(self.directory, self.keyring)
        self.writer = self.make("one")

    def make(self, name: str, settings: ArchiveSettings = SMALL) -> ArchiveWriter:
        return ArchiveWriter(self.directory, self.keyring, name, settings, self.disk, lambda: self.now)

    def files(self) -> list[Path]:
        return sorted(self.directory.glob("*.seg"))


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    await bench.writer.start()
    yield bench
    bench.disk.gate.set()
    await bench.writer.close()
    bench.reader.close()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def test_what_was_put_comes_back_in_order_and_is_sealed_on_disk(bench: Bench) -> None:
    contents = [b"Subject: secret\r\n\r\n", b"", os.urandom(300_000), memoryview(b"abc")]
    refs = await bench.writer.put("10001", contents)
    assert [bench.reader.get(ref) for ref in refs] == [bytes(content) for content in contents]
    assert [ref.size for ref in refs] == [len(content) for content in contents]
    assert {ref.key_id for ref in refs} == {"10001/20261122"}
    assert b"secret" not in bench.files()[0].read_bytes()
    assert list(bench.reader.entries()) == refs


async def test_nobody_hears_a_yes_before_fdatasync_has_returned(bench: Bench) -> None:
    bench.disk.done.clear()
    bench.disk.gate.clear()
    waiting = asyncio.create_task(bench.writer.put("10001", [b"x"]))
    await _until(lambda: "write" in bench.disk.done)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    bench.disk.gate.set()
    await waiting
    assert bench.disk.done == ["write", "sync"]


async def test_all_that_waits_shares_one_fdatasync_and_no_directory_sync(bench: Bench) -> None:
    bench.disk.gate.clear()
    first = asyncio.create_task(bench.writer.put("10001", [b"first"]))
    await _until(lambda: bench.disk.done[-1] == "write")
    others = [asyncio.create_task(bench.writer.put("10001", [b"%d" % n])) for n in range(50)]
    await asyncio.sleep(0)
    bench.disk.done.clear()
    bench.disk.gate.set()
    await asyncio.gather(first, *others)
    assert bench.disk.done == ["sync", "write", "sync"]
    assert sorted(bench.reader.get(ref) for ref in bench.reader.entries()) == sorted(
        [b"first", *(b"%d" % n for n in range(50))]
    )


async def test_a_full_segment_rolls_over_and_only_then_is_the_directory_synced(bench: Bench) -> None:
    contents = [os.urandom(300_000) for _ in range(8)]
    refs = [(await bench.writer.put("10001", [content]))[0] for content in contents]
    assert len({ref.segment for ref in refs}) == len(bench.files()) == 3
    assert bench.disk.done.count("directory") == bench.disk.done.count("preallocate") == 3
    assert [bench.reader.get(ref) for ref in refs] == contents
    assert list(bench.reader.entries()) == refs
    assert bench.files()[0].stat().st_size < MB, "a closed segment gives back the space it did not need"
    assert bench.files()[-1].stat().st_size == MB


async def test_a_content_larger_than_a_segment_gets_a_segment_of_its_own(bench: Bench) -> None:
    content = os.urandom(3 * MB)
    ref = (await bench.writer.put("10001", [content]))[0]
    assert bench.reader.get(ref) == content


async def test_a_new_day_begins_a_new_segment_so_that_expiry_by_segment_is_exact(bench: Bench) -> None:
    old = (await bench.writer.put("10001", [b"old"]))[0]
    bench.now += DAY_MS
    young = (await bench.writer.put("10001", [b"young"]))[0]
    assert (old.segment[:8], young.segment[:8]) == ("20261122", "20261123")
    assert bench.reader.get(old) == b"old"
    assert segments.expire_before(bench.directory, date(2026, 11, 23)) == [old.segment]
    assert bench.reader.get(young) == b"young"
    with pytest.raises(ContentLostError):
        bench.reader.get(old)
    assert list(bench.reader.entries()) == [young]


async def test_a_writer_whose_idle_segment_expired_goes_on(bench: Bench) -> None:
    await bench.writer.put("10001", [b"old"])
    segments.expire_before(bench.directory, date(2027, 1, 1))
    bench.now += 60 * DAY_MS
    ref = (await bench.writer.put("10001", [b"young"]))[0]
    assert bench.reader.get(ref) == b"young"


async def test_erasing_a_key_loses_one_tenants_day_and_nothing_else(bench: Bench) -> None:
    mine = (await bench.writer.put("10001", [b"mine"]))[0]
    theirs = (await bench.writer.put("10002", [b"theirs"]))[0]
    bench.now += DAY_MS
    bench.keyring.erase(mine.key_id)
    with pytest.raises(ContentLostError):
        bench.reader.get(mine)
    assert bench.reader.get(theirs) == b"theirs"
    assert list(bench.reader.entries()) == [mine, theirs], "the audit still counts what can no longer be read"


async def test_a_full_disk_refuses_and_takes_again_when_space_returns(bench: Bench) -> None:
    kept = (await bench.writer.put("10001", [b"kept"]))[0]
    bench.disk.fail = dict.fromkeys(["write", "preallocate"], OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(ArchiveUnavailableError) as caught:
        await bench.writer.put("10001", [b"refused"])
    assert (caught.value.reply, caught.value.enhanced, caught.value.status) == (452, "4.3.1", 503)
    assert "/" not in caught.value.public
    assert bench.writer.available is False
    bench.disk.fail = {}
    again = (await bench.writer.put("10001", [b"again"]))[0]
    assert bench.writer.available is True
    assert list(bench.reader.entries()) == [kept, again]
    assert bench.reader.get(kept) == b"kept"
    assert bench.reader.get(again) == b"again"


async def test_the_writer_notices_by_itself_that_space_has_returned(bench: Bench) -> None:
    bench.disk.fail = dict.fromkeys(["write", "preallocate"], OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(ArchiveUnavailableError):
        await bench.writer.put("10001", [b"refused"])
    bench.disk.fail = {}
    await _until(lambda: bench.writer.available)


async def test_after_a_failed_sync_nothing_of_the_group_counts_and_the_segment_is_left(bench: Bench) -> None:
    bench.disk.gate.clear()
    first = asyncio.create_task(bench.writer.put("10001", [b"first"]))
    await _until(lambda: bench.disk.done[-1] == "write")
    others = [asyncio.create_task(bench.writer.put("10001", [b"%d" % n])) for n in range(5)]
    await asyncio.sleep(0)
    bench.disk.fail = {"sync": OSError(errno.EIO, "Input/output error")}
    bench.disk.gate.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert all(isinstance(result, ArchiveUnavailableError) for result in results)
    bench.disk.fail = {}
    later = (await bench.writer.put("10001", [b"later"]))[0]
    assert list(bench.reader.entries()) == [later]


async def test_short_writes_are_completed(bench: Bench) -> None:
    bench.disk.short = 700
    ref = (await bench.writer.put("10001", [bytes(5000)]))[0]
    assert bench.reader.get(ref) == bytes(5000)


async def test_many_small_contents_of_one_put_are_all_written(bench: Bench) -> None:
    refs = await bench.writer.put("10001", [b"%d" % n for n in range(1500)])
    assert [bench.reader.get(ref) for ref in refs] == [b"%d" % n for n in range(1500)]


async def test_one_caller_with_an_impossible_tenant_does_not_harm_the_others(bench: Bench) -> None:
    good, bad = await asyncio.gather(
        bench.writer.put("10001", [b"x"]), bench.writer.put("../10001", [b"y"]), return_exceptions=True
    )
    assert isinstance(bad, ValueError)
    assert isinstance(good, list)
    assert bench.reader.get(good[0]) == b"x"
    assert bench.writer.available


async def test_a_cancelled_caller_disturbs_nobody(bench: Bench) -> None:
    bench.disk.gate.clear()
    first = asyncio.create_task(bench.writer.put("10001", [b"first"]))
    await _until(lambda: bench.disk.done[-1] == "write")
    second = asyncio.create_task(bench.writer.put("10001", [b"second"]))
    third = asyncio.create_task(bench.writer.put("10001", [b"third"]))
    await asyncio.sleep(0)
    second.cancel()
    bench.disk.gate.set()
    assert bench.reader.get((await first)[0]) == b"first"
    assert bench.reader.get((await third)[0]) == b"third"


async def test_several_writers_of_one_name_never_share_a_segment(bench: Bench) -> None:
    twin = bench.make("one")
    await twin.start()
    try:
        refs = await asyncio.gather(*(w.put("10001", [b"x"]) for w in (bench.writer, twin) for _ in range(10)))
    finally:
        await twin.close()
    assert len({ref.segment for (ref,) in refs}) == 2
    assert {ref for (ref,) in refs} == set(bench.reader.entries())


async def test_a_closed_writer_refuses_and_its_segment_is_whole(bench: Bench) -> None:
    ref = (await bench.writer.put("10001", [b"x"]))[0]
    await bench.writer.close()
    with pytest.raises(ArchiveUnavailableError):
        await bench.writer.put("10001", [b"y"])
    assert bench.files()[0].read_bytes().endswith(segments.FOOTER)
    assert list(bench.reader.entries()) == [ref]
    assert finish_abandoned(bench.directory) == []


async def test_recovery_leaves_a_living_writers_segment_alone(bench: Bench) -> None:
    assert finish_abandoned(bench.directory) == []
    ref = (await bench.writer.put("10001", [b"x"]))[0]
    assert bench.reader.get(ref) == b"x"


async def test_a_torn_tail_is_recognised_wherever_it_tears(bench: Bench) -> None:
    refs = await bench.writer.put("10001", [b"a" * 100, b"b" * 100])
    await bench.writer.close()
    whole = bench.files()[0].read_bytes()
    last = refs[1]
    for cut in range(last.offset, last.offset + last.length):
        for tail in (b"", bytes(200)):
            bench.files()[0].write_bytes(whole[:cut] + tail)
            assert list(bench.reader.entries()) == [refs[0]], cut
    assert bench.reader.get(refs[0]) == b"a" * 100
    with pytest.raises(ContentLostError):
        bench.reader.get(last)
    assert finish_abandoned(bench.directory) == [refs[0].segment]
    assert bench.files()[0].read_bytes() == whole[: last.offset] + segments.FOOTER


async def test_no_changed_byte_of_an_entry_goes_unnoticed(bench: Bench) -> None:
    ref = (await bench.writer.put("10001", [b"a" * 50]))[0]
    await bench.writer.close()
    whole = bench.files()[0].read_bytes()
    for position in range(ref.offset, ref.offset + ref.length):
        bench.files()[0].write_bytes(
            whole[:position] + bytes([whole[position] ^ 0x01]) + whole[position + 1 :],
        )
        with pytest.raises(ContentLostError):
            bench.reader.get(ref)


async def test_an_entry_copied_into_another_segment_does_not_open(bench: Bench) -> None:
    one = (await bench.writer.put("10001", [b"x" * 10]))[0]
    bench.now += 1
    twin = bench.make("two")
    await twin.start()
    two = (await twin.put("10001", [b"y" * 10]))[0]
    await twin.close()
    await bench.writer.close()
    paths = [segments.path_of(bench.directory, ref.segment) for ref in (one, two)]
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(ContentLostError):
        bench.reader.get(two)


@pytest.mark.parametrize("segment", ["../keys/master", "x", "", "20261122-a-b-1/../../x"])
async def test_a_reference_cannot_lead_out_of_the_archive(bench: Bench, segment: str) -> None:
    with pytest.raises(ContentLostError):
        bench.reader.get(ArchiveRef(segment=segment, offset=0, length=10, size=1, key_id="10001/20261122"))


async def test_a_reader_lets_go_of_expired_segments(bench: Bench) -> None:
    old = (await bench.writer.put("10001", [b"old"]))[0]
    bench.reader.get(old)
    bench.now += DAY_MS
    young = (await bench.writer.put("10001", [b"young"]))[0]
    segments.expire_before(bench.directory, date(2026, 11, 23))
    bench.reader.get(young)
    assert not [path for path in _open_files() if old.segment in path]


def _open_files() -> list[str]:
    return [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
