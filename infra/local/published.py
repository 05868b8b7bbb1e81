"""The zone as a folder: what every test name server reads, and where records are added while it runs.

`base.json` holds the sandbox zone as it was prepared; `published.json` what was added since (the DKIM key of a
domain that was just registered) and the faults that are on. Files are replaced whole under a lock, so that several
processes may write and a reader never sees half of one. Nothing needs to be sent to the in-process server: it notices
the changed file at the next question.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from depesche.infra.local.part import private_folder
from depesche.infra.local.zone import Kind, Record, ZoneError, check_name

FAULT = re.compile(r"servfail|refused|nxdomain|timeout|truncate|delay-[0-9]{1,5}")
"""The faults a name can have; `delay-300` answers 300 ms late."""


@dataclass(frozen=True, slots=True)
class Published:
    """What stands in the folder: all records, base first, and the fault of each name that has one."""

    records: tuple[Record, ...]
    faults: Mapping[str, str]


class ZoneFolder:
    """The folder of one zone. Cheap to make; keeps nothing open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base_file = path / "base.json"
        self.published_file = path / "published.json"

    def write_base(self, records: tuple[Record, ...]) -> None:
        """Replace the prepared zone; what was published stays."""
        private_folder(self.path, 0o755)
        with self._locked():
            _replace(self.base_file, {"records": [asdict(record) for record in records]})

    def read(self) -> Published:
        """Return what stands there now. Raises ZoneError for a file that was damaged by hand."""
        published = _load(self.published_file)
        return Published(_records(_load(self.base_file)) + _records(published), _faults(published))

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """Return a value that differs after every change; a few microseconds."""
        return tuple(_stamp(path) for path in (self.base_file, self.published_file))

    def publish(self, *records: Record) -> None:
        """Add records; publishing the same record twice leaves one."""
        with self._changing() as (kept, _):
            kept.extend(record for record in records if record not in kept)

    def withdraw(self, name: str, kind: Kind | None = None) -> None:
        """Remove what was published under a name, of one kind or of all; the base zone stays."""
        with self._changing() as (kept, _):
            kept[:] = [record for record in kept if record.name != name or (kind and record.kind != kind)]

    def set_fault(self, name: str, fault: str | None) -> None:
        """Switch a fault on for a name and all below it, or off with None. Only the in-process server has faults."""
        check_name(name)
        if fault is not None and not FAULT.fullmatch(fault):
            raise ZoneError(f"{fault!r} is not one of {FAULT.pattern}")
        with self._changing() as (_, faults):
            faults.pop(name, None)
            if fault is not None:
                faults[name] = fault

    @contextmanager
    def _changing(self) -> Iterator[tuple[list[Record], dict[str, str]]]:
        private_folder(self.path, 0o755)
        with self._locked():
            content = _load(self.published_file)
            kept, faults = list(_records(content)), _faults(content)
            yield kept, faults
            _replace(self.published_file, {"records": [asdict(record) for record in kept], "faults": faults})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _load(path: Path) -> dict[str, object]:
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except orjson.JSONDecodeError as error:
        raise ZoneError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ZoneError(f"{path} must hold an object")
    return content


def _records(content: Mapping[str, object]) -> tuple[Record, ...]:
    listed = content.get("records", [])
    if not isinstance(listed, list):
        raise ZoneError("records must be a list")
    try:
        return tuple(Record(**item) for item in listed)
    except TypeError as error:
        raise ZoneError(f"a record has the wrong fields: {error}") from error


def _faults(content: Mapping[str, object]) -> dict[str, str]:
    faults = content.get("faults", {})
    if not isinstance(faults, dict):
        raise ZoneError("faults must be an object of name and fault")
    return {str(name): str(fault) for name, fault in faults.items()}


def _replace(path: Path, content: Mapping[str, object]) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    draft.replace(path)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)
