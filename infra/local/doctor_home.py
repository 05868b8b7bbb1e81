"""What the doctor asks of the home directory: whole, ours, writable, its secrets closed, the broker's jars the pinned ones."""

from __future__ import annotations

import asyncio
import datetime
import os
import tempfile
from pathlib import Path

from cryptography import x509

from depesche.infra.local import kafka_jars, programs
from depesche.infra.local.doctor import Case, Finding, fail, ok, warn
from depesche.infra.local.fault import LocalFault
from depesche.infra.local.home_lock import HomeLock
from depesche.infra.local.home_state import faults, state_of, too_open
from depesche.infra.local.seed import read_demo
from depesche.schemas.errors import SetupError
from depesche.streams.stages.shaping_watch import read_file

_SOON = datetime.timedelta(days=14)


async def home(case: Case) -> list[Finding]:
    """The one directory with all state is there, writable, and not half of one."""
    place = case.settings.home
    if not place.exists():
        parent = next(path for path in place.parents if path.exists())
        if not os.access(parent, os.W_OK):
            return [fail(f"{place} is not there and cannot be made by this user.", "Choose another DEPESCHE_HOME.")]
        return [ok(f"{place} is not there yet; the first start makes it.")]
    found = [fail(fault.finding, fault.remedy) for fault in faults(case.settings)]
    if not found:
        await asyncio.to_thread(try_writing, place)
        found += _remains(case)
    return found or [ok(f"{place} is whole and can be written.")]


async def shaping(case: Case) -> list[Finding]:
    """The operator's shaping file is valid; couriers go on with the last good one, but do not start with a bad one."""
    path = case.settings.shaping_file
    if not path.exists():
        return [ok("There is no shaping file of your own; the shipped one holds.")]
    try:
        blocks = read_file(path)
    except SetupError as fault:
        return [fail(str(fault), fault.fix)]
    return [ok(f"{path} is valid: {len(blocks)} blocks.")]


def try_writing(folder: Path) -> None:
    """Write a file into a folder, have it on the disk, remove it.

    Raises:
        LocalFault: that cannot be done.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=folder) as file:
            file.write(b"written by depesche doctor\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        raise LocalFault(
            f"{folder} cannot be written: {fault.strerror}.", "Make room, or correct its owner."
        ) from fault


def _remains(case: Case) -> list[Finding]:
    """What a start that was interrupted has left, and what mends it."""
    settings = case.settings
    state = state_of(settings)
    found = []
    if case.owner is None and HomeLock(settings.home).held():
        found.append(warn("An earlier run is still stopping.", "Wait half a minute; a new start waits for it as well."))
    if state.demo and not state.log and not settings.kafka.bootstrap:
        found.append(warn("demo.json tells of a demo customer that the log does not know.", "Start: it is made anew."))
    elif state.demo and read_demo(settings.home) is None:
        found.append(warn("demo.json is damaged.", "Start: the demo customer gets new credentials."))
    if case.owner is None and (settings.home / "kafka" / "broker" / "data.formatting").exists():
        found.append(warn("Formatting the log was interrupted.", "Start: it is done again."))
    return found


async def keys(case: Case) -> list[Finding]:
    """Nobody but their owner may read the keys."""
    folder = case.settings.home / "keys"
    if not folder.exists():
        return [ok("There are no keys yet; the first start makes them.")]
    opened = too_open(case.settings)
    if opened:
        shown = " ".join(map(str, opened[:5]))
        return [fail(f"Others on this machine may read {len(opened)} secret files.", f"chmod go-rwx {shown}")]
    return [ok(f"Only their owner may read the keys in {folder}; have them in your backup.")]


async def jars(case: Case) -> list[Finding]:
    """The embedded broker's jars are the pinned ones."""
    if case.settings.kafka.bootstrap:
        return []
    place = programs.kafka(case.settings).jars
    if not (place / "lib").is_dir():
        return [ok("The broker's jars are not there yet; the first start fetches them (43 MB).")]
    checked = await asyncio.to_thread(kafka_jars.check, place)
    return [ok(f"The broker's {len(checked)} jars have the pinned SHA-256.")]


async def archive(case: Case) -> list[Finding]:
    """Message bodies can be written."""
    place = case.settings.archive_directory
    if not place.exists():
        return [ok(f"The archive {place} is not there yet; the first start makes it.")]
    await asyncio.to_thread(try_writing, place)
    segments = len(list(place.glob("*.seg")))
    return [ok(f"The archive can be written; {segments} segments.")]


async def certificate(case: Case) -> list[Finding]:
    """The SMTP door's certificate still holds."""
    smtp = case.settings.smtp
    own = smtp.certificate is None
    path = smtp.certificate or case.settings.home / "tls" / "smtp.crt"
    if not path.exists():
        if own:
            return [ok("There is no certificate yet; the first start makes one.")]
        return [fail(f"The certificate {path} is not there.", "Correct smtp.certificate.")]
    try:
        ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except ValueError:
        return [fail(f"{path} is not a PEM certificate.", "Replace it, or remove it and its key to have both made.")]
    left = ends - datetime.datetime.now(datetime.UTC)
    sentence = f"The {'self-made ' if own else ''}certificate of the SMTP door holds until {ends:%Y-%m-%d}."
    if left < datetime.timedelta(0):
        return [fail(sentence, "Restart: it is made anew." if own else "Renew it, then restart the SMTP door.")]
    if left < _SOON:
        return [warn(sentence, "Restart: it is made anew." if own else "Renew it, then restart the SMTP door.")]
    return [ok(sentence)]
