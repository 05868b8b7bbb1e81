"""MTA-STS policies on disk: one small file per domain, replaced in one step, so that they survive restarts and can be shared."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import orjson
import structlog

from depesche.streams.mail.sts import StsPolicy, parse_policy

log = structlog.get_logger(__name__)

MOST_POLICIES = 50_000
"""Policies that are kept; when there are more, those go first that were fetched first."""
_IN_MEMORY = 10_000


@dataclass(frozen=True, slots=True)
class KeptPolicy:
    """A policy as it was fetched.

    Attributes:
        domain: whose it is.
        id: its version.
        fetched_at: when, milliseconds since 1970 UTC.
        text: as the policy host said it.
        policy: what it means.
    """

    domain: str
    id: str
    fetched_at: int
    text: str
    policy: StsPolicy

    @property
    def expires_at(self) -> int:
        """Until when it holds, milliseconds since 1970 UTC."""
        return self.fetched_at + self.policy.max_age * 1000


class StsShelf:
    """The policies in one directory."""

    def __init__(self, directory: Path, most: int = MOST_POLICIES) -> None:
        """``directory`` is made when something is kept."""
        self._directory = directory
        self._most = most
        self._read: OrderedDict[str, KeptPolicy | None] = OrderedDict()
        self._count = -1

    def get(self, domain: str) -> KeptPolicy | None:
        """The policy of a domain, also one whose time is over; None when there is none or its file is damaged."""
        if domain not in self._read:
            self._remember(domain, self._load(domain))
        return self._read[domain]

    def put(self, kept: KeptPolicy) -> None:
        """Keep a policy in place of the domain's former one. A disk that takes nothing costs only the next start."""
        self._remember(kept.domain, kept)
        row = {"domain": kept.domain, "id": kept.id, "fetched_at": kept.fetched_at, "text": kept.text}
        path = self._path(kept.domain)
        draft = path.with_suffix(f".{os.getpid()}")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = not path.exists()
            draft.write_bytes(orjson.dumps(row))
            draft.replace(path)
        except OSError as fault:
            log.warning("sts_policy_not_kept", cause=fault.strerror)
            return
        if new:
            self._make_room()

    def _load(self, domain: str) -> KeptPolicy | None:
        try:
            row = orjson.loads(self._path(domain).read_bytes())
            if row["domain"] != domain:
                return None
            return KeptPolicy(domain, str(row["id"]), int(row["fetched_at"]), row["text"], parse_policy(row["text"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _path(self, domain: str) -> Path:
        # Names come from strangers; a hash is a safe file name for any of them.
        return self._directory / f"{sha256(domain.encode()).hexdigest()[:32]}.json"

    def _remember(self, domain: str, kept: KeptPolicy | None) -> None:
        self._read[domain] = kept
        self._read.move_to_end(domain)
        if len(self._read) > _IN_MEMORY:
            self._read.popitem(last=False)

    def _make_room(self) -> None:
        if 0 <= self._count < self._most:
            self._count += 1
            return
        files = sorted(self._directory.glob("*.json"), key=lambda file: file.stat().st_mtime)
        surplus = files[: max(0, len(files) - self._most)]
        for file in surplus:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
        self._count = len(files) - len(surplus)
