"""Is the home directory whole? Its parts only mean something together: a log without its keys is noise, a store without its log
is somebody else's. A start on half of them would look like a first start and bury the rest, so it is refused.

What an interrupted start leaves behind is not meant here: every part writes beside its place and renames, and the next start goes
on where it stopped.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from depesche.infra.local.fault import LocalFault
from depesche.schemas.settings import Settings

LEAST_FREE_BYTES = 2 << 30
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class HomeState:
    """What of a home directory is there.

    Attributes:
        keys: whether the master key is there.
        log: whether the embedded broker's storage is formatted; ``records``: whether it holds any.
        store: whether the embedded engine has a database.
        bodies: whether the archive has segments.
        demo: whether the demo's credentials are kept.
    """

    keys: bool
    log: bool
    records: bool
    store: bool
    bodies: bool
    demo: bool


def state_of(settings: Settings) -> HomeState:
    """Look at the home directory; changes nothing."""
    home = settings.home
    data = home / "kafka" / "broker" / "data"
    return HomeState(
        keys=(settings.master_key_file or home / "keys" / "master").is_file(),
        log=(data / "meta.properties").is_file(),
        records=any(file.stat().st_size for file in data.glob("*/*.log")),
        store=(home / "clickhouse" / "data" / "metadata").is_dir(),
        bodies=any(settings.archive_directory.glob("*.seg")),
        demo=(home / "demo.json").is_file(),
    )


def prepare_home(settings: Settings) -> None:
    """Make the home directory if it is not there, and see that everything can be started on it.

    Raises:
        LocalFault: it cannot be made or written, its disk is full, or only a part of it is there; nothing is changed then.
    """
    home = settings.home
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        reason = "there is a file of that name" if isinstance(fault, FileExistsError) else fault.strerror
        raise LocalFault(
            f"The home directory {home} cannot be made: {reason}.", "Choose another with DEPESCHE_HOME."
        ) from fault
    require_room(home)
    require_whole(settings)


def require_room(folder: Path, least: int = LEAST_FREE_BYTES) -> None:
    """Raise LocalFault unless so many bytes are free on the folder's disk."""
    free = shutil.disk_usage(folder).free
    if free < least:
        raise LocalFault(
            f"Only {free // _MB} MB are free on the disk of {folder}; {least // _MB} MB are needed.",
            "Make room, or put home on another disk with DEPESCHE_HOME.",
        )


def require_whole(settings: Settings) -> None:
    """Refuse a home directory of which a part is missing, or that this user may not write.

    Raises:
        LocalFault: names the first such thing and what to do about it; nothing was changed.
    """
    for fault in faults(settings):
        raise fault


def faults(settings: Settings) -> Iterator[LocalFault]:
    """Everything for which a start on this home must be refused."""
    home = settings.home
    foreign = not_ours(home)
    if foreign:
        others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        yield LocalFault(
            f"{foreign[0]}{others} cannot be written by this user; another one has started Depesche here.",
            f"Give it to this user (sudo chown -R {os.geteuid()} {home}), or choose another DEPESCHE_HOME.",
        )
        return
    found = state_of(settings)
    anew = f"Put it back from the backup, or move {home} away to begin anew with nothing."
    embedded = not settings.kafka.bootstrap
    if not found.keys and ((embedded and found.records) or found.bodies):
        what = "the log" if embedded and found.records else "the archive"
        yield LocalFault(
            f"Half of {home} is missing: {what} holds mail, but the keys that open it ({home / 'keys'}) are gone.", anew
        )
    if embedded and not found.log and (found.bodies or (found.store and not settings.clickhouse.url)):
        what = "message bodies are" if found.bodies else "the store is"
        gone = home / "kafka" / "broker" / "data" / "meta.properties"
        yield LocalFault(f"Half of {home} is missing: {what} there, but the log behind it ({gone}) is gone.", anew)


def not_ours(home: Path) -> list[Path]:
    """The parts of a home directory that this user cannot write, such as after a start as root."""
    if not home.is_dir():
        return []
    # The sandbox's Postfix keeps its queue and mailbox under its own user; that is as it must be.
    parts = (home, *sorted(path for path in home.iterdir() if path.name != "sandbox"))
    return [path for path in parts if not os.access(path, os.W_OK)]


def too_open(settings: Settings) -> list[Path]:
    """Secret files and folders of the home directory that others than their owner may read."""
    home = settings.home
    keys = home / "keys"
    secret = [keys, *keys.rglob("*"), home / "demo.json", *(home / "tls").glob("*.key")]
    if settings.master_key_file:
        secret.append(settings.master_key_file)
    return [path for path in secret if _mode(path) & (stat.S_IRWXG | stat.S_IRWXO)]


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
