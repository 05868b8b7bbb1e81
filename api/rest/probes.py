"""What readiness asks besides the log: whether the archive has room to write, and whether the store answers."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping

from depesche.api.rest.tools import Probe, Tools
from depesche.schemas.errors import ArchiveUnavailableError, StoreUnavailableError

LEAST_ROOM = 64 << 20
"""Bytes that must be free for the archive; a single mail of 20 MB needs a third of it."""


def usual_probes(tools: Tools) -> Mapping[str, Probe]:
    """The probes of this door: ``archive``, which it cannot do without, and ``store``, which it can."""

    async def archive() -> None:
        await asyncio.to_thread(_room_for_mail, str(tools.settings.archive_directory))

    async def store() -> None:
        if tools.store is None:
            raise StoreUnavailableError("no store")
        await tools.store.query("SELECT 1", seconds=1)

    return {"archive": archive, "store": store}


def _room_for_mail(directory: str) -> None:
    """Raises ArchiveUnavailableError, with a sentence for the operator that names no path."""
    try:
        free = shutil.disk_usage(directory).free
    except OSError as fault:
        raise ArchiveUnavailableError(str(fault), public="The archive's directory is not there") from fault
    if not os.access(directory, os.W_OK):
        raise ArchiveUnavailableError(directory, public="The archive's directory cannot be written")
    if free < LEAST_ROOM:
        raise ArchiveUnavailableError(directory, public="The archive's disk is full")
