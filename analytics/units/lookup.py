"""One unit by its id, as far as the store has it: whose it is, and how far its story goes.

For stages that learn something about a unit from outside and hold a proof of which one (a return key). The id is the whole
question: nothing is searched for, and what is found names the customer that it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass

from depesche.analytics.store.client import StoreClient
from depesche.analytics.store.rows import accepted_at_of
from depesche.schemas.identity import job_of

_EVENTS = """SELECT toString(event_id) AS event_id, type, final, sequence, attempt, tenant, account, recipient_key, provider,
    sender_domain, recipient_domain, recipient FROM events FINAL
WHERE accepted_at = fromUnixTimestamp64Milli({accepted_at:Int64}, 'UTC') AND unit_id = {unit_id:String}
ORDER BY sequence, occurred_at, event_id"""


@dataclass(frozen=True, slots=True)
class KnownUnit:
    """A unit that was accepted.

    Attributes:
        unit_id, job_id, tenant, account, recipient_key, provider, sender_domain, recipient_domain: as in its events.
        recipient: whom it was for; empty when that has expired or was erased.
        last_sequence, last_attempt: the highest that its events have.
        final_event: id of the event that ended its way; empty while it is under way.
        events: ids of all its events.
    """

    unit_id: str
    job_id: str
    tenant: str
    account: str
    recipient_key: str
    provider: str
    sender_domain: str
    recipient_domain: str
    recipient: str
    last_sequence: int
    last_attempt: int
    final_event: str
    events: frozenset[str]


class UnitLookup:
    """Asks the store."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client

    async def find(self, unit_id: str) -> KnownUnit | None:
        """The unit; None when the store has no acceptance of it: not yet, or not any more.

        Raises:
            StoreUnavailableError: ClickHouse does not answer.
            ValueError: the id is not one of ours.
        """
        job_id = job_of(unit_id)
        parameters = {"accepted_at": accepted_at_of(unit_id, job_id), "unit_id": unit_id}
        rows = (await self._client.query(_EVENTS, parameters)).named()
        accepted = next((row for row in rows if row["type"] == "accepted"), None)
        if accepted is None:
            return None
        # What an event does not know (the provider, before there was a route), a later one does.
        told = {
            name: [row[name] for row in rows if row[name]] for name in ("provider", "recipient_domain", "recipient")
        }
        latest = {name: str(values[-1]) if values else "" for name, values in told.items()}
        return KnownUnit(
            unit_id=unit_id,
            job_id=job_id,
            tenant=str(accepted["tenant"]),
            account=str(accepted["account"]),
            recipient_key=str(accepted["recipient_key"]),
            provider=latest["provider"],
            sender_domain=str(accepted["sender_domain"]),
            recipient_domain=latest["recipient_domain"],
            recipient=str(accepted["recipient"]) or latest["recipient"],
            last_sequence=max(int(row["sequence"]) for row in rows),
            last_attempt=max(int(row["attempt"]) for row in rows),
            final_event=next((str(row["event_id"]) for row in rows if row["final"]), ""),
            events=frozenset(str(row["event_id"]) for row in rows),
        )
