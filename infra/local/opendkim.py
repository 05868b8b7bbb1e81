"""OpenDKIM behind the real Postfix: a foreign judge of our signatures, which writes its verdict into each mail.

It only verifies, takes keys from the test name server and from nowhere else, and adds `Authentication-Results` (RFC 8601) to
every mail, also to one without a signature.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from depesche.infra.local.part import find_program, missing_package, port_is_open, private_folder, until
from depesche.infra.local.ports import require_free

JUDGE = "mx.inbox.test"
"""The authserv-id under which the verdict stands."""


@dataclass(frozen=True, slots=True)
class OpenDKIMSettings:
    """Where the verifier keeps its configuration, the port of its milter, and the name server that has the keys."""

    folder: Path
    port: int = 8891
    dns_address: str = "127.0.0.1"
    dns_port: int = 5300


class OpenDKIM:
    """The verifying milter on a loopback port, run in the foreground by a supervisor."""

    name = "opendkim"

    def __init__(self, settings: OpenDKIMSettings) -> None:
        self.settings = settings
        folder = settings.folder.absolute()
        self._configuration = folder / "opendkim.conf"
        self._resolver = folder / "unbound.conf"

    def available(self) -> str | None:
        """Return None when OpenDKIM can run here, else the reason and the fix."""
        if find_program("opendkim") is None:
            return missing_package("opendkim", "a foreign judge of our DKIM signatures")
        return None

    def prepare(self) -> None:
        """Write the configuration. Raises LocalFault when the port is taken."""
        require_free("127.0.0.1", self.settings.port, "OpenDKIM")
        private_folder(self.settings.folder, 0o755)
        for path, content in ((self._configuration, self._options()), (self._resolver, self._resolver_options())):
            path.write_text(content)
            path.chmod(0o644)

    def command(self) -> list[str]:
        """Return the command line of the milter in the foreground."""
        # The resolver reads its file after root was given up, so it is named from within the folder: the way to the folder
        # may be closed to other users.
        start = ["env", f"--chdir={self._configuration.parent}"]
        return [*start, find_program("opendkim") or "opendkim", "-f", "-l", "-x", str(self._configuration)]

    async def ready(self, timeout: float) -> None:
        """Return once the milter takes connections. Raises LocalFault after `timeout` seconds."""

        async def listens() -> bool:
            # A milter says nothing before it is asked, so an open port is all there is to see.
            return await port_is_open("127.0.0.1", self.settings.port)

        await until("OpenDKIM", timeout, listens)

    def _options(self) -> str:
        options = {
            "Mode": "v",
            "Socket": f"inet:{self.settings.port}@127.0.0.1",
            "AuthservID": JUDGE,
            "AlwaysAddARHeader": "yes",
            "RemoveARAll": "no",
            "ResolverConfiguration": self._resolver.name,
            "DNSTimeout": "5",
            "MinimumKeyBits": "1024",
            "Syslog": "no",
            "On-DNSError": "accept",
            "On-BadSignature": "accept",
            "On-KeyNotFound": "accept",
            # Every client is loopback here, and verification must not be skipped for "internal" hosts.
            "InternalHosts": "192.0.2.1",
            "PeerList": "",
        }
        if os.geteuid() == 0:
            options["UserID"] = "opendkim"
        return "".join(f"{name} {value}\n" for name, value in options.items() if value)

    def _resolver_options(self) -> str:
        """Return a configuration of the resolver inside OpenDKIM that knows one server, the authority for everything."""
        server = f"{self.settings.dns_address}@{self.settings.dns_port}"
        return (
            "server:\n"
            '  module-config: "iterator"\n'
            "  do-not-query-localhost: no\n"
            "  local-zone: test. transparent\n"
            "  cache-max-ttl: 1\n"
            "  cache-max-negative-ttl: 1\n"
            "stub-zone:\n"
            "  name: .\n"
            f"  stub-addr: {server}\n"
        )
