"""Which scanners are in force, by the setting."""

from __future__ import annotations

from depesche.schemas.settings import ScanSettings
from depesche.streams.wire.clamd import ClamAV
from depesche.streams.wire.scanning import Scanner
from depesche.streams.wire.yara import Yara


def engines_of(scan: ScanSettings) -> list[Scanner]:
    """The engines in force, in the order of the setting; the quick one first saves nothing, both must pass.

    Raises:
        SetupError: the YARA rules do not compile.
    """
    made: list[Scanner] = []
    for name in scan.engines:
        if name == "clamav":
            address = scan.clamd or f"127.0.0.1:{scan.clamd_port}"
            made.append(ClamAV(address, scan.timeout_seconds, whole=scan.clamd_whole))
        else:
            made.append(Yara(scan.yara_rules, scan.timeout_seconds))
    return made
