"""What only one unit of a message has: its return path, its own header line, and the signatures over both.

All recipients of a message share its bytes in the archive; what tells their copies apart is put in front when it is sent. With
return keys each unit is signed for itself, because the key is under the signature; the body's hash and the canonical header are
there already, so a unit costs one signature and two keys. Without them all units of a message share one signature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from depesche.schemas.records import Job
from depesche.schemas.return_key import HEADER, Purpose, ReturnKeys
from depesche.streams.mail.dkim import SignedFields, Signer, sign_all_fields, signed_fields


@dataclass(frozen=True, slots=True)
class Front:
    """What a unit's copy begins with: the envelope sender on the wire, and header lines with CRLF at their ends."""

    mail_from: str
    lines: bytes


class ReturnPath:
    """Where what comes back shall go; switched off without a domain."""

    def __init__(self, keys: ReturnKeys, domain: str) -> None:
        self._keys = keys
        self._domain = domain

    @property
    def on(self) -> bool:
        """Whether units have return paths of their own."""
        return bool(self._domain)

    def mail_from(self, job_id: str, number: int) -> str:
        """The return path of a unit (VERP). Raises ValueError as ``ReturnKeys.token`` does."""
        return f"{self._keys.token(Purpose.BOUNCE, job_id, number)}@{self._domain}"

    def header_line(self, job_id: str, number: int) -> bytes:
        """The header line that names a unit to us and to nobody else. Raises ValueError as ``ReturnKeys.token`` does."""
        return f"{HEADER}: {self._keys.token(Purpose.HEADER, job_id, number)}\r\n".encode()


class Fronts:
    """The fronts of one job's units."""

    def __init__(
        self,
        job: Job,
        mail_from: str,
        headers: Mapping[int, bytes],
        signers: Sequence[Signer],
        return_path: ReturnPath,
        now: int,
    ) -> None:
        """Prepare to make them.

        Args:
            job: whose units.
            mail_from: envelope sender as submitted, for mail without a return path of ours.
            headers: header of each message that is sent, by its index.
            signers: one for each active key.
            return_path: ours.
            now: seconds since 1970 UTC, for ``t=``.
        """
        self._job = job
        self._mail_from = mail_from
        self._signers = signers
        self._return_path = return_path
        self._now = now
        self._fields = {index: signed_fields(header) for index, header in headers.items()} if signers else {}
        self._shared: dict[int, Front] = {}

    def of(self, message: int, number: int) -> Front:
        """The front of the ``number``-th unit, which gets the ``message``-th message."""
        if self._return_path.on:
            line = self._return_path.header_line(self._job.job_id, number)
            fields = self._fields[message].also(line) if self._signers else None
            mail_from = self._return_path.mail_from(self._job.job_id, number)
            return Front(mail_from, self._signatures(message, fields) + line)
        if message not in self._shared:
            self._shared[message] = Front(self._mail_from, self._signatures(message, self._fields.get(message)))
        return self._shared[message]

    def _signatures(self, message: int, fields: SignedFields | None) -> bytes:
        if fields is None:
            return b""
        return sign_all_fields(self._signers, fields, self._job.messages[message].body_sha256, self._now)
