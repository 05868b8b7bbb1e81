"""The local view of mail.suppressions: a RocksDB directory that answers in microseconds and goes on after a restart.

It holds nothing that the topic does not: whenever it is damaged, belongs to another cluster, or was away so long that the log
may have forgotten what was taken out meanwhile, it is thrown away and built anew.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from rocksdict import BlockBasedOptions, Options, Rdict, WriteBatch

from depesche.schemas.codec import decode
from depesche.schemas.errors import SetupError
from depesche.schemas.records import Suppression, SuppressionState

log = structlog.get_logger(__name__)

FORMAT: Final = 1
LONGEST_AWAY_MS: Final = 3 * 86_400_000
"""The topic keeps the news of a removal for seven days; a view that was away for longer than this starts anew."""
_HEAD: Final = struct.Struct(">?q")
_OFFSET: Final = struct.Struct(">q")
_FOR_EVER: Final = (1 << 63) - 1
_ABOUT: Final = b"m"
_CAUGHT_UP: Final = b"t"
_BROKEN: Final = "broken"


@dataclass(frozen=True, slots=True)
class Change:
    """A record of mail.suppressions: an entry as written and as read, or (without them) the end of one."""

    key: str
    value: bytes | None = None
    entry: Suppression | None = None


class View:
    """An open directory. One process at a time."""

    def __init__(self, directory: Path, database: Rdict) -> None:
        self._directory = directory
        self._database = database

    @classmethod
    def open(cls, directory: Path, log_id: str, now: int, ends: Mapping[int, int]) -> View:
        """The view in ``directory``, empty if what is there cannot be gone on from.

        Args:
            directory: of this process alone.
            log_id: names the cluster and the topic that it is a view of.
            now: milliseconds since 1970 UTC.
            ends: the next offset that will be written, by partition.

        Raises:
            SetupError: another process has it open.
        """
        about = json.dumps({"format": FORMAT, "log": log_id}).encode()
        view = cls._opened(directory)
        reason = "it cannot be read" if view is None else view._unfit(about, now, ends)
        if view is None or reason:
            log.info("suppressions_view_anew", directory=str(directory), reason=reason)
            if view is not None:
                view.close()
            shutil.rmtree(directory, ignore_errors=True)
            view = cls(directory, _database(directory))
            view._database.put(_ABOUT, about)
            view.caught_up(now)
        return view

    @classmethod
    def _opened(cls, directory: Path) -> View | None:
        if (directory / _BROKEN).exists():
            return None
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            return cls(directory, _database(directory))
        except Exception as fault:  # The guard: rocksdict raises nothing narrower, and the topic has it all.
            if "lock" in str(fault).lower():
                raise SetupError(
                    f"Another process uses {directory}.", fix="End it, or give this process another name in the layout."
                ) from fault
            return None

    def _unfit(self, about: bytes, now: int, ends: Mapping[int, int]) -> str:
        held, last = self._database.get(_ABOUT), self._database.get(_CAUGHT_UP)
        if held != about or last is None:
            return "it is of another log" if held else "it is new"
        if any(offset > ends.get(partition, 0) for partition, offset in self.offsets().items()):
            return "the topic was made anew"
        away = now - int(_OFFSET.unpack(last)[0])
        return "it was away too long" if away > LONGEST_AWAY_MS else ""

    def close(self) -> None:
        """Close it."""
        self._database.close()

    # Reading.

    def offsets(self) -> dict[int, int]:
        """The next offset to read, by partition."""
        return {int(key[2:]): int(_OFFSET.unpack(value)[0]) for key, value in self._under(b"o|")}

    def in_force(self, tenant: str, key: str, now: int) -> Suppression | None:
        """The entry of a customer's recipient if it suppresses at ``now``."""
        value = self._get(_entry(tenant, key))
        if value is None:
            return None
        active, until = _HEAD.unpack_from(value)
        return decode(Suppression, value[_HEAD.size :]) if active and until > now else None

    def entry(self, tenant: str, key: str) -> Suppression | None:
        """The entry of a customer's recipient, whatever its state."""
        value = self._get(_entry(tenant, key))
        return decode(Suppression, value[_HEAD.size :]) if value is not None else None

    def of_person(self, person: str) -> list[tuple[str, str]]:
        """Customer number and recipient key of all entries of a person, whoever's mail it was."""
        prefix = f"p|{person}|".encode()
        return [(value.decode(), key[len(prefix) :].decode()) for key, value in self._under(prefix)]

    def entries(self, tenant: str | None, after: tuple[str, str] = ("", "")) -> Iterator[Suppression]:
        """Entries in the order of customer number and recipient key, those beyond ``after``; of one customer or of all."""
        prefix = b"e|" if tenant is None else f"e|{tenant}|".encode()
        begin = _entry(*after) + b"\x00" if after != ("", "") else prefix
        for _, value in self._under(prefix, begin):
            yield decode(Suppression, value[_HEAD.size :])

    def _under(self, prefix: bytes, begin: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        items: Iterator[tuple[Any, Any]] = self._database.items(from_key=max(begin, prefix))
        for key, value in items:
            if not key.startswith(prefix):
                return
            yield key, value

    def _get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._database.get(key)
        except Exception:
            # The next start builds it anew instead of failing at the same place again.
            (self._directory / _BROKEN).touch()
            raise
        return value

    # Writing.

    def take(self, changes: Sequence[Change], offsets: Mapping[int, int], now: int) -> None:
        """Take in changes in their order, with the offsets to go on from, all or nothing."""
        batch = WriteBatch(raw_mode=True)
        places: dict[str, bytes | None] = {}
        for change in changes:
            name = f"k|{change.key}".encode()
            before = places[change.key] if change.key in places else self._get(name)
            if before is not None:
                _take_out(batch, change.key, before)
            places[change.key] = _put_in(batch, change.key, change.value, change.entry)
        for partition, offset in offsets.items():
            batch.put(b"o|%d" % partition, _OFFSET.pack(offset))
        batch.put(_CAUGHT_UP, _OFFSET.pack(now))
        self._database.write(batch)

    def caught_up(self, now: int) -> None:
        """Remember that there was nothing more to read at ``now``."""
        self._database.put(_CAUGHT_UP, _OFFSET.pack(now))


def _put_in(batch: WriteBatch, key: str, value: bytes | None, entry: Suppression | None) -> bytes | None:
    if value is None or entry is None:
        return None
    until = _FOR_EVER if entry.until is None else entry.until
    head = _HEAD.pack(entry.state is SuppressionState.ACTIVE, until)
    batch.put(_entry(entry.tenant, key), head + value)
    place = f"{entry.tenant}|{entry.person_key or ''}".encode()
    batch.put(f"k|{key}".encode(), place)
    if entry.person_key:
        batch.put(f"p|{entry.person_key}|{key}".encode(), entry.tenant.encode())
    return place


def _take_out(batch: WriteBatch, key: str, place: bytes) -> None:
    tenant, _, person = place.decode().partition("|")
    batch.delete(_entry(tenant, key))
    batch.delete(f"k|{key}".encode())
    if person:
        batch.delete(f"p|{person}|{key}".encode())


def _entry(tenant: str, key: str) -> bytes:
    return f"e|{tenant}|{key}".encode()


def _database(directory: Path) -> Rdict:
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(10, block_based=False)
    options = Options(raw_mode=True)
    options.create_if_missing(create_if_missing=True)
    options.set_block_based_table_factory(blocks)
    options.set_keep_log_file_num(2)
    options.set_write_buffer_size(8 << 20)
    return Rdict(str(directory), options)
