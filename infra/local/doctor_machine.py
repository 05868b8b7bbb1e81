"""What the doctor asks of the machine: Python, packages, programs, disk, clock, configuration, ports."""

from __future__ import annotations

import asyncio
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata

import psutil
from packaging.requirements import Requirement

from depesche.infra import layout
from depesche.infra.local.doctor import Case, Finding, fail, ok, warn
from depesche.infra.local.home_state import LEAST_FREE_BYTES
from depesche.infra.local.part import find_program
from depesche.infra.local.postfix import MASTER
from depesche.infra.local.reservations import Reservation, require_all_free, reservations

PYTHONS = ((3, 11), (3, 15))
"""The oldest Python that runs this, and the first that may not."""
PROGRAMS = {
    "clamd": "clamav-daemon",
    "knotd": "knot",
    "postfix": "postfix",
    "opendkim": "opendkim",
    "swaks": "swaks",
    "Net::SSLeay": "libnet-ssleay-perl",
}
"""Program (or Perl module) to the Debian package it comes with; the same as in infra/dev/setup.sh."""
_COMFORTABLE_BYTES = 5 << 30
_GB = 1_000_000_000
_EARLIEST = 1_767_225_600
"""2026-01-01: no clock that goes right is before it."""
_AHEAD_SECONDS = 120


async def python(_case: Case) -> list[Finding]:
    """The interpreter, and whether the packages of the lock file are installed."""
    version = platform.python_version()
    if not PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return [fail(f"Python {version} runs this; 3.11 to 3.14 are tested.", "make run PYTHON=python3.12")]
    wrong = sorted(missing_requirements())
    if wrong:
        return [fail(f"Python packages are missing or too old: {', '.join(wrong)}.", "Run `make setup`.")]
    return [ok(f"Python {version}, with all packages.")]


def missing_requirements() -> Iterator[str]:
    """Requirements of ours that this environment does not meet."""
    for text in metadata.requires("depesche") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            if not requirement.specifier.contains(metadata.version(requirement.name), prereleases=True):
                yield str(requirement)
        except metadata.PackageNotFoundError:
            yield str(requirement)


async def settings(case: Case) -> list[Finding]:
    """Variables with our prefix that nobody reads, and a layout that cannot be."""
    processes = layout.processes(case.settings)
    found = [warn(f"{text}", "Correct or unset it.") for text in case.loaded.warnings]
    names = ", ".join(process.name for process in processes)
    return found or [ok(f"The configuration is valid; processes: {names}.")]


async def disk(case: Case) -> list[Finding]:
    """Room for the log, the store and the archive."""
    found = []
    for what, place in {"home": case.settings.home, "the archive": case.settings.archive_directory}.items():
        folder = next(path for path in (place, *place.parents) if path.is_dir())
        free = shutil.disk_usage(folder).free
        sentence = f"{free / _GB:.1f} GB are free for {what} ({place})."
        fix = "Make room, or put home on another disk with DEPESCHE_HOME."
        if free < LEAST_FREE_BYTES:
            found.append(fail(sentence, fix))
        elif free < _COMFORTABLE_BYTES:
            found.append(warn(sentence, fix))
        elif not found:
            found.append(ok(sentence))
        if place.is_relative_to(case.settings.home) and what == "home" and case.settings.archive.directory is None:
            break
    return found


async def clock(case: Case) -> list[Finding]:
    """A clock that is wrong makes signatures, retries and retention wrong."""
    now = time.time()
    newest = max((path.stat().st_mtime for path in case.settings.home.glob("*/*")), default=0.0)
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    fix = "Set it (sudo timedatectl set-ntp true): DKIM signatures and the retry ladder depend on it."
    if now < _EARLIEST:
        return [fail(f"The clock says {shown}, which is in the past.", fix)]
    if newest > now + _AHEAD_SECONDS:
        return [fail(f"The clock says {shown}, but files of home are {newest - now:.0f} s younger: it went back.", fix)]
    return [ok(f"The clock says {shown}.")]


async def programs(_case: Case) -> list[Finding]:
    """What only the system's packages have; the main job runs without."""
    missing = await asyncio.to_thread(missing_programs)
    if not missing:
        return [ok(f"All programs of the far side and the scanner are there ({', '.join(PROGRAMS)}).")]
    line = f"sudo apt-get install -y {' '.join(PROGRAMS[name] for name in missing)}"
    return [warn(f"Not installed: {', '.join(missing)}; the main job runs without.", line)]


def missing_programs() -> list[str]:
    """Which of ``PROGRAMS`` this machine lacks."""
    return [name for name in PROGRAMS if not _there(name)]


def _there(name: str) -> bool:
    if name == "postfix":
        return MASTER.exists()
    if "::" not in name:
        return find_program(name) is not None
    perl = find_program("perl")
    return (
        perl is not None
        and subprocess.run([perl, f"-M{name}", "-e1"], capture_output=True, check=False).returncode == 0
    )


async def ports(case: Case) -> list[Finding]:
    """Every port of the stack is free, or held by the stack itself."""
    names = case.parts()
    wanted = reservations(case.settings, with_postfix="postfix" in names, with_clamd="clamd" in names)
    if case.owner is None:
        await asyncio.to_thread(require_all_free, wanted, case.settings.port_offset)
        return [ok(f"All {len({(w.port, w.datagram) for w in wanted})} ports of the stack are free.")]
    return await asyncio.to_thread(_held, wanted, case.family())


def _held(wanted: tuple[Reservation, ...], family: frozenset[int]) -> list[Finding]:
    try:
        connections = psutil.net_connections(kind="inet")
    except (psutil.Error, OSError):
        return [warn("This system does not show who holds which port.", "Run the doctor as root to see it.")]
    holders: dict[tuple[int, bool], set[int | None]] = {}
    for entry in connections:
        datagram = entry.type == 2
        if entry.laddr and (datagram or entry.status == psutil.CONN_LISTEN):
            holders.setdefault((entry.laddr.port, datagram), set()).add(entry.pid)
    found = []
    for reservation in {(w.port, w.datagram): w for w in wanted}.values():
        pids = holders.get((reservation.port, reservation.datagram), set())
        if not pids:
            found.append(
                fail(
                    f"Nobody listens on port {reservation.port} ({reservation.what}).",
                    "See `depesche status` and log/.",
                )
            )
        elif family and not pids & family and None not in pids:
            found.append(
                fail(
                    f"Port {reservation.port} ({reservation.what}) is held by a foreign process ({_listed(pids)}).",
                    f"Stop it, or set {reservation.variable}.",
                )
            )
    return found or [ok(f"All {len({(w.port, w.datagram) for w in wanted})} ports are held by this Depesche.")]


def _listed(pids: set[int | None]) -> str:
    return ", ".join(str(pid) for pid in sorted(pid for pid in pids if pid is not None))
