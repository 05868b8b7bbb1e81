"""The peer: Debian's Postfix with OpenDKIM and clamav-milter, signing and scanning the same mails to the same sink.

A private instance: own queue, keys and sockets under one directory, loopback only. It needs root because Postfix does.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from depesche.analytics.directory.dkim_keys import new_dkim_key
from depesche.infra.local.clamd import Clamd, ClamdSettings
from depesche.infra.local.part import port_is_open, until
from depesche.infra.local.postfix import MASTER

NEEDED = {"postfix": str(MASTER), "opendkim": "opendkim", "clamav-milter": "clamav-milter", "clamav-daemon": "clamd"}
SERVICES = """\
{port} inet n - n - 200 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - 100 smtp
error unix - - n - - error
retry unix - - n - - error
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def missing() -> str | None:
    """Why the peer cannot run here, with the line that helps; nothing if it can."""
    absent = [package for package, program in NEEDED.items() if not (Path(program).exists() or shutil.which(program))]
    if absent:
        return f"sudo apt-get install -y --no-install-recommends {' '.join(absent)}"
    return None if os.geteuid() == 0 else "run the comparison as root: Postfix changes users by design"


@dataclass
class Peer:
    """One running set of Postfix, OpenDKIM, clamav-milter and clamd."""

    home: Path
    port: int
    sink: tuple[str, int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, int]:
        """Process ids by part, for the CPU books."""
        return {name: process.pid for name, process in self.processes.items()}

    async def start(self) -> None:
        """Write the configuration and start everything; returns when mail is taken.

        Raises:
            LocalFault: a part did not come up.
        """
        self.home.mkdir(parents=True)
        # OpenDKIM and clamav-milter give up root and must still reach their files.
        self.home.chmod(0o755)
        clamd = Clamd(ClamdSettings(folder=self.home / "clamd", port=self.port + 3))
        await asyncio.to_thread(clamd.prepare)
        self._run("clamd", clamd.command())
        await clamd.ready(60)
        self._run("opendkim", ["opendkim", "-f", "-x", str(self._opendkim())])
        self._run("clamav-milter", ["clamav-milter", "-c", str(self._milter())])
        for offset, name in ((1, "opendkim"), (2, "clamav-milter")):
            await until(name, 20, lambda offset=offset: port_is_open("127.0.0.1", self.port + offset))  # type: ignore[misc]
        self._postfix()
        self._run("postfix", [str(MASTER), "-c", str(self.home / "etc"), "-s"])
        await until("postfix", 20, lambda: port_is_open("127.0.0.1", self.port))

    async def stop(self) -> None:
        """End all processes, newest first."""
        for process in reversed(self.processes.values()):
            process.terminate()
            await asyncio.to_thread(process.wait, 20)

    def _run(self, name: str, command: list[str]) -> None:
        with (self.home / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def _opendkim(self) -> Path:
        key = load_der_private_key(new_dkim_key().private_key, None)
        pem = self.home / "dkim.pem"
        pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        pem.chmod(0o600)
        file = self.home / "opendkim.conf"
        file.write_text(
            f"Mode s\nDomain shop.test\nSelector bench\nKeyFile {pem}\nCanonicalization relaxed/simple\n"
            f"Socket inet:{self.port + 1}@127.0.0.1\nSyslog no\nBackground no\nInternalHosts 127.0.0.0/8\n"
            "SignatureAlgorithm rsa-sha256\nOversignHeaders From\nRequireSafeKeys no\n"
        )
        return file

    def _milter(self) -> Path:
        file = self.home / "clamav-milter.conf"
        file.write_text(
            f"MilterSocket inet:{self.port + 2}@127.0.0.1\nClamdSocket tcp:127.0.0.1:{self.port + 3}\nForeground yes\n"
            "OnInfected Reject\nOnFail Defer\nAddHeader No\nMaxFileSize 50M\n"
        )
        return file

    def _postfix(self) -> None:
        owner = pwd.getpwnam("postfix").pw_uid
        etc, queue, data = self.home / "etc", self.home / "queue", self.home / "data"
        for folder in (etc, queue, data, queue / "pid"):
            folder.mkdir(exist_ok=True)
        os.chown(data, owner, 0)
        for name in (
            "active",
            "bounce",
            "corrupt",
            "defer",
            "deferred",
            "flush",
            "hold",
            "incoming",
            "saved",
            "trace",
            "private",
        ):
            (queue / name).mkdir()
            os.chown(queue / name, owner, 0)
        for name, mode in (("maildrop", 0o730), ("public", 0o710)):
            (queue / name).mkdir()
            shutil.chown(queue / name, owner, "postdrop")
            (queue / name).chmod(mode)
        (etc / "master.cf").write_text(SERVICES.format(port=f"127.0.0.1:{self.port}"))
        (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in self._values().items()))

    def _values(self) -> dict[str, str]:
        milters = f"inet:127.0.0.1:{self.port + 1}, inet:127.0.0.1:{self.port + 2}"
        return {
            "compatibility_level": "3.6",
            "queue_directory": str(self.home / "queue"),
            "data_directory": str(self.home / "data"),
            "daemon_directory": str(MASTER.parent),
            "maillog_file": str(self.home / "mail.log"),
            "maillog_file_prefixes": str(self.home),
            "myhostname": "peer.test",
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_peername_lookup": "no",
            "smtpd_milters": milters,
            "milter_default_action": "tempfail",
            "relayhost": f"[{self.sink[0]}]:{self.sink[1]}",
            "smtp_dns_support_level": "disabled",
            "default_process_limit": "200",
            "default_destination_concurrency_limit": "50",
            "smtp_destination_concurrency_limit": "50",
            "initial_destination_concurrency": "20",
            "smtp_connection_cache_on_demand": "yes",
            "qmgr_message_active_limit": "100000",
            "message_size_limit": "60000000",
            "alias_maps": "",
            "alias_database": "",
            "smtpd_client_connection_count_limit": "0",
        }
