"""Unbound as a validating resolver: the foreign judge of DNSSEC, which a courier asks where DANE is in force.

It trusts the anchors that it is given and knows the zones that it is given, each with the server that has it; for every other
name there is nothing, so that no question leaves the machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.message

from depesche.infra.local.part import find_program, missing_package, private_folder, until
from depesche.infra.local.ports import require_free, require_loopback


@dataclass(frozen=True, slots=True)
class UnboundSettings:
    """Where the resolver keeps its configuration and listens.

    `zones`: zone to `address@port` of its server; `anchors`: DS records, as in a zone file, of the zones to begin with.
    """

    folder: Path
    port: int
    zones: Mapping[str, str]
    anchors: tuple[str, ...] = field(default=())
    address: str = "127.0.0.1"


class Unbound:
    """The resolver on a loopback port, run in the foreground by a supervisor; needs no root."""

    name = "unbound"

    def __init__(self, settings: UnboundSettings) -> None:
        self.settings = settings
        self._configuration = settings.folder.absolute() / "unbound.conf"

    def available(self) -> str | None:
        """Return None when Unbound can run here, else the reason and the fix."""
        if find_program("unbound") is None:
            return missing_package("unbound", "a validating resolver")
        return None

    def prepare(self) -> None:
        """Write the configuration. Raises LocalFault for a foreign address or a taken port."""
        require_loopback(self.settings.address, "Unbound")
        require_free(self.settings.address, self.settings.port, "Unbound")
        private_folder(self.settings.folder, 0o755)
        self._configuration.write_text(self._options())

    def command(self) -> list[str]:
        """Return the command line of the resolver in the foreground."""
        return [find_program("unbound") or "unbound", "-d", "-c", str(self._configuration)]

    async def ready(self, timeout: float) -> None:
        """Return once the resolver answers. Raises LocalFault after `timeout` seconds."""

        async def answers() -> bool:
            question = dns.message.make_query("version.server.", "TXT", "CH")
            try:
                await dns.asyncquery.udp(question, self.settings.address, timeout=0.5, port=self.settings.port)
            except dns.exception.Timeout:
                return False
            return True

        await until("Unbound", timeout, answers)

    def _options(self) -> str:
        settings = self.settings
        lines = [
            "server:",
            '  chroot: ""',
            '  username: ""',
            f'  directory: "{settings.folder.absolute()}"',
            '  pidfile: ""',
            "  use-syslog: no",
            "  num-threads: 1",
            f"  interface: {settings.address}@{settings.port}",
            "  access-control: 127.0.0.0/8 allow",
            '  module-config: "validator iterator"',
            "  do-not-query-localhost: no",
            "  do-ip6: no",
            "  val-log-level: 1",
            # A record that is published while everything runs must be seen at the next question.
            "  cache-max-ttl: 0",
            "  cache-max-negative-ttl: 0",
            "  infra-host-ttl: 1",
            *(f'  trust-anchor: "{anchor}"' for anchor in settings.anchors),
            # Everything is refused but the zones we know; Unbound would answer for .test by itself (RFC 6761).
            '  local-zone: "." refuse',
            *(f'  local-zone: "{zone}" transparent' for zone in settings.zones),
            "remote-control:",
            "  control-enable: no",
        ]
        for zone, server in settings.zones.items():
            lines += ["stub-zone:", f'  name: "{zone}"', f"  stub-addr: {server}"]
        return "\n".join(lines) + "\n"
