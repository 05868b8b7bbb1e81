"""A real Postfix as the far side: foreign code that decides for itself whether our SMTP and our mail are right.

It is a private instance: own configuration, queue, data, log and Maildir in one folder, one loopback address, no
chroot, and nothing of the system's own Postfix is used but its programs. It accepts mail for its domains into one
Maildir and hands nothing on: every other transport is an error. Only what it bounces goes out, to the door of the return path on
this machine; `latebounce@` and `latefull@` of its domains are taken first and bounced then. Postfix changes user by design, so
it needs root.

Paths that its processes open after they gave up root are relative to the queue, where they all stand: so the folder may
lie in a home that only its owner can enter, such as root's.
"""

import os
import pwd
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from depesche.infra.local.certificate import ensure_certificate
from depesche.infra.local.fault import LocalFault
from depesche.infra.local.part import find_program, missing_package, private_folder, read_greeting, until
from depesche.infra.local.ports import require_free, require_loopback
from depesche.infra.local.tls_listener import TLSListener

MASTER = Path("/usr/lib/postfix/sbin/master")
HOST_NAME = "mx.inbox.test"
LARGEST_MAIL = 50 * 1024 * 1024

# Postfix's own list of queue folders (postfix-files): name, mode, and whether it belongs to the group of postdrop.
_QUEUE_FOLDERS = {
    **dict.fromkeys(
        ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "saved", "trace", "private"),
        (0o700, False),
    ),
    "maildrop": (0o730, True),
    "public": (0o710, True),
}

_SERVICES = """\
{listen} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
smtp unix - - n - - smtp
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
"""


# Deliveries that fail after the mail was taken, each with the words of its bounce. Not by Postfix's error service, because an
# address that leads there is refused at RCPT already.
_LATE = {"latebounce": "5.1.1 the mailbox was removed in the meantime", "latefull": "5.2.2 the mailbox is full"}
_LATE_SERVICE = """\
{name} unix - n n - - pipe
    user=nobody argv=/bin/sh -c {{cat >/dev/null; echo "{words}"; exit 67}}
"""


@dataclass(frozen=True, slots=True)
class PostfixSettings:
    """Where the instance lives and listens, and what it does with mail.

    Attributes:
        folder: everything that is its own.
        address, port: where it listens.
        domains: whose mail it takes.
        milter_port: port of a milter; None: there is none.
        listeners: further addresses, on the same port, each with its own way to speak TLS.
        return_domain, return_port: where its bounces go, a port of this machine; empty: they go nowhere.
    """

    folder: Path
    address: str = "127.0.0.3"
    port: int = 2525
    domains: tuple[str, ...] = ("inbox.test", "postfix.test", "shop.test")
    milter_port: int | None = None
    listeners: tuple[TLSListener, ...] = ()
    return_domain: str = ""
    return_port: int = 0

    @property
    def maildir(self) -> Path:
        """The Maildir with all mail that was accepted: `list_mails` and `read_mail` read it."""
        return self.folder / "maildir"


