"""All keys of the house: the master key, one data key per tenant and day, and what is derived from them.

A master key wraps the data keys; a data key seals bodies and the personal fields of one tenant and one day (UTC). Deleting
that one small file erases the content it sealed, wherever copies of the sealed bytes lie, while counts and bills stay.
Keys never travel in the log and are never logged. Lose the master key and every mail is lost: it belongs in the backup.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from depesche.analytics.archive.key_files import create_once, shred
from depesche.schemas.errors import ContentLostError, SetupError
from depesche.schemas.service import Clock, now_ms

Buffer = bytes | bytearray | memoryview

KEY_BYTES = 32
NONCE_BYTES = 12
SEAL_BYTES = NONCE_BYTES + 16
"""How much longer sealed bytes are than plain ones: the nonce and the tag."""
DAY_MS = 86_400_000
RECHECK_SECONDS = 1.0
_TENANT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_KEY_ID = re.compile(r"(?P<tenant>[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})/(?P<day>\d{8})\Z")
_FORMAT = b"\x01"
_CHECK = b"the master key of this directory"


class DataKey:
    """A key that seals one tenant's content of one day with AES-256-GCM."""

    def __init__(self, id_: str, secret: bytes) -> None:
        self.id = id_
        self._cipher = AESGCM(secret)

    def __repr__(self) -> str:
        return f"DataKey({self.id!r})"

    def seal(self, plain: Buffer, aad: bytes) -> bytes:
        """The 12-byte random nonce, the ciphertext and its 16-byte tag; ``aad`` must be given again to open it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, aad)

    def seal_into(self, place: memoryview, plain: Buffer, aad: bytes) -> None:
        """Like ``seal``, into memory of the caller that is exactly ``SEAL_BYTES`` longer than ``plain``.

        Fresh memory for each large content costs ten times as much as sealing it.
        """
        nonce = os.urandom(NONCE_BYTES)
        place[:NONCE_BYTES] = nonce
        self._cipher.encrypt_into(nonce, plain, aad, place[NONCE_BYTES:])

    def open(self, sealed: Buffer, aad: bytes) -> bytes:
        """The plain bytes in what ``seal`` gave.

        Raises:
            ContentLostError: damaged, sealed by another key, or for another ``aad``.
        """
        view = memoryview(sealed)
        try:
            return self._cipher.decrypt(view[:NONCE_BYTES], view[NONCE_BYTES:], aad)
        except (InvalidTag, ValueError) as fault:
            raise ContentLostError(f"sealed bytes do not open with key {self.id}") from fault


class Keyring:
    """The keys under one directory; several processes may use it at once. Safe to call from any thread."""

    def __init__(self, directory: Path, master: bytes, clock: Clock = now_ms) -> None:
        self._directory = directory
        self._master = master
        self._clock = clock
        self._lock = threading.Lock()
        self._wrapping = AESGCM(self._derived(b"data keys"))
        self._secrets = AESGCM(self._derived(b"secrets"))
        self._peppers: dict[str, bytes] = {}
        self._today: dict[str, tuple[int, DataKey]] = {}
        self._known: dict[str, tuple[float, DataKey]] = {}

    @classmethod
    def open(cls, directory: Path, master_key_file: Path | None = None, clock: Clock = now_ms) -> Keyring:
        """The keyring in ``directory``, made on first use.

        Args:
            directory: where data keys lie, and the master key unless ``master_key_file`` is given.
            master_key_file: a file with exactly 32 bytes that must exist; it is never made by us, because a missing
                mount would then look like a first start and leave everything sealed so far unreadable.
            clock: tells what day it is.

        Raises:
            SetupError: the master key is missing, unreadable to us, readable to everybody, of the wrong length, or not
                the one this directory's keys were wrapped with.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        master = _read_master(master_key_file) if master_key_file else _own_master(directory)
        keyring = cls(directory, master, clock)
        keyring._check_master()
        return keyring

    def today(self, tenant: str) -> DataKey:
        """The tenant's key of this day (UTC); made and on disk before it is returned.

        The first call per tenant and day waits for the disk. The archive's writer thread normally makes that call.

        Raises:
            ValueError: the tenant's name could leave the directory.
            OSError: the key cannot be written.
        """
        day = self._clock() // DAY_MS
        kept = self._today.get(tenant)
        if kept is not None and kept[0] == day:
            return kept[1]
        if not _TENANT.match(tenant):
            raise ValueError("not a customer number")
        with self._lock:
            key = self._create(f"{tenant}/{_day_text(day)}")
            self._today[tenant] = (day, key)
            return key

    def key(self, key_id: str) -> DataKey:
        """The key with this id. An erasure by another process is noticed within a second.

        Raises:
            ContentLostError: it was erased or never existed.
        """
        kept = self._known.get(key_id)
        now = time.monotonic()
        if kept is not None and now - kept[0] < RECHECK_SECONDS:
            return kept[1]
        path = self._path(key_id)
        try:
            key = kept[1] if kept is not None and path.exists() else self._unwrap(key_id, path.read_bytes())
        except FileNotFoundError as fault:
            self._known.pop(key_id, None)
            raise ContentLostError(f"key {key_id} was erased") from fault
        self._known[key_id] = (now, key)
        return key

    def erase(self, key_id: str) -> bool:
        """Erase one key for good: what it sealed can never be read again, by anybody.

        Returns:
            Whether there was such a key.

        Raises:
            ValueError: the key is today's or later. Doors may be sealing with it at this moment, and would say yes to
                mails that nobody can open; erase it from tomorrow on.
        """
        path = self._path(key_id)
        if path.stem >= _day_text(self._clock() // DAY_MS):
            raise ValueError(f"key {key_id} is in use until midnight UTC")
        self._known.pop(key_id, None)
        return shred(path)

    def erase_before(self, day: date, tenant: str | None = None) -> list[str]:
        """Erase the keys of days before ``day`` (at most today), of one tenant or of all, and return their ids."""
        limit = day.strftime("%Y%m%d")
        ids = [key_id.partition("/") for key_id in self.key_ids()]
        old = [f"{whose}/{day_}" for whose, _, day_ in ids if day_ < limit and tenant in (None, whose)]
        return [key_id for key_id in old if self.erase(key_id)]

    def key_ids(self) -> Iterator[str]:
        """The ids of all data keys that exist."""
        for path in sorted(self._directory.glob("*/*.key")):
            key_id = f"{path.parent.name}/{path.stem}"
            if _KEY_ID.match(key_id):
                yield key_id

    def seal_secret(self, purpose: str, tenant: str, plain: bytes) -> bytes:
        """Seal a long-lived secret (DKIM key, webhook secret) under the master key; opens only for purpose and tenant."""
        nonce = os.urandom(NONCE_BYTES)
        return _FORMAT + nonce + self._secrets.encrypt(nonce, plain, _bound(purpose, tenant))

    def open_secret(self, purpose: str, tenant: str, sealed: bytes) -> bytes:
        """The secret in what ``seal_secret`` gave.

        Raises:
            ContentLostError: damaged, or sealed for another purpose or tenant, or under another master key.
        """
        nonce, rest = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            if sealed[:1] != _FORMAT:
                raise ContentLostError(f"a secret for {purpose} has an unknown format")
            return self._secrets.decrypt(nonce, rest, _bound(purpose, tenant))
        except (InvalidTag, ValueError) as fault:
            raise ContentLostError(f"a secret for {purpose} does not open") from fault

    def pepper(self, purpose: str) -> bytes:
        """32 bytes derived from the master key by HKDF-SHA-256 (RFC 5869), for HMACs; the same in every process."""
        if purpose not in self._peppers:
            self._peppers[purpose] = self._derived(b"pepper|" + purpose.encode())
        return self._peppers[purpose]

    def _derived(self, info: bytes) -> bytes:
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"depesche|" + info).derive(self._master)

    def _path(self, key_id: str) -> Path:
        match = _KEY_ID.match(key_id)
        if match is None:
            raise ContentLostError("not the id of a key")
        return self._directory / match["tenant"] / f"{match['day']}.key"

    def _create(self, key_id: str) -> DataKey:
        """The key with this id, made if missing. Of several makers one wins, and all get its key."""
        path = self._path(key_id)
        fresh = os.urandom(KEY_BYTES)
        nonce = os.urandom(NONCE_BYTES)
        wrapped = _FORMAT + nonce + self._wrapping.encrypt(nonce, fresh, b"key|" + key_id.encode())
        return self._unwrap(key_id, create_once(path, wrapped))

    def _unwrap(self, key_id: str, wrapped: bytes) -> DataKey:
        nonce, rest = wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :]
        try:
            return DataKey(key_id, self._wrapping.decrypt(nonce, rest, b"key|" + key_id.encode()))
        except (InvalidTag, ValueError) as fault:
            raise ContentLostError(f"the file of key {key_id} is damaged") from fault

    def _check_master(self) -> None:
        """Refuse a wrong master key at the start, not at the first mail."""
        nonce = os.urandom(NONCE_BYTES)
        canary = create_once(self._directory / "check", nonce + self._wrapping.encrypt(nonce, _CHECK, b"check"))
        try:
            self._wrapping.decrypt(canary[:NONCE_BYTES], canary[NONCE_BYTES:], b"check")
        except (InvalidTag, ValueError) as fault:
            raise SetupError(
                f"The master key does not fit the keys in {self._directory}.",
                fix="Put back the master key that this directory was used with.",
            ) from fault


def _own_master(directory: Path) -> bytes:
    path = directory / "master"
    if not path.exists() and (directory / "check").exists():
        raise SetupError(
            f"The master key {path} is gone, but what it protects is still there.",
            fix="Put back the file from the backup; without it nothing that was stored can be read.",
        )
    create_once(path, os.urandom(KEY_BYTES))
    return _read_master(path)


def _read_master(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        master = path.read_bytes()
    except OSError as fault:
        raise SetupError(
            f"The master key {path} cannot be read ({fault.strerror}).",
            fix="Point master_key_file at a file with 32 random bytes that this user may read.",
        ) from fault
    if mode & 0o007:
        raise SetupError(f"Everybody on this machine may read {path}.", fix=f"chmod 600 {path}")
    if len(master) != KEY_BYTES:
        raise SetupError(
            f"The master key {path} has {len(master)} bytes instead of {KEY_BYTES}.",
            fix=f"Make one with: head -c {KEY_BYTES} /dev/urandom",
        )
    return master


def _bound(purpose: str, tenant: str) -> bytes:
    if "|" in purpose:
        raise ValueError("a purpose holds no |")
    return f"{purpose}|{tenant}".encode()


def _day_text(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_MS / 1000, UTC).strftime("%Y%m%d")
