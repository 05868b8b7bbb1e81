"""Set-up of the log: creates our topics and holds them against the table, because a topic that another program made with
other retention or partitions breaks promises silently."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from depesche.analytics.log.client import connection, full_name
from depesche.schemas.errors import SetupError
from depesche.schemas.settings import Settings
from depesche.schemas.topics import ALL, Topic

SETTLE_SECONDS = 10.0
"""How long the cluster may take to know a topic that was just created."""
_ASK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A topic that is not as the table says."""

    topic: str
    what: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} should be {self.wanted} and is {self.found}"


def wanted_config(topic: Topic, settings: Settings) -> dict[str, str]:
    """The configuration that ``topic`` must have in this cluster."""
    return {**topic.config, "min.insync.replicas": str(settings.kafka.min_insync)}


async def create_missing(settings: Settings) -> list[str]:
    """Create the topics that do not exist; gives their names.

    Raises:
        SetupError: the cluster refused one.
    """
    admin = AIOKafkaAdminClient(**connection(settings), client_id="depesche-setup")
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        new = [_new_topic(topic, settings) for topic in ALL if full_name(settings.kafka, topic.name) not in existing]
        if new:
            answer = await admin.create_topics(new)
            for name, code, *rest in answer.topic_errors:
                if code not in (0, 36):  # 36: it exists by now, another process was quicker.
                    raise SetupError(
                        f"Kafka refused to create topic {name}: {rest}", fix="Check the broker's log and its rights."
                    )
            await _settled(admin, settings, ALL)
        return [topic.name for topic in new]
    except KafkaError as fault:
        raise SetupError(
            f"Kafka could not be asked for its topics: {fault}", fix="Check kafka.bootstrap and the rights."
        ) from fault
    finally:
        await admin.close()


def _new_topic(topic: Topic, settings: Settings) -> NewTopic:
    kafka = settings.kafka
    return NewTopic(
        full_name(kafka, topic.name),
        num_partitions=kafka.partitions if topic.spread else 1,
        replication_factor=kafka.replication,
        topic_configs=wanted_config(topic, settings),
    )


async def mismatches(settings: Settings) -> list[Mismatch]:
    """How the topics differ from the table: missing ones, replication, and each configured value.

    The number of partitions is only reported where it is not the same over mail.events and mail.outcomes, or below the
    setting: partitions may be added by an operator, never removed.
    """
    admin = AIOKafkaAdminClient(**connection(settings), client_id="depesche-setup")
    await admin.start()
    try:
        return [found for topic in ALL for found in await _compare(admin, topic, settings)]
    finally:
        await admin.close()


async def correct(settings: Settings) -> list[Mismatch]:
    """Give topics the configuration that the table declares, and say what was wrong.

    Only for the embedded broker, which is ours alone: an older version of ours made the topic. Partitions and replicas stay.

    Raises:
        SetupError: the cluster refused.
    """
    wrong = await mismatches(settings)
    names = {found.topic for found in wrong if "." in found.what}
    if not names:
        return []
    admin = AIOKafkaAdminClient(**connection(settings), client_id="depesche-setup")
    await admin.start()
    try:
        topics = {full_name(settings.kafka, topic.name): topic for topic in ALL}
        resources = [
            ConfigResource(ConfigResourceType.TOPIC, name, configs=wanted_config(topics[name], settings))
            for name in sorted(names)
        ]
        for answer in await admin.alter_configs(resources):
            for code, text, *_ in answer.resources:
                if code:
                    raise SetupError(f"Kafka refused to change a topic: {text}", fix="Check the broker's log.")
    finally:
        await admin.close()
    await _until_correct(settings, names)
    return [found for found in wrong if found.topic in names]


async def _until_correct(settings: Settings, names: Collection[str]) -> None:
    """A broker takes a change before it shows it; whoever compares at once would still see the old configuration."""
    for _ in range(int(SETTLE_SECONDS / _ASK_SECONDS)):
        if not any(found.topic in names and "." in found.what for found in await mismatches(settings)):
            break
        await asyncio.sleep(_ASK_SECONDS)


async def _compare(admin: AIOKafkaAdminClient, topic: Topic, settings: Settings) -> list[Mismatch]:
    name = full_name(settings.kafka, topic.name)
    described = (await admin.describe_topics([name]))[0]
    if described["error_code"]:
        return [Mismatch(name, "it", "there", "missing")]
    found = []
    partitions = described["partitions"]
    if topic.spread and len(partitions) < settings.kafka.partitions:
        found.append(Mismatch(name, "partitions", f"at least {settings.kafka.partitions}", str(len(partitions))))
    replicas = min(len(partition["replicas"]) for partition in partitions)
    if replicas < settings.kafka.replication:
        found.append(Mismatch(name, "replication", str(settings.kafka.replication), str(replicas)))
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    values = {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}
    for key, wanted in wanted_config(topic, settings).items():
        if values.get(key) != wanted:
            found.append(Mismatch(name, key, wanted, str(values.get(key))))
    return found


async def partition_counts(settings: Settings, *wanted: Topic) -> dict[str, int]:
    """How many partitions topics have in the cluster, by name without prefix.

    A topic that has just been created is not known to the whole cluster at once, so it is asked for a few times.

    Raises:
        SetupError: one is missing.
    """
    admin = AIOKafkaAdminClient(**connection(settings), client_id="depesche-shape")
    try:
        await admin.start()
        counts = await _settled(admin, settings, wanted)
    finally:
        await admin.close()
    missing = [topic.name for topic in wanted if topic.name not in counts]
    if missing:
        raise SetupError(f"The log has no topic {', '.join(missing)}", fix="Run `depesche topics --create`.")
    return counts


async def _settled(admin: AIOKafkaAdminClient, settings: Settings, wanted: Sequence[Topic]) -> dict[str, int]:
    """The partitions by topic, once the cluster can describe them all or has had its time."""
    names = {full_name(settings.kafka, topic.name): topic.name for topic in wanted}
    for _ in range(int(SETTLE_SECONDS / _ASK_SECONDS)):
        described = await admin.describe_topics(list(names))
        counts = {names[entry["topic"]]: len(entry["partitions"]) for entry in described if not entry["error_code"]}
        if len(counts) == len(wanted):
            break
        await asyncio.sleep(_ASK_SECONDS)
    return counts
