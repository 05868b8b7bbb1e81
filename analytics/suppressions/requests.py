"""What is asked of the suppression list: one record in mail.suppressions.requests, which the fold takes.

The answer stands in mail.suppressions a few milliseconds later; whoever wants to see it waits for the offset that the request
was given (``Book.wait_for``).
"""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from depesche.analytics.archive.keyring import DataKey
from depesche.analytics.log.client import acknowledged, full_name
from depesche.analytics.log.topics import partition_counts
from depesche.schemas import cloudevents
from depesche.schemas.codec import encode
from depesche.schemas.identity import event_id, new_job_id
from depesche.schemas.records import Personal, Suppression, SuppressionAction, SuppressionReason, SuppressionRequest
from depesche.schemas.settings import Settings
from depesche.schemas.topics import SUPPRESSION_REQUESTS, partition_of


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the log has.

    Attributes:
        recipient_key: whom it is about.
        partition, offset: where it stands in mail.suppressions.requests.
    """

    recipient_key: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a request is about.

    Attributes:
        tenant: customer number.
        key: keyed hash of the address with the customer's secret.
        address: the address; only ever written sealed.
        person: keyed hash that is the same for all customers; only where suppression is global.
    """

    tenant: str
    key: str
    address: str
    person: str | None = None


class Requests:
    """Writes requests with a producer that somebody else starts and stops."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self._settings = settings
        self._producer = producer
        self._topic = full_name(settings.kafka, SUPPRESSION_REQUESTS.name)
        self._partitions = 0

    async def blocked(self, entry: Suppression, unit_id: str, at: int, by: str) -> Asked:
        """Note that ``entry`` blocked a unit at ``at``, which renews it; said twice of a unit it counts once.

        Raises:
            LogUnavailableError: no acknowledgement in time.
        """
        request = SuppressionRequest(
            request_id=event_id(unit_id, "blocked", 0),
            action=SuppressionAction.BLOCKED,
            tenant=entry.tenant,
            recipient_key=entry.recipient_key,
            at=at,
            ground=entry.ground,
            unit_id=unit_id,
            by=by,
        )
        return await self.send(request)

    async def send(self, request: SuppressionRequest) -> Asked:
        """Write a request and wait until the log has it.

        Raises:
            LogUnavailableError: no acknowledgement in time; whether it was written is then unknown, and asking again is safe.
        """
        if not self._partitions:
            counts = await partition_counts(self._settings, SUPPRESSION_REQUESTS)
            self._partitions = counts[SUPPRESSION_REQUESTS.name]
        sent = await self._producer.send(
            self._topic,
            encode(request),
            key=request.recipient_key.encode(),
            partition=partition_of(request.recipient_key, self._partitions),
            headers=cloudevents.headers(request.request_id, "suppression.request", request.recipient_key, request.at),
        )
        written = await acknowledged(sent, self._settings.kafka.deadline_seconds)
        return Asked(request.recipient_key, written.partition, written.offset)


def added(
    whom: Recipient, seal: DataKey, at: int, by: str, note: str, *, reason: SuppressionReason, days: int
) -> SuppressionRequest:
    """The request to suppress somebody by hand.

    Args:
        whom: the recipient.
        seal: today's key of the customer.
        at: now, milliseconds since 1970 UTC.
        by: who asks.
        note: why, in their words.
        reason: why; manual, or what another system had found out.
        days: lifetime; 0: until lifted.
    """
    id_ = new_job_id(at)
    sealed = seal.seal(encode(Personal(recipient=whom.address)), b"event|" + id_.encode())
    return SuppressionRequest(
        request_id=id_,
        action=SuppressionAction.ADD,
        tenant=whom.tenant,
        recipient_key=whom.key,
        person_key=whom.person,
        recipient_domain=whom.address.rpartition("@")[2].lower(),
        at=at,
        reason=reason,
        days=days,
        by=by,
        note=note,
        key_id=seal.id,
        sealed_personal=sealed,
    )


def lifted(whom: Recipient, at: int, by: str, note: str) -> SuppressionRequest:
    """The request that nothing counts any more of what happened until ``at``."""
    return SuppressionRequest(
        request_id=new_job_id(at),
        action=SuppressionAction.LIFT,
        tenant=whom.tenant,
        recipient_key=whom.key,
        person_key=whom.person,
        at=at,
        by=by,
        note=note,
    )
