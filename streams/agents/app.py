"""The Faust application, built by a function with the only settings that were measured safe (reliability note 1.5).

At-least-once with deterministic results, one event at a time, every topic made by us, no web server, no leader election,
static membership so that a killed worker's partitions come back in a second. Never used: ``take``, ``noack``, ``sink=``,
transactions, ``concurrency`` above one, compacted input.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

import faust
import structlog
from aiokafka import AIOKafkaProducer
from yarl import URL

from depesche.analytics.log.client import full_name, producer
from depesche.schemas.settings import KafkaSettings, Settings
from depesche.streams.agents.transport import Transport

log = structlog.get_logger(__name__)

APP_ID = "mail.agents"
EXIT_SOFTWARE = 70
COMMIT_SECONDS = 0.5
GATHER_SECONDS = 0.05
"""The least time between two requests of Faust's own producer. Nobody waits for what it sends: the tables' changelogs, flushed
before every commit, and sums. One request for each few outcomes was a third of what the agents cost."""


class App(faust.App):
    """A Faust application over that transport, which can also say something at once."""

    def __init__(self, settings: Settings, name: str, **options: Any) -> None:
        """``settings``: where the log is; the rest as ``faust.App`` takes it."""
        self._log_settings = settings
        self._voice: AIOKafkaProducer | None = None
        super().__init__(name, **options)

    def _new_transport(self) -> Any:
        return Transport(self.conf.broker_consumer, self)

    async def on_start(self) -> None:
        """See ``mode.Service``."""
        self._voice = producer(self._log_settings, f"{APP_ID}-voice", linger_ms=0)
        await self._voice.start()
        await super().on_start()

    async def on_stop(self) -> None:
        """See ``mode.Service``."""
        await super().on_stop()
        if self._voice is not None:
            await self._voice.stop()

    async def say(
        self, topic: str, *, key: bytes, value: bytes | None, partition: int, headers: list[tuple[str, bytes]] | None
    ) -> None:
        """Send by a producer that gathers nothing, and wait for the acknowledgement.

        Raises:
            KafkaError: it is not in the log, or nobody knows.
        """
        assert self._voice is not None
        await self._voice.send_and_wait(topic, value, key=key, partition=partition, headers=headers)


def build_app(settings: Settings, member: str) -> faust.App:
    """A Faust app without agents yet.

    Args:
        settings: where the cluster is.
        member: name this worker keeps over restarts; two live workers never share one.
    """
    kafka = settings.kafka
    directory = settings.home / "agents" / member
    directory.mkdir(parents=True, exist_ok=True)
    return App(
        settings,
        full_name(kafka, APP_ID),
        broker=[URL(f"kafka://{server}") for server in settings.bootstrap.split(",")],
        broker_credentials=_credentials(kafka),
        broker_client_id=client_of(member),
        datadir=str(directory),
        store="memory://",
        autodiscover=False,
        origin=None,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_replication_factor=kafka.replication,
        topic_partitions=kafka.partitions,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=client_of(member),
        broker_session_timeout=10,
        broker_heartbeat_interval=3,
        broker_commit_interval=COMMIT_SECONDS,
        broker_max_poll_records=500,
        stream_buffer_maxsize=4096,
        stream_wait_empty=False,
        producer_linger=GATHER_SECONDS,
        producer_acks=-1,
        producer_max_request_size=1 << 20,
        table_standby_replicas=0,
        processing_guarantee="at_least_once",
        worker_redirect_stdouts=False,
        logging_config=None,
    )


def client_of(member: str) -> str:
    """What a worker calls itself towards the log."""
    return f"{APP_ID}-{member}"


def _credentials(kafka: KafkaSettings) -> Any:
    if kafka.security == "PLAINTEXT":
        return None
    from aiokafka.helpers import create_ssl_context

    context = create_ssl_context(cafile=str(kafka.ca_file) if kafka.ca_file else None)
    if kafka.security == "SSL":
        return faust.SSLCredentials(context=context)
    return faust.SASLCredentials(
        username=kafka.sasl_user,
        password=kafka.sasl_password.get_secret_value(),
        mechanism=kafka.sasl_mechanism,
        ssl_context=context if kafka.security == "SASL_SSL" else None,
    )


async def await_send(
    topic: Any, *, key: bytes, value: bytes | None, partition: int, headers: list[tuple[str, bytes]] | None = None
) -> None:
    """Send and wait until it is acknowledged; the bare ``topic.send`` only queues and logs its failures.

    Raises:
        Exception: whatever the producer reports; the caller must not go on.
    """
    await topic.app.say(topic.get_topic_name(), key=key, value=value, partition=partition, headers=headers)


def die(reason: str, fault: BaseException | None = None) -> NoReturn:
    """End the process before Faust can commit past the event at hand; the supervisor starts it again.

    Faust acknowledges an event whose agent raised, and a normal stop commits, so only leaving at once loses nothing.
    """
    log.error("agents_die", reason=reason, cause=repr(fault) if fault else None)
    os._exit(EXIT_SOFTWARE)
