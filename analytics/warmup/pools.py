"""The egress pools alone, followed in memory: for a process that has no other business with the directory and its secrets."""

from __future__ import annotations

import structlog
from aiokafka.structs import ConsumerRecord

from depesche.analytics.log.follower import Follower
from depesche.schemas.codec import decode
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import DirectoryKind, DirectoryRecord, Pool, PoolAddress
from depesche.schemas.settings import Settings
from depesche.schemas.topics import DIRECTORY

log = structlog.get_logger(__name__)

_PREFIX = f"{DirectoryKind.POOL.value}/".encode()


class PoolBook(Follower):
    """Follows the pools in mail.directory. An address is in one pool at most (``check_pool``)."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to follow."""
        super().__init__(settings, DIRECTORY, self._read)
        self._pools: dict[bytes, Pool] = {}
        self._cold: dict[str, tuple[PoolAddress, Pool]] = {}

    def _read(self, record: ConsumerRecord[bytes, bytes | None]) -> None:
        key = record.key or b""
        if not key.startswith(_PREFIX):
            return
        try:
            thing = decode(DirectoryRecord, record.value).value if record.value is not None else None
        except UndecodableError as fault:
            log.error("directory_record_unreadable", offset=record.offset, cause=str(fault))
            return
        self._pools.pop(key, None)
        if isinstance(thing, Pool):
            self._pools[key] = thing
        self._cold = {
            address.ip: (address, pool)
            for pool in self._pools.values()
            for address in pool.addresses
            if address.warm_up_from is not None
        }

    def begun(self, ip: str) -> tuple[PoolAddress, Pool] | None:
        """An own address whose warm-up has begun, perhaps ended, with its pool; None: it never had one. Costs a look-up."""
        return self._cold.get(ip)
