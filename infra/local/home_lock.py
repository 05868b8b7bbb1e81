"""One running ``depesche up`` per home directory, and who it is."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from depesche.infra.load import Loaded, load
from depesche.infra.local.fault import LocalFault

_PATIENCE_SECONDS = 25.0


@dataclass(slots=True)
class HomeLock:
    """The lock of a home directory. It lives as long as any process that inherited its file descriptor."""

    home: Path
    descriptor: int = field(default=-1, init=False)

    @property
    def file(self) -> Path:
        """The locked file; holds the owner's process id and the addresses it serves."""
        return self.home / "run" / "up.json"

    def take(self) -> None:
        """Become the one that runs on this home.

        The remains of a killed run are waited for. Raises LocalFault when a living one has it, or the directory cannot be
        written.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.descriptor = os.open(self.file, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as fault:
            raise LocalFault(
                f"The home directory {self.home} cannot be written: {fault.strerror}.",
                "Correct its owner, or choose another with DEPESCHE_HOME.",
            ) from fault
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._try():
            owner = self.owner()
            if owner is not None or time.monotonic() > deadline:
                os.close(self.descriptor)
                who = f"process {owner}" if owner else "a process that is still stopping"
                raise LocalFault(
                    f"Depesche already runs on {self.home} ({who}).",
                    "Stop it with `depesche down`, or give this one another DEPESCHE_HOME and DEPESCHE_PORT_OFFSET.",
                )
            time.sleep(0.1)
        os.ftruncate(self.descriptor, 0)
        self.write({})

    def _try(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write(self, content: dict[str, object]) -> None:
        """Tell others about this run; the process id is added. Raises OSError when the disk is full."""
        text = orjson.dumps({"pid": os.getpid(), **content})
        # Written over what stands there, never emptied first: a reader finds one or the other, also when the disk is full.
        os.pwrite(self.descriptor, text.ljust(os.fstat(self.descriptor).st_size), 0)

    def owner(self) -> int | None:
        """Process id of a living owner, or None."""
        pid = self.content().get("pid")
        if not isinstance(pid, int) or not self.held():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return pid
        return pid

    def held(self) -> bool:
        """Whether anybody holds the lock now (this process included)."""
        if not self.file.exists():
            return False
        with self.file.open("rb") as probe:
            try:
                fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def content(self) -> dict[str, object]:
        """What the owner has written; empty where nothing readable stands."""
        try:
            found = orjson.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def release(self) -> None:
        """Let go; the file stays empty."""
        if self.descriptor >= 0:
            os.ftruncate(self.descriptor, 0)
            os.close(self.descriptor)
            self.descriptor = -1


def as_it_runs(loaded: Loaded, environ: Mapping[str, str] | None = None) -> Loaded:
    """The configuration with the port offset that the ``depesche up`` on this home was given, in another terminal perhaps.

    An offset that is set here stands; where nothing runs, nothing changes.

    Args:
        loaded: what was read.
        environ: the environment it was read from; the process's own by default.
    """
    if "port_offset" in loaded.sources:
        return loaded
    lock = HomeLock(loaded.settings.home)
    offset = lock.content().get("port_offset") if lock.owner() is not None else None
    environ = os.environ if environ is None else environ
    return load({**environ, "DEPESCHE_PORT_OFFSET": str(offset)}) if offset else loaded
