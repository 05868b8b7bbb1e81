"""A real Exim as a second far side: other foreign code, with another TLS library (GnuTLS), to judge our SMTP and our TLS.

Debian lets only one mail server be installed, so Exim's program comes unpacked in `build/exim` (`infra/dev/install_packages.sh
exim4-daemon-light`). It is a private instance: it accepts mail for its domains into one Maildir and hands nothing on. It changes
user by design, so it needs root, and lives in a folder that its user may enter whatever folder it is told to use.
"""

import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from depesche.infra.local.fault import LocalFault
from depesche.infra.local.part import find_program, private_folder, read_greeting, scratch_folder, until
from depesche.infra.local.ports import require_free, require_loopback
from depesche.infra.local.tls_listener import TLSListener

USER = "Debian-exim"
_INSTALL = "sudo sh infra/dev/install_packages.sh exim4-daemon-light"
_UNPACKED = Path(__file__).resolve().parents[2] / "build" / "exim" / "usr" / "sbin" / "exim4"

_CONFIGURATION = """\
primary_hostname = {name}
exim_path = {home}/exim4
spool_directory = {home}/spool
log_file_path = {home}/log/%slog
pid_file_path = {home}/exim.pid
local_interfaces = <; {addresses}
daemon_smtp_ports = {port}
deliver_drop_privilege = true
keep_environment =
host_lookup =
rfc1413_hosts =
dns_dnssec_ok = -1
smtp_accept_max = 100
message_size_limit = 50M
smtputf8_advertise_hosts = *
tls_certificate = {home}/tls/$received_ip_address.crt
tls_privatekey = {home}/tls/$received_ip_address.key
tls_advertise_hosts = {offering}
tls_require_ciphers = ${{if inlist{{$received_ip_address}}{{{old}}}{{NORMAL:-VERS-ALL:+VERS-TLS1.0}}{{NORMAL}}}}
domainlist ours = {domains}
acl_smtp_rcpt = recipients
acl_smtp_data = contents
begin acl
recipients:
  accept domains = +ours
  deny message = relay not permitted
contents:
  accept
begin routers
everybody:
  driver = accept
  domains = +ours
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = {home}/maildir
  maildir_format
  envelope_to_add
  create_directory
"""


@dataclass(frozen=True, slots=True)
class EximSettings:
    """What names the instance (`folder`), its port, where and how it listens, its domains, and its own name."""

    folder: Path
    port: int
    listeners: tuple[TLSListener, ...]
    domains: tuple[str, ...]
    host_name: str = "mx.exim.test"


class Exim:
    """The private instance, run in the foreground by a supervisor."""

    name = "exim"

    def __init__(self, settings: EximSettings) -> None:
        self.settings = settings
        self._home = Path(tempfile.gettempdir())

    def available(self) -> str | None:
        """Return None when Exim can run here, else the reason and the fix."""
        if self._program() is None:
            return f"Exim missing (a second far-side mail server); get it with: {_INSTALL}"
        if os.geteuid() != 0:
            return "not root, and Exim changes users by design"
        try:
            pwd.getpwnam(USER)
        except KeyError:
            return f"the user {USER} is missing; it comes with: {_INSTALL}"
        return None

    @property
    def maildir(self) -> Path:
        """The Maildir with all mail that was accepted; known once it is prepared."""
        return self._home / "maildir"

    def prepare(self) -> None:
        """Write configuration and folders. Raises LocalFault for an address that is not loopback or a port that is taken."""
        settings = self.settings
        for listener in settings.listeners:
            require_loopback(listener.address, "Exim")
            require_free(listener.address, settings.port, "Exim")
        if settings.port == 25:
            raise LocalFault("Port 25 is not for a test server.", "Choose another port in the settings.")
        self._home = scratch_folder(Path(tempfile.gettempdir()), "exim", settings.folder)
        user = pwd.getpwnam(USER)
        for name in ("spool", "log", "maildir", "tls"):
            private_folder(self._home / name)
        # Its processes run this file again under their own user, who may not be able to enter the checkout.
        shutil.copy(self._program() or "exim4", self._home / "exim4")
        for listener in settings.listeners:
            certificate = listener.certificate
            shutil.copy(certificate.certificate, self._home / "tls" / f"{listener.address}.crt")
            shutil.copy(certificate.key, self._home / "tls" / f"{listener.address}.key")
        for path in (self._home, *self._home.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)
        # Exim reads no configuration that somebody else than root could have written.
        configuration = self._home / "exim.conf"
        configuration.write_text(self._rendered())
        os.chown(configuration, 0, 0)
        configuration.chmod(0o644)

    def command(self) -> list[str]:
        """Return the command line of the daemon in the foreground."""
        return [str(self._home / "exim4"), "-C", str(self._home / "exim.conf"), "-bdf"]

    async def ready(self, timeout: float) -> None:
        """Return once Exim greets with its own name. Raises LocalFault after `timeout` seconds."""

        async def greets() -> bool:
            greeting = await read_greeting(self.settings.listeners[0].address, self.settings.port)
            return greeting.startswith(f"220 {self.settings.host_name} ".encode())

        await until("Exim", timeout, greets)

    def remove(self) -> None:
        """Remove everything that it wrote."""
        if self._home != Path(tempfile.gettempdir()):
            shutil.rmtree(self._home)

    @staticmethod
    def _program() -> str | None:
        return str(_UNPACKED) if _UNPACKED.exists() else find_program("exim4")

    def _rendered(self) -> str:
        listeners = self.settings.listeners
        silent = ":".join(listener.address for listener in listeners if listener.tls == "none")
        return _CONFIGURATION.format(
            name=self.settings.host_name,
            home=self._home,
            addresses=" ; ".join(listener.address for listener in listeners),
            port=self.settings.port,
            offering=f"${{if inlist{{$received_ip_address}}{{{silent}}}{{}}{{*}}}}" if silent else "*",
            old=":".join(listener.address for listener in listeners if listener.tls == "old"),
            domains=" : ".join(self.settings.domains),
        )
