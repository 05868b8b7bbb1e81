"""The suppression list for people: by address, with who may see what, and changes that are answered once they are in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.directory.directory import Directory
from depesche.analytics.suppressions.book import SuppressionBook
from depesche.analytics.suppressions.requests import Asked, Recipient, Requests, added, lifted
from depesche.analytics.suppressions.standing import (
    address_of,
    drop_reason,
    evidence_of,
    finding,
    ground_of,
    in_force,
    moment,
    personal_of,
)
from depesche.schemas.errors import NotFoundError
from depesche.schemas.identity import recipient_key
from depesche.schemas.records import DropReason, Suppression, SuppressionEvidence, SuppressionReason
from depesche.schemas.service import Clock, now_ms
from depesche.schemas.values import Address
from depesche.schemas.vocabulary import DROP_REASON

MOST_LOOKED_AT: Final = 5_000
"""Entries that one page looks at."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to be suppressed by hand.

    Attributes:
        reason: why; manual, or what another system had found out.
        days: lifetime; 0: until lifted.
        note: in their words.
    """

    reason: SuppressionReason = SuppressionReason.MANUAL
    days: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a mail to an address would be sent now, and what is known.

    Attributes:
        address: as given.
        entry: of the customer's own recipient, in force or not.
        blocking: what forbids it; may be another customer's where suppression is global.
    """

    address: str
    entry: Suppression | None
    blocking: Suppression | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted.

    Attributes:
        tenant: customer number; None: everybody's, for operators.
        state: active, ended, pending, lifted or all.
        reason: only for this reason.
        domain: only of this domain of recipients.
    """

    tenant: str | None
    state: str = "active"
    reason: SuppressionReason | None = None
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries as they may be shown, and where the next page begins; None: nowhere."""

    rows: list[dict[str, Any]]
    after: tuple[str, str] | None


