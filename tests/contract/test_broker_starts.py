"""The embedded broker is a real Apache Kafka: it starts, keeps records over a kill, and says what stands in its way."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from depesche.infra.local.fault import LocalFault
from depesche.infra.local.kafka_broker import CLEAN_EXIT_CODES, KafkaBroker


@pytest.fixture
def own_broker(kafka_home: Path, tmp_path: Path, free_port: Callable[[], int]) -> KafkaBroker:
    return KafkaBroker(kafka_home, tmp_path / "broker", port=free_port(), controller_port=free_port())


def _start(broker: KafkaBroker) -> subprocess.Popen[bytes]:
    console = (broker.directory / "console.log").open("ab")
    with console:
        return subprocess.Popen(broker.command(), env=broker.env(), stdout=console, stderr=console)


async def _produce(broker: KafkaBroker, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def _read(broker: KafkaBroker, topic: str, count: int) -> list[bytes | None]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        return [(await asyncio.wait_for(consumer.getone(), 20)).value for _ in range(count)]
    finally:
        await consumer.stop()


async def _create(broker: KafkaBroker, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        settings = {"flush.messages": "1"}
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=settings)])
    finally:
        await admin.close()


async def test_a_broker_keeps_its_records_and_its_identity_over_a_kill(own_broker: KafkaBroker) -> None:
    await asyncio.to_thread(own_broker.prepare)
    process = _start(own_broker)
    try:
        await own_broker.ready()
        identity = own_broker.cluster_id
        await _create(own_broker, "kept")
        await _produce(own_broker, "kept", [b"one", b"two"])
    finally:
        process.kill()
        process.wait(30)
    await asyncio.to_thread(own_broker.prepare)
    process = _start(own_broker)
    try:
        await own_broker.ready()
        assert own_broker.cluster_id == identity
        assert await _read(own_broker, "kept", 2) == [b"one", b"two"]
    finally:
        process.terminate()
        assert process.wait(30) in CLEAN_EXIT_CODES


async def test_ports_may_change_between_two_starts(own_broker: KafkaBroker, free_port: Callable[[], int]) -> None:
    moved = KafkaBroker(own_broker.jars, own_broker.directory, port=free_port(), controller_port=free_port())
    for broker in (own_broker, moved):
        await asyncio.to_thread(broker.prepare)
        process = _start(broker)
        try:
            await broker.ready()
        finally:
            process.terminate()
            assert process.wait(30) in CLEAN_EXIT_CODES


async def test_topics_are_not_created_by_mistake(kafka_broker: KafkaBroker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    await admin.start()
    try:
        await admin.describe_topics(["mistyped"])
        assert "mistyped" not in await admin.list_topics()
    finally:
        await admin.close()


async def test_a_second_broker_on_the_directory_is_refused_with_the_process_to_stop(kafka_broker: KafkaBroker) -> None:
    with pytest.raises(LocalFault, match=r"Another broker \(process \d+\) runs on"):
        await asyncio.to_thread(kafka_broker.prepare)


async def test_another_kafka_on_our_port_is_not_taken_for_ours(
    kafka_broker: KafkaBroker, own_broker: KafkaBroker
) -> None:
    await asyncio.to_thread(own_broker.prepare)
    stranger = KafkaBroker(own_broker.jars, own_broker.directory, port=kafka_broker.port)
    with pytest.raises(LocalFault, match="another Kafka answers"):
        await stranger.ready()


def test_a_taken_port_is_named_before_anything_starts(own_broker: KafkaBroker) -> None:
    with socket.socket() as holder:
        holder.bind((own_broker.host, own_broker.controller_port))
        holder.listen()
        with pytest.raises(LocalFault, match=rf"Port {own_broker.controller_port} .*controller needs, is taken by"):
            own_broker.prepare()
    assert not own_broker.directory.exists()


def test_an_interrupted_formatting_is_repeated(own_broker: KafkaBroker) -> None:
    own_broker.prepare()
    shutil.move(own_broker.data, own_broker.directory / "data.formatting")
    own_broker.data.mkdir()
    (own_broker.data / "bootstrap.checkpoint").write_bytes(b"")
    own_broker.prepare()
    assert own_broker.cluster_id
    assert not (own_broker.directory / "data.formatting").exists()


def test_records_without_identity_are_never_formatted_over(own_broker: KafkaBroker) -> None:
    partition = own_broker.data / "mail.jobs-0"
    partition.mkdir(parents=True)
    (partition / "00000000000000000000.log").write_bytes(b"a record")
    with pytest.raises(LocalFault, match=r"holds records but its meta\.properties is missing"):
        own_broker.prepare()
    assert (partition / "00000000000000000000.log").read_bytes() == b"a record"


async def test_a_broker_that_does_not_come_up_is_reported_with_its_own_words(own_broker: KafkaBroker) -> None:
    await asyncio.to_thread(own_broker.prepare)
    own_broker.log_file.write_text("2026-01-01T00:00:00Z [main] ERROR kafka.Kafka$ - Exiting Kafka due to a fault\n")
    with pytest.raises(LocalFault, match=r"did not answer .* its log says: ERROR kafka.Kafka\$ - Exiting Kafka"):
        await own_broker.ready(timeout=0.2)
