"""Knot DNS as the authority for signed zones: real DNSSEC, with keys that Knot makes and signatures that it renews.

Beside signed zones it serves unsigned ones, so that a validating resolver can be shown every case: a chain of trust, a
delegation without one (insecure), and one that leads to the wrong key (bogus).
"""

import asyncio
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dns.asyncquery
import dns.dnssec
import dns.message
import dns.name
import dns.rdatatype

from depesche.infra.local.fault import LocalFault
from depesche.infra.local.part import find_program, missing_package, private_folder, scratch_folder, until
from depesche.infra.local.ports import require_free, require_loopback

WRONG_DS = "12345 13 2 " + "ab" * 32
"""A DS record that fits no key: a delegation that carries it makes its zone bogus."""


@dataclass(frozen=True, slots=True)
class SignedZonesSettings:
    """Where the instance keeps its files and listens, and the zones, with their final dot, that it signs or only serves."""

    folder: Path
    port: int
    signed: tuple[str, ...]
    unsigned: tuple[str, ...] = ()
    address: str = "127.0.0.1"


class SignedZones:
    """The name server, run in the foreground by a supervisor; needs no root."""

    name = "knot"

    def __init__(self, settings: SignedZonesSettings) -> None:
        self.settings = settings
        self._folder = settings.folder.absolute()
        self._records: dict[str, str] = dict.fromkeys((*settings.signed, *settings.unsigned), "")
        self._serial = 0

    def available(self) -> str | None:
        """Return None when Knot can run here, else the reason and the fix."""
        if find_program("knotd") is None or find_program("knotc") is None:
            return missing_package("knot", "a real authoritative name server")
        return None

    def prepare(self) -> None:
        """Write configuration and zones. Raises LocalFault for a foreign address or a taken port."""
        require_loopback(self.settings.address, "Knot")
        require_free(self.settings.address, self.settings.port, "Knot")
        private_folder(self._folder, 0o755)
        private_folder(self._folder / "database")
        (self._folder / "knot.conf").write_text(self._configuration())
        self._write()

    def command(self) -> list[str]:
        """Return the command line of the server in the foreground."""
        return [find_program("knotd") or "knotd", "--config", str(self._folder / "knot.conf")]

    async def ready(self, timeout: float) -> None:
        """Return once every zone is served, and signed where it shall be. Raises LocalFault after `timeout` seconds."""

        async def answers() -> bool:
            return all([await self.anchor(zone) for zone in self.settings.signed])

        await until("Knot", timeout, answers)

    async def publish(self, records: Mapping[str, str]) -> None:
        """Serve these records, lines of a zone file with absolute names by zone, and no others from now on.

        Raises LocalFault when Knot refuses them.
        """
        self._records = {zone: records.get(zone, "") for zone in self._records}
        self._write()
        command = [find_program("knotc") or "knotc", "--config", str(self._folder / "knot.conf"), "--timeout", "5"]
        done = await asyncio.to_thread(
            subprocess.run, [*command, "--blocking", "zone-reload"], capture_output=True, check=False, timeout=30
        )
        if done.returncode != 0:
            raise LocalFault("Knot did not take the changed zones.", f"It said: {done.stderr.decode()[:300]}")

    async def anchor(self, zone: str) -> str:
        """Return the DS record of a signed zone, as in a zone file; empty while there is no key."""
        name = dns.name.from_text(zone)
        question = dns.message.make_query(name, dns.rdatatype.DNSKEY, use_edns=0, want_dnssec=True)
        answer = await dns.asyncquery.tcp(question, self.settings.address, timeout=2, port=self.settings.port)
        for rrset in answer.answer:
            if rrset.rdtype == dns.rdatatype.DNSKEY:
                return f"{zone} 60 IN DS {dns.dnssec.make_ds(name, rrset[0], 'SHA256').to_text()}"
        return ""

    def _write(self) -> None:
        self._serial += 1
        for zone, records in self._records.items():
            head = f"{zone} 60 IN SOA ns.{zone} hostmaster.{zone} {self._serial} 3600 600 86400 1\n"
            servers = f"{zone} 60 IN NS ns.{zone}\nns.{zone} 60 IN A {self.settings.address}\n"
            draft = self._folder / "draft"
            draft.write_text(head + servers + records)
            draft.replace(self._folder / f"{zone}zone")

    def _configuration(self) -> str:
        run = scratch_folder(Path(tempfile.gettempdir()), "zones", self._folder)
        zones = "".join(f'  - domain: {zone}\n    file: "{zone}zone"\n' for zone in self.settings.unsigned)
        signed = "".join(
            f'  - domain: {zone}\n    file: "{zone}zone"\n    dnssec-signing: on\n    dnssec-policy: single\n'
            for zone in self.settings.signed
        )
        return (
            f'server:\n    rundir: "{run}"\n    listen: {self.settings.address}@{self.settings.port}\n'
            "    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n"
            'control:\n    listen: "knot.sock"\n'
            "log:\n  - target: stderr\n    any: warning\n"
            f'database:\n    storage: "{self._folder / "database"}"\n'
            "policy:\n  - id: single\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n"
            f'template:\n  - id: default\n    storage: "{self._folder}"\n    zonefile-sync: -1\n    zonefile-load: whole\n'
            "    journal-content: none\n    semantic-checks: off\n"
            f"zone:\n{signed}{zones}"
        )
