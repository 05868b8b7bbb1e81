"""The embedded broker is configured for one machine: loopback only, nothing created by mistake, back at once after a kill."""

import socket
from pathlib import Path

import pytest

from depesche.infra.local.fault import LocalFault
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.ports import require_free, require_loopback


@pytest.fixture
def broker(tmp_path: Path) -> KafkaBroker:
    return KafkaBroker(tmp_path / "kafka", tmp_path / "broker", port=19092, controller_port=19093)


def _properties(broker: KafkaBroker) -> dict[str, str]:
    lines = broker.properties(broker.data).splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_every_listener_is_on_the_loopback(broker: KafkaBroker) -> None:
    found = _properties(broker)
    assert found["listeners"] == "PLAINTEXT://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093"
    assert found["advertised.listeners"] == "PLAINTEXT://127.0.0.1:19092"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:19093"


def test_what_the_design_demands_is_set(broker: KafkaBroker) -> None:
    found = _properties(broker)
    assert found["process.roles"] == "broker,controller"
    assert found["auto.create.topics.enable"] == "false"
    assert found["group.initial.rebalance.delay.ms"] == "0"
    assert int(found["offsets.retention.minutes"]) >= 43_200
    assert 1000 < int(found["broker.session.timeout.ms"]) <= 3000


def test_a_backslash_in_the_directory_survives_javas_properties(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path, tmp_path / "a\\b")
    assert "\\\\b/data" in _properties(broker)["log.dirs"]


def test_the_command_names_every_pinned_jar_and_no_other(broker: KafkaBroker) -> None:
    command = broker.command()
    class_path = command[command.index("-cp") + 1].split(":")
    assert len(class_path) == 46
    assert all(path.startswith(str(broker.jars / "lib")) for path in class_path)
    assert command[-2:] == ["kafka.Kafka", str(broker.properties_file)]


def test_the_environment_cannot_change_how_java_runs(broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-javaagent:evil.jar")
    monkeypatch.setenv("CLASSPATH", "evil.jar")
    assert {"JAVA_TOOL_OPTIONS", "CLASSPATH"}.isdisjoint(broker.env())


def test_an_unformatted_directory_has_no_identity(broker: KafkaBroker) -> None:
    with pytest.raises(LocalFault, match="is not formatted"):
        _ = broker.cluster_id


def test_the_last_error_of_the_log_is_the_complaint(broker: KafkaBroker) -> None:
    assert broker.complaint() is None
    broker.directory.mkdir()
    broker.log_file.write_text(
        "2026-01-01T00:00:00.000Z [main] ERROR kafka.A - first\n"
        "2026-01-01T00:00:00.001Z [main] ERROR kafka.B - Failed to bind\n"
        "java.net.BindException: Address already in use\n"
        "2026-01-01T00:00:00.002Z [main] INFO kafka.C - shutting down\n"
    )
    assert broker.complaint() == "ERROR kafka.B - Failed to bind"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_the_loopback_is_taken(host: str) -> None:
    require_loopback(host, "Kafka")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_any_other_address_is_refused(host: str) -> None:
    with pytest.raises(LocalFault, match="must not listen on"):
        require_loopback(host, "Kafka")


def test_a_taken_port_is_named_with_its_holder() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(
            LocalFault, match=rf"Port {port} on 127\.0\.0\.1, which Kafka needs, is taken by process \d+"
        ):
            require_free("127.0.0.1", port, "Kafka")
    require_free("127.0.0.1", port, "Kafka")
