"""Knot DNS serving the same zone folder: a real authoritative server, to show that nothing hangs on our own one.

Knot has no faults to switch on; `servfail.test` and `timeout.test` are zones that it cannot load, so it answers SERVFAIL for
both. A record that is published while it runs needs `reload`, or `follow` running beside it.
"""

import asyncio
import os
import pwd
import re
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from depesche.infra.local.fault import LocalFault
from depesche.infra.local.part import find_program, missing_package, private_folder, scratch_folder, until
from depesche.infra.local.ports import require_free, require_loopback
from depesche.infra.local.published import ZoneFolder
from depesche.infra.local.zone import NAMESERVER, render_zone

_SERIAL = re.compile(r"^\. 60 IN SOA \S+ \S+ ([0-9]+) ", re.MULTILINE)
_LOOK_SECONDS = 0.2
_LONGEST_SOCKET_FOLDER = 90


@dataclass(frozen=True, slots=True)
class KnotSettings:
    """Where the instance keeps its files and listens, and the zone folder that it serves."""

    folder: Path
    zone: Path
    address: str = "127.0.0.1"
    port: int = 5300


class Knot:
    """The name server, run in the foreground by a supervisor; needs no root."""

    name = "knot"

    def __init__(self, settings: KnotSettings) -> None:
        self.settings = settings
        self._folder = settings.folder.absolute()
        self._zone = ZoneFolder(settings.zone)
        self._zone_file = self._folder / "root.zone"

    def available(self) -> str | None:
        """Return None when Knot can run here, else the reason and the fix."""
        if find_program("knotd") is None or find_program("knotc") is None:
            return missing_package("knot", "a real authoritative name server")
        return None

    def prepare(self) -> None:
        """Write configuration and zone. Raises LocalFault for a foreign address or a taken port, ZoneError for the zone."""
        settings = self.settings
        require_loopback(settings.address, "Knot")
        require_free(settings.address, settings.port, "Knot")
        private_folder(settings.folder, 0o755)
        user = self._user()
        owner, group = (user.pw_uid, user.pw_gid) if user else (os.geteuid(), os.getegid())
        for folder in (self._run_folder(), private_folder(self._folder / "database")):
            os.chown(folder, owner, group)
        (self._folder / "knot.conf").write_text(self._configuration(user))
        self._write_zone()

    def command(self) -> list[str]:
        """Return the command line of the server in the foreground."""
        return [find_program("knotd") or "knotd", "--config", str(self._folder / "knot.conf")]

    async def ready(self, timeout: float) -> None:
        """Return once Knot serves the zone. Raises LocalFault after `timeout` seconds."""

        async def answers() -> bool:
            return await asyncio.to_thread(self._control, "zone-status", ".", "+serial")

        await until("Knot", timeout, answers)

    def reload(self) -> None:
        """Have a running Knot serve what stands in the zone folder now; blocks until it does.

        Raises LocalFault when no Knot runs here or it refuses the zone.
        """
        self._write_zone()
        if not self._control("--blocking", "zone-reload", "."):
            raise LocalFault("Knot did not take the changed zone.", "See whether it runs, and look into its log.")

    async def follow(self) -> None:
        """Reload whenever something was published, a fifth of a second later; runs until cancelled."""
        seen = self._zone.stamp()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            stamp = self._zone.stamp()
            if stamp != seen:
                await asyncio.to_thread(self.reload)
                seen = stamp

    def _run_folder(self) -> Path:
        """Return the folder of the control socket: the path of a socket may have a hundred bytes and no more."""
        inside = self._folder / "run"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET_FOLDER:
            return private_folder(inside)
        return scratch_folder(Path(tempfile.gettempdir()), "knot", self._folder)

    def _user(self) -> pwd.struct_passwd | None:
        """Return the user that Knot shall become, or None to stay.

        An ordinary user stays who he is. Root stays root where Knot's user could not enter the folder, as in root's home:
        Knot reads its zone by its whole path after it changed.
        """
        closed = any(not folder.stat().st_mode & stat.S_IXOTH for folder in (self._folder, *self._folder.parents))
        if os.geteuid() != 0 or closed:
            return None
        try:
            return pwd.getpwnam("knot")
        except KeyError:
            return None

    def _control(self, *words: str) -> bool:
        client = find_program("knotc") or "knotc"
        command = [client, "--config", str(self._folder / "knot.conf"), "--timeout", "5", *words]
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0

    def _write_zone(self) -> None:
        try:
            former = _SERIAL.search(self._zone_file.read_text())
        except FileNotFoundError:
            former = None
        draft = self._zone_file.with_suffix(".new")
        draft.write_text(render_zone(self._zone.read().records, int(former[1]) + 1 if former else 1))
        draft.chmod(0o644)
        draft.replace(self._zone_file)

    def _configuration(self, user: pwd.struct_passwd | None) -> str:
        become = f'    user: "{user.pw_name}"\n' if user is not None else ""
        return (
            "server:\n"
            f'    rundir: "{self._run_folder()}"\n'
            f"{become}"
            f"    listen: {self.settings.address}@{self.settings.port}\n"
            "    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n"
            f'    identity: "{NAMESERVER}"\n'
            'control:\n    listen: "knot.sock"\n'
            "log:\n  - target: stderr\n    any: notice\n"
            f'database:\n    storage: "{self._folder / "database"}"\n'
            f'template:\n  - id: default\n    storage: "{self._folder}"\n    zonefile-sync: -1\n    zonefile-load: whole\n'
            "    journal-content: none\n    semantic-checks: off\n"
            'zone:\n  - domain: .\n    file: "root.zone"\n'
            '  - domain: servfail.test\n    file: "none.zone"\n'
            '  - domain: timeout.test\n    file: "none.zone"\n'
        )
