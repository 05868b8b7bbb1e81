"""YARA-X as the second engine: rules compiled once, run over the decoded parts of a message and over the message as it stands."""

from __future__ import annotations

import asyncio
import hashlib
from importlib import resources
from pathlib import Path

import yara_x

from depesche.schemas.errors import ScannerUnavailableError, SetupError
from depesche.streams.mail.parts import decoded_parts

LARGE = 512 << 10
"""Above this size a scan runs in a thread, so that the loop is not held up."""


class Yara:
    """The engine ``yara``."""

    name = "yara"

    def __init__(self, own_rules: Path | None = None, timeout_seconds: float = 60) -> None:
        """Compile the rules that ship with Depesche and those of ``own_rules``.

        Raises:
            SetupError: a rule does not compile, or the directory cannot be read.
        """
        compiler = yara_x.Compiler()
        digest = hashlib.sha256()
        for origin, text in _sources(own_rules):
            try:
                compiler.add_source(text, origin=origin)
            except yara_x.CompileError as fault:
                raise SetupError(
                    f"The YARA rules in {origin} do not compile: {fault}", fix="Correct that file."
                ) from fault
            digest.update(text.encode())
        self._rules = compiler.build()
        self._timeout = max(1, int(timeout_seconds))
        self._scanner = _scanner(self._rules, self._timeout)
        self.version = digest.hexdigest()[:12]

    async def scan(self, message: bytes) -> str | None:
        """The name of the first rule that matches, or nothing.

        Raises:
            ScannerUnavailableError: the rules took too long.
        """
        try:
            if len(message) <= LARGE:
                return _match(self._scanner, message)
            # A scanner of YARA-X may be used and let go only in the thread that made it, so the thread gets no hold of ours.
            return await asyncio.to_thread(_match_in_thread, self._rules, self._timeout, message)
        except (yara_x.TimeoutError, yara_x.ScanError) as fault:
            raise ScannerUnavailableError(f"yara: {type(fault).__name__}") from fault


def _scanner(rules: yara_x.Rules, timeout: int) -> yara_x.Scanner:
    scanner = yara_x.Scanner(rules)
    scanner.set_timeout(timeout)
    return scanner


def _match_in_thread(rules: yara_x.Rules, timeout: int, message: bytes) -> str | None:
    return _match(_scanner(rules, timeout), message)


def _match(scanner: yara_x.Scanner, message: bytes) -> str | None:
    # The raw message as well: a file name in a header, or a part that no rule of MIME would find.
    for content in (message, *decoded_parts(message)):
        for rule in scanner.scan(content).matching_rules:
            return str(rule.identifier)
    return None


def _sources(own_rules: Path | None) -> list[tuple[str, str]]:
    shipped = resources.files("depesche.streams.mail.rules")
    found = [(entry.name, entry.read_text()) for entry in shipped.iterdir() if entry.name.endswith(".yar")]
    try:
        found += [(file.name, file.read_text()) for file in sorted(own_rules.glob("*.yar"))] if own_rules else []
    except OSError as fault:
        raise SetupError(f"The YARA rules in {own_rules} cannot be read.", fix="Correct scan.yara_rules.") from fault
    return sorted(found)