class SuppressionDesk:
    """Answers and takes orders for one process. Needs the book started, and the requests' producer."""

    def __init__(
        self,
        book: SuppressionBook,
        requests: Requests,
        directory: Directory,
        keyring: Keyring,
        clock: Clock = now_ms,
    ) -> None:
        self.book = book
        self._requests = requests
        self._directory = directory
        self._keyring = keyring
        self._clock = clock

    def recipient(self, tenant: str, address: str) -> Recipient:
        """How the list names an address of a customer.

        Raises:
            InvalidRequestError: not an address.
            NotFoundError: no such customer.
        """
        if self._directory.customer(tenant) is None:
            raise NotFoundError(f"no customer {tenant}", public=f"There is no customer {tenant}")
        text = str(Address.parse(address.strip()))
        key = recipient_key(self._directory.recipient_secret(tenant), text)
        return Recipient(tenant, key, text, self.book.person(text))

    def refusal(self, tenant: str, address: str) -> DropReason | None:
        """Why a door refuses a recipient; None: it does not. Microseconds."""
        key = recipient_key(self._directory.recipient_secret(tenant), address)
        entry = self.book.blocking(tenant, key, self.book.person(address))
        return drop_reason(entry) if entry is not None else None

    def why(self, tenant: str, address: str) -> Answer:
        """Whether a mail to an address would be sent now. Raises as ``recipient``."""
        whom = self.recipient(tenant, address)
        blocking = self.book.blocking(tenant, whom.key, whom.person)
        return Answer(whom.address, self.book.entry(tenant, whom.key), blocking)

    async def add(self, tenant: str, address: str, wanted: Wanted, by: str, *, wait: bool = True) -> Asked:
        """Suppress an address by hand. Raises as ``recipient``; LogUnavailableError: not acknowledged, or not taken in time."""
        whom = self.recipient(tenant, address)
        seal = self._keyring.today(tenant)
        request = added(whom, seal, self._clock(), by, wanted.note, reason=wanted.reason, days=wanted.days)
        asked = await self._requests.send(request)
        if wait:
            await self.book.wait_for(tenant, asked)
        return asked

    async def lift(self, tenant: str, address: str, by: str, note: str) -> Suppression:
        """Let an address get mail again; gives the entry as it is then.

        Raises:
            NotFoundError: nothing is known of the address, or no such customer.
            InvalidRequestError: not an address.
            LogUnavailableError: not acknowledged, or not taken in time.
        """
        whom = self.recipient(tenant, address)
        if self.book.entry(tenant, whom.key) is None:
            raise NotFoundError("no entry", public=f"{whom.address} is not on the suppression list")
        asked = await self._requests.send(lifted(whom, self._clock(), by, note))
        return await self.book.wait_for(tenant, asked)

    # What may be shown.

    def page(self, wanted: Filter, limit: int, after: tuple[str, str] = ("", "")) -> Page:
        """The next entries that are wanted, at most ``limit``; looks at few enough that nobody waits long. For any thread."""
        rows: list[dict[str, Any]] = []
        place = after
        if wanted.tenant is not None and after[0] not in ("", wanted.tenant):
            return Page([], None)
        for looked_at, entry in enumerate(self.book.entries(wanted.tenant, after)):
            if len(rows) == limit or looked_at == MOST_LOOKED_AT:
                return Page(rows, place)
            place = entry.tenant, entry.recipient_key
            if self._fits(entry, wanted):
                rows.append(self.row(entry))
        return Page(rows, None)

    def _fits(self, entry: Suppression, wanted: Filter) -> bool:
        return (
            wanted.state in ("all", self.state(entry))
            and wanted.reason in (None, entry.reason)
            and wanted.domain in ("", entry.recipient_domain)
        )

    def row(self, entry: Suppression, address: str | None = None) -> dict[str, Any]:
        """An entry of a customer as that customer may see it; the address is null when its key was erased."""
        evidence = evidence_of(entry)
        return {
            "address": address or address_of(entry, self._keyring),
            "customer": entry.tenant,
            "state": self.state(entry),
            "reason": entry.reason.value,
            "code": drop_reason(entry).value,
            "reply_class": entry.reply_class,
            "domain": entry.recipient_domain,
            "since": _moment(entry.since),
            "until": _moment(entry.until),
            "renewed_at": _moment(entry.renewed_at),
            "blocked": entry.blocked,
            "hard_bounces": entry.hard_bounces,
            "by": evidence.by if evidence else "",
            "note": evidence.note if evidence else "",
            "lifted_at": _moment(entry.lifted_at),
            "lifted_by": entry.lifted_by,
            "lifted_note": entry.lifted_note,
            "evidence": [self._evidence(one) for one in self._facts(entry)],
        }

    def explained(self, tenant: str, answer: Answer) -> dict[str, Any]:
        """An answer as the customer may see it: whether, and why not."""
        blocking = answer.blocking
        row: dict[str, Any] = {"address": answer.address, "would_be_sent": blocking is None}
        if blocking is None:
            row |= {"code": None, "detail": "Nothing on the suppression list speaks against it.", "finding": None}
        else:
            own = blocking.tenant == tenant
            reason = drop_reason(blocking)
            found = finding(blocking, self._keyring if own else None)
            row |= {"code": reason.value, "detail": DROP_REASON[reason][1], "finding": found}
        row["suppression"] = self.row(answer.entry, answer.address) if answer.entry else None
        return row

    def state(self, entry: Suppression) -> str:
        """active, ended, pending or lifted: its state as the clock has it now."""
        if entry.state.value != "active":
            return entry.state.value
        return "active" if in_force(entry, self._clock()) else "ended"

    def _facts(self, entry: Suppression) -> list[SuppressionEvidence]:
        ground = ground_of(entry)
        grounds = [ground] if ground is not None else entry.grounds
        return [one for some in grounds for one in some.evidence]

    def _evidence(self, evidence: SuppressionEvidence) -> dict[str, Any]:
        personal = personal_of(evidence, self._keyring)
        return {
            "event_id": evidence.event_id,
            "type": evidence.type.value if evidence.unit_id else "request",
            "unit_id": evidence.unit_id,
            "at": moment(evidence.at),
            "host": evidence.host,
            "code": evidence.code,
            "enhanced_code": evidence.enhanced_code,
            "reply_class": evidence.reply_class,
            "reply_text": personal.reply_text if personal else None,
        }


def _moment(ms: int | None) -> str | None:
    return moment(ms) if ms is not None else None
