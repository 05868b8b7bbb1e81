"""Topics that an older version of ours made get today's configuration, and nothing else of them changes."""

from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from depesche.analytics.log.client import connection
from depesche.analytics.log.topics import correct, create_missing, mismatches
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.schemas.topics import RATES

PREFIX = "older."


async def test_a_topic_of_an_older_version_is_corrected(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, kafka=KafkaSettings(bootstrap=kafka_broker.bootstrap_servers, topic_prefix=PREFIX)
    )
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    old = {"cleanup.policy": "compact", "min.insync.replicas": "1"}
    await admin.create_topics([NewTopic(PREFIX + RATES.name, 1, 1, topic_configs=old)])
    await admin.close()
    await create_missing(settings)
    wrong = await mismatches(settings)
    assert {(found.topic, found.what) for found in wrong} == {
        (PREFIX + RATES.name, what) for what in ("cleanup.policy", "retention.ms", "segment.ms")
    }
    assert await correct(settings) == wrong
    assert await mismatches(settings) == []
    assert await correct(settings) == []
