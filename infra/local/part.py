"""The shape that every far-side part shares, so that one supervisor can start them all.

A part that is a program of its own (Knot, Postfix, clamd) says whether it can run here, writes what it needs, names its
command line and can be waited for. Parts that live in our own process (the scripted sink, the in-process name server)
are coroutines instead and need none of this.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from depesche.infra.local.fault import LocalFault


class Part(Protocol):
    """A program of the far side, run in the foreground under a supervisor."""

    name: str

    def available(self) -> str | None:
        """Return None when the part can run here, else one sentence with the reason and the fix."""
        ...

    def prepare(self) -> None:
        """Write configuration and directories; may be called again before every start."""
        ...

    def command(self) -> list[str]:
        """Return the command line that runs the part in the foreground."""
        ...

    async def ready(self, timeout: float) -> None:
        """Return once the part serves; raise LocalFault after `timeout` seconds."""
        ...


SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find_program(name: str) -> str | None:
    """Return the path of a system program, also from the sbin folders that an ordinary user's PATH leaves out."""
    return shutil.which(name) or shutil.which(name, path=":".join(SYSTEM_FOLDERS))


def missing_package(package: str, purpose: str) -> str:
    """Return the sentence that names a missing Debian package and the one line that installs it."""
    return f"package {package} missing ({purpose}); install it with: sudo apt-get install -y {package}"


def private_folder(path: Path, mode: int = 0o700) -> Path:
    """Create a folder with the given mode if it is not there and return it."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    return path


def scratch_folder(parent: Path, name: str, owner: Path) -> Path:
    """Return a private folder outside of `owner`, which it belongs to: `<parent>/depesche-<name>-<user>-<hash of owner>`.

    For what must lie in memory or needs a short path. Raises LocalFault when somebody else made it first.
    """
    mark = hashlib.sha256(os.fsencode(owner.absolute())).hexdigest()[:12]
    folder = parent / f"depesche-{name}-{os.geteuid()}-{mark}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or (os.geteuid() != 0 and folder.stat().st_uid != os.geteuid()):
        raise LocalFault(f"{folder} was made by somebody else.", "Remove it, or have its owner remove it.")
    return folder


async def until(name: str, timeout: float, check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `check` answers True, asking every 50 ms.

    OSError and asyncio time-outs count as "not yet"; anything else is a real fault and goes up. Raises LocalFault
    after `timeout` seconds, with the last reason.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    reason = "no answer"
    while True:
        left = deadline - loop.time()
        if left <= 0:
            raise LocalFault(f"{name} was not ready within {timeout:g} s: {reason}.", "Look into its log file.")
        try:
            if await asyncio.wait_for(check(), left):
                return
        except (OSError, TimeoutError, EOFError) as error:
            reason = str(error) or type(error).__name__
        await asyncio.sleep(0.05)


async def read_greeting(host: str, port: int) -> bytes:
    """Connect, read one line, hang up: enough to see that a line-based server is there."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await reader.readline()
    finally:
        writer.close()


async def port_is_open(host: str, port: int) -> bool:
    """Connect and hang up. Raises OSError while nobody listens."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True
