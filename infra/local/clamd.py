"""ClamAV's daemon as a private instance: own configuration and signatures, one loopback port, no user of its own needed.

Its signatures are the official database where this machine has one (`/var/lib/clamav`, kept fresh by freshclam), and in
any case the EICAR test file, so that scanning can be seen to work on a machine that was never online.
"""

import asyncio
import os
import pwd
import tempfile
from dataclasses import dataclass
from pathlib import Path

from depesche.infra.local import eicar
from depesche.infra.local.part import find_program, missing_package, private_folder, scratch_folder, until
from depesche.infra.local.ports import require_free, require_loopback

OFFICIAL_DATABASE = Path("/var/lib/clamav")
_OFFICIAL_SUFFIXES = (".cvd", ".cld")
_MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - scanning unpacks into it; a private folder is made inside
_CONFINEMENT = Path("/etc/apparmor.d/usr.sbin.clamd")
_CONFINEMENT_SWITCH = Path("/sys/module/apparmor/parameters/enabled")


@dataclass(frozen=True, slots=True)
class ClamdSettings:
    """Where the instance keeps its files, where it listens, and how much it takes: bytes of a mail, mails at once."""

    folder: Path
    address: str = "127.0.0.1"
    port: int = 13310
    largest: int = 64 * 1024 * 1024
    threads: int = 4
    database: Path = OFFICIAL_DATABASE


class Clamd:
    """The scanner daemon, run in the foreground by a supervisor."""

    name = "clamd"

    def __init__(self, settings: ClamdSettings) -> None:
        self.settings = settings
        self._folder = settings.folder.absolute()

    def available(self) -> str | None:
        """Return None when clamd can run here, else the reason and the fix."""
        if find_program("clamd") is None:
            return missing_package("clamav-daemon", "the virus scanner")
        return None

    def prepare(self) -> None:
        """Write configuration and signatures. Raises LocalFault for a foreign address or a port that is taken."""
        settings = self.settings
        require_loopback(settings.address, "clamd")
        require_free(settings.address, settings.port, "clamd")
        signatures = private_folder(private_folder(settings.folder, 0o755) / "signatures", 0o755)
        (signatures / "depesche.ndb").write_text(eicar.body_signature())
        (signatures / "depesche.hdb").write_text(eicar.hash_signature())
        self._link_official(signatures)
        scratch = self.scratch()
        user = _unprivileged_user()
        if user is not None:
            os.chown(scratch, user.pw_uid, user.pw_gid)
        configuration = self._folder / "clamd.conf"
        configuration.write_text("".join(f"{name} {value}\n" for name, value in self._options(scratch, user).items()))
        configuration.chmod(0o644)

    def command(self) -> list[str]:
        """Return the command line of the daemon in the foreground."""
        # Signatures are read after root was given up, from within the folder: the way to it may be closed to others.
        start = ["env", f"--chdir={self._folder}"]
        return [*start, find_program("clamd") or "clamd", f"--config-file={self._folder / 'clamd.conf'}"]

    async def ready(self, timeout: float) -> None:
        """Return once clamd answers PING, with its signatures loaded. Raises LocalFault after `timeout` seconds."""

        async def answers() -> bool:
            return await ask(self.settings.address, self.settings.port, "PING") == "PONG"

        await until("clamd", timeout, answers)

    def _link_official(self, signatures: Path) -> None:
        for old in signatures.iterdir():
            if old.is_symlink():
                old.unlink()
        if self.settings.database.is_dir():
            for file in self.settings.database.iterdir():
                if file.suffix in _OFFICIAL_SUFFIXES and os.access(file, os.R_OK):
                    (signatures / file.name).symlink_to(file)

    def scratch(self) -> Path:
        """Return the folder for what is unpacked, made if need be; the only thing outside of `folder`.

        It lies in memory, unless the system confines clamd to the common folder for temporary files.
        """
        confined = _CONFINEMENT.exists() and _reads(_CONFINEMENT_SWITCH).startswith("Y")
        usable = _MEMORY_FOLDER.is_dir() and os.access(_MEMORY_FOLDER, os.W_OK) and not confined
        parent = _MEMORY_FOLDER if usable else Path(tempfile.gettempdir())
        return scratch_folder(parent, "clamd", self._folder)

    def _options(self, scratch: Path, user: pwd.struct_passwd | None) -> dict[str, str]:
        settings = self.settings
        options = {
            "Foreground": "yes",
            "TCPSocket": str(settings.port),
            "TCPAddr": settings.address,
            "DatabaseDirectory": "signatures",
            "TemporaryDirectory": str(scratch),
            "MaxThreads": str(settings.threads),
            "MaxQueue": str(max(100, 4 * settings.threads)),
            "StreamMaxLength": str(settings.largest),
            "MaxFileSize": str(settings.largest),
            "MaxScanSize": str(4 * settings.largest),
            "IdleTimeout": "300",
            "SelfCheck": "600",
            "ExitOnOOM": "yes",
            "LogTime": "yes",
        }
        if user is not None:
            options["User"] = user.pw_name
        return options


async def ask(address: str, port: int, command: str) -> str:
    """Send one command without a body to a clamd and return its answer. Raises OSError while nobody listens."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(b"z" + command.encode() + b"\0")
        return (await reader.readuntil(b"\0"))[:-1].decode("utf-8", "replace")
    finally:
        writer.close()


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user that clamd shall become: none for an ordinary user, who stays who he is."""
    if os.geteuid() != 0:
        return None
    for name in ("clamav", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _reads(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