class Postfix:
    """The private instance, run in the foreground by a supervisor: SIGTERM ends it with all its processes."""

    name = "postfix"

    def __init__(self, settings: PostfixSettings) -> None:
        self.settings = settings
        folder = settings.folder.absolute()
        self._configuration = folder / "etc"
        self._queue = folder / "queue"
        self._data = folder / "data"
        self._maildir = settings.maildir.absolute()
        self.log_file = folder / "log" / "postfix.log"

    def available(self) -> str | None:
        """Return None when Postfix can run here, else the reason and the fix."""
        if not MASTER.exists() or find_program("postconf") is None:
            return missing_package("postfix", "the real far-side mail server")
        if os.geteuid() != 0:
            return "not root, and Postfix changes users by design; run as root, or use the sandbox mailbox instead"
        try:
            pwd.getpwnam("postfix")
        except KeyError:
            return "the user postfix is missing; reinstall with: sudo apt-get install -y --reinstall postfix"
        return None

    def prepare(self) -> None:
        """Write configuration and folders. Raises LocalFault for an address that is not loopback or a port that is taken."""
        settings = self.settings
        for address in (settings.address, *(listener.address for listener in settings.listeners)):
            require_loopback(address, "Postfix")
            require_free(address, settings.port, "Postfix")
        if settings.port == 25:
            raise LocalFault("Port 25 is not for a test server.", "Choose another port in the settings.")
        postfix = pwd.getpwnam("postfix")
        private_folder(settings.folder, 0o755)
        self._make_queue(postfix.pw_uid)
        for folder, owner in ((self._data, postfix.pw_uid), (self._maildir, postfix.pw_uid), (self.log_file.parent, 0)):
            private_folder(folder, 0o700)
            os.chown(folder, owner, 0)
        private_folder(self._configuration, 0o755)
        certificate = ensure_certificate(
            settings.folder / "tls",
            "postfix",
            [HOST_NAME, *(f"mx.{domain}" for domain in settings.domains)],
            kind="rsa",
        )
        listen = f"{settings.address}:{settings.port}"
        further = "".join(_listener(listener, settings.port) for listener in settings.listeners)
        further += "".join(_LATE_SERVICE.format(name=name, words=words) for name, words in _LATE.items())
        _write(self._configuration / "master.cf", _SERVICES.format(listen=listen) + further)
        _write(self._configuration / "recipients", _recipients(settings.domains))
        _write(self._configuration / "transports", _transports(settings))
        values = self._identity() | self._delivery(postfix.pw_uid, postfix.pw_gid) | self._reception()
        values |= {"smtpd_tls_cert_file": str(certificate.certificate), "smtpd_tls_key_file": str(certificate.key)}
        _write(self._configuration / "main.cf", _rendered(values))

    def command(self) -> list[str]:
        """Return the command line of the master daemon in the foreground."""
        return [str(MASTER), "-c", str(self._configuration), "-s"]

    async def ready(self, timeout: float) -> None:
        """Return once Postfix greets with its own name. Raises LocalFault after `timeout` seconds."""

        async def greets() -> bool:
            greeting = await read_greeting(self.settings.address, self.settings.port)
            return greeting.startswith(f"220 {HOST_NAME} ".encode())

        await until("Postfix", timeout, greets)

    def _make_queue(self, owner: int) -> None:
        private_folder(self._queue, 0o755)
        private_folder(self._queue / "pid", 0o755)
        for name, (mode, for_group) in _QUEUE_FOLDERS.items():
            folder = private_folder(self._queue / name, mode)
            shutil.chown(folder, owner, "postdrop" if for_group else 0)
            folder.chmod(mode)

    def _identity(self) -> dict[str, str]:
        return {
            "compatibility_level": "3.6",
            "queue_directory": str(self._queue),
            "data_directory": "../data",
            "daemon_directory": str(MASTER.parent),
            "maillog_file": str(self.log_file),
            "maillog_file_prefixes": str(self.log_file.parent),
            "myhostname": HOST_NAME,
            "mydomain": "inbox.test",
            "myorigin": "inbox.test",
            # This must be an address that an interface has by name, or the master ends without a word; where it listens
            # stands in master.cf.
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
        }

    def _delivery(self, owner: int, group: int) -> dict[str, str]:
        nowhere = "error:5.3.2 this test server sends nothing anywhere"
        return {
            "mydestination": "",
            "relay_domains": "",
            "virtual_mailbox_domains": " ".join(self.settings.domains),
            "virtual_mailbox_base": "/proc/self/cwd/..",
            "virtual_mailbox_maps": "regexp:../etc/recipients",
            "virtual_uid_maps": f"static:{owner}",
            "virtual_gid_maps": f"static:{group}",
            "virtual_mailbox_limit": "0",
            "message_size_limit": str(LARGEST_MAIL),
            "virtual_transport": "virtual",
            "transport_maps": "regexp:../etc/transports",
            "default_transport": nowhere,
            "relay_transport": nowhere,
            "local_transport": nowhere,
            "smtp_dns_support_level": "disabled",
            "smtp_tls_security_level": "may",
        }

    def _reception(self) -> dict[str, str]:
        values = {
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "smtpd_recipient_restrictions": "reject_unauth_destination",
            "smtpd_peername_lookup": "no",
            # A judge is strict: a bare newline or a command before its turn is our fault, and must show.
            "smtpd_forbid_bare_newline": "reject",
            "smtpd_forbid_bare_newline_exclusions": "",
            "smtpd_forbid_unauth_pipelining": "yes",
            # Mail must arrive as it was sent, even what lacks a header: nobody here is a local client to be helped.
            "local_header_rewrite_clients": "",
            "smtpd_client_connection_count_limit": "0",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_loglevel": "1",
            "smtpd_tls_received_header": "yes",
            "smtputf8_enable": "yes",
            "biff": "no",
        }
        if self.settings.milter_port is not None:
            values |= {
                "smtpd_milters": f"inet:127.0.0.1:{self.settings.milter_port}",
                "milter_default_action": "accept",
                "milter_protocol": "6",
            }
        return values


def _listener(listener: TLSListener, port: int) -> str:
    options = {
        "smtpd_tls_cert_file": str(listener.certificate.certificate),
        "smtpd_tls_key_file": str(listener.certificate.key),
        "smtpd_tls_security_level": "none" if listener.tls == "none" else "may",
    }
    if listener.tls == "old":
        options["smtpd_tls_protocols"] = "TLSv1"
    lines = "".join(f"  -o {name}={value}\n" for name, value in options.items())
    return f"{listener.address}:{port} inet n - n - - smtpd\n{lines}"


def _recipients(domains: tuple[str, ...]) -> str:
    """Return the table of mailboxes: all recipients share one Maildir, except those who shall not exist."""
    accepted = "|".join(domain.replace(".", "\\.") for domain in domains)
    return f"if !/^(nobody|hardbounce)([+-][^@]*)?@/\n/^[^@]+@({accepted})$/ maildir/\nendif\n"


def _transports(settings: PostfixSettings) -> str:
    """Return the table of those who are bounced after their mail was taken, and of the one way out."""
    domains = "|".join(domain.replace(".", "\\.") for domain in settings.domains)
    lines = [f"/^{name}([+-][^@]*)?@({domains})$/ {name}:" for name in _LATE]
    if settings.return_domain and settings.return_port:
        name = settings.return_domain.replace(".", "\\.")
        lines.append(f"/@{name}$/ smtp:[127.0.0.1]:{settings.return_port}")
    return "\n".join(lines) + "\n"


def _write(path: Path, content: str) -> None:
    """Replace a file and date it back by a minute.

    Postfix takes a file of the last second for one that is being written and reads it again and again until it is older,
    which would make each start two seconds longer. Being replaced in one step, ours is never half written.
    """
    draft = path.with_suffix(".new")
    draft.write_text(content)
    past = time.time() - 60
    os.utime(draft, (past, past))
    draft.replace(path)


def _rendered(values: Mapping[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in values.items())
