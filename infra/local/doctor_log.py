"""What the doctor asks of the log: it answers and is ours, its topics are as declared, nobody stands still behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from depesche.analytics.log.client import connection, full_name, reader
from depesche.analytics.log.topics import mismatches
from depesche.infra.local import programs
from depesche.infra.local.doctor import Case, Finding, fail, ok, warn
from depesche.schemas.settings import Settings
from depesche.schemas.topics import DEAD, EVENTS, JOBS, KEYED_JOBS, OUTBOUND, OUTCOMES, RETRY, Topic

GROUPS: Mapping[str, tuple[Topic, ...]] = {
    "prepare": (JOBS, KEYED_JOBS),
    "deliver": (OUTBOUND,),
    "retry": tuple(RETRY.values()),
    "analytics": (EVENTS, OUTCOMES, DEAD),
    "mail.agents": (OUTCOMES,),
}
"""Consumer group to what it reads."""
PATIENT = frozenset({"retry"})
"""Groups for which waiting is the work."""
BEHIND = 1000
"""Records a group may be behind without anybody asking why."""
LOOK_SECONDS = 2.0
ANSWER_SECONDS = 5.0


async def broker(case: Case) -> list[Finding]:
    """Kafka answers; the embedded one is the one that this home was formatted for."""
    if not case.log_expected:
        return []
    settings = case.settings
    if not settings.kafka.bootstrap:
        kafka = programs.kafka(settings)
        await kafka.ready(ANSWER_SECONDS)
        return [ok(f"Kafka answers on {kafka.bootstrap_servers} and is this home's own (cluster {kafka.cluster_id}).")]
    admin = AIOKafkaAdminClient(**connection(settings), client_id="depesche-doctor")
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
    finally:
        await admin.close()
    return [ok(f"Kafka answers on {settings.bootstrap}, {len(cluster['brokers'])} brokers.")]


async def topics(case: Case) -> list[Finding]:
    """Every topic has the partitions, replicas and configuration that the promises need."""
    if not case.log_expected:
        return []
    wrong = await mismatches(case.settings)
    fix = "Correct it with Kafka's tools; `depesche topics --create` makes what is missing."
    return [fail(f"{text}.", fix) for text in wrong] or [ok("All topics are as declared.")]


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is: records not yet committed, and records committed in all."""

    behind: int
    done: int


async def groups(case: Case) -> list[Finding]:
    """No consumer group stands still while there is work for it."""
    if not case.log_expected:
        return []
    before = after = await lags(case.settings)
    if any(lag.behind > BEHIND for name, lag in before.items() if name not in PATIENT):
        await asyncio.sleep(LOOK_SECONDS)
        after = await lags(case.settings)
    found = []
    for name, lag in after.items():
        if lag.behind <= BEHIND or name in PATIENT:
            continue
        speed = (lag.done - before[name].done) / LOOK_SECONDS
        if speed > 0:
            seconds = lag.behind / speed
            found.append(
                warn(
                    f"{name} has {lag.behind:,} records before it and works them off ({speed:,.0f}/s, {seconds:,.0f} s).",
                    "Wait, or run one more process of it.",
                )
            )
        else:
            found.append(
                fail(
                    f"{name} stands still with {lag.behind:,} records before it.", "Look at `depesche status` and log/."
                )
            )
    waiting = after["retry"].behind
    rest = ", ".join(f"{name} {lag.behind:,}" for name, lag in after.items() if name not in PATIENT)
    return found or [ok(f"No consumer group is behind ({rest}); {waiting:,} units wait on the ladder.")]


async def lags(settings: Settings) -> dict[str, Lag]:
    """How far each group of ``GROUPS`` is.

    Raises:
        KafkaError: the log does not answer.
    """
    admin = AIOKafkaAdminClient(**connection(settings), client_id="depesche-doctor")
    consumer = reader(settings, "depesche-doctor")
    try:
        await admin.start()
        await consumer.start()
        names = {full_name(settings.kafka, topic.name) for read in GROUPS.values() for topic in read}
        described = await admin.describe_topics(sorted(names))
        places = [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            for partition in topic["partitions"]
        ]
        begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        return {
            name: await _lag(admin, full_name(settings.kafka, name), _topics(settings, read), (begins, ends))
            for name, read in GROUPS.items()
        }
    finally:
        await consumer.stop()
        await admin.close()


def _topics(settings: Settings, read: Iterable[Topic]) -> frozenset[str]:
    return frozenset(full_name(settings.kafka, topic.name) for topic in read)


async def _lag(
    admin: AIOKafkaAdminClient,
    group: str,
    names: frozenset[str],
    offsets: tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]],
) -> Lag:
    begins, ends = offsets
    committed = await admin.list_consumer_group_offsets(group)
    behind = done = 0
    for place, end in ends.items():
        if place.topic in names:
            # A group that has not committed yet has everything before it.
            at = max(committed[place].offset if place in committed else 0, begins[place])
            behind += max(0, end - at)
            done += at
    return Lag(behind, done)
