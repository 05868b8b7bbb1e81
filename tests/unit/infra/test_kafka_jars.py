"""The broker runs from exactly the jars that are pinned, and says so when it does not."""

import gc
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from depesche.infra.local import kafka_jars
from depesche.infra.local.fault import LocalFault
from depesche.infra.local.kafka_jars import Jar, JarLock

CONTENTS = {"one": b"the first jar" * 1000, "two": b"the second jar"}


def _jar(name: str, content: bytes) -> Jar:
    return Jar(f"{name}-1.0.jar", f"org.example:{name}:1.0", hashlib.sha256(content).hexdigest(), len(content))


LOCK = JarLock("org.example:one:1.0", tuple(_jar(name, content) for name, content in CONTENTS.items()))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which all jars are there and right."""
    (tmp_path / "lib").mkdir()
    for name, content in CONTENTS.items():
        (tmp_path / "lib" / f"{name}-1.0.jar").write_bytes(content)
    return tmp_path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A Maven repository on the loopback: its address and its directory."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    root = tmp_path_factory.mktemp("repository")
    for name, content in CONTENTS.items():
        place = root / "org" / "example" / name / "1.0"
        place.mkdir(parents=True)
        (place / f"{name}-1.0.jar").write_bytes(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root)))
    thread = threading.Thread(target=partial(server.serve_forever, 0.05))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", root
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_shipped_lock_pins_kafka_and_its_log_binding() -> None:
    lock = kafka_jars.read_lock()
    names = {jar.name for jar in lock.jars}
    assert {"kafka_2.13-4.3.0.jar", "kafka-clients-4.3.0.jar", "slf4j-simple-1.7.36.jar"} <= names
    assert len(names) == len(lock.jars)
    assert all(len(jar.sha256) == 64 and jar.size > 0 and jar.coordinate.count(":") == 2 for jar in lock.jars)
    assert lock.coordinates == kafka_jars.COORDINATES


def test_right_jars_pass_and_become_the_class_path(home: Path) -> None:
    assert kafka_jars.check(home, LOCK) == [home / "lib" / "one-1.0.jar", home / "lib" / "two-1.0.jar"]


def test_one_changed_byte_is_found(home: Path) -> None:
    jar = home / "lib" / "one-1.0.jar"
    jar.write_bytes(jar.read_bytes()[:-1] + b"!")
    with pytest.raises(LocalFault, match=r"one-1\.0\.jar is not the one that is pinned .* Delete that file"):
        kafka_jars.check(home, LOCK)


def test_a_missing_jar_is_named(home: Path) -> None:
    (home / "lib" / "two-1.0.jar").unlink()
    with pytest.raises(LocalFault, match=r"1 of the broker's 2 jars are missing .*two-1\.0\.jar.* Run the setup again"):
        kafka_jars.check(home, LOCK)


def test_nothing_is_fetched_when_all_is_there(home: Path) -> None:
    reports: list[object] = []
    paths = kafka_jars.fetch(home, lambda *report: reports.append(report), LOCK, {"nowhere": "http://127.0.0.1:1"})
    assert len(paths) == 2
    assert reports == []


def test_missing_and_changed_jars_are_fetched_and_the_progress_is_told(
    home: Path, repository: tuple[str, Path]
) -> None:
    (home / "lib" / "one-1.0.jar").write_bytes(b"sabotaged")
    (home / "lib" / "two-1.0.jar").unlink()
    reports: list[tuple[str, int, int]] = []
    kafka_jars.fetch(home, lambda *report: reports.append(report), LOCK, {"test": repository[0]})
    assert (home / "lib" / "one-1.0.jar").read_bytes() == CONTENTS["one"]
    total = sum(len(content) for content in CONTENTS.values())
    assert reports[-1][1:] == (total, total)
    assert [path.name for path in home.iterdir()] == ["lib"]


def test_a_repository_that_offers_something_else_installs_nothing(home: Path, repository: tuple[str, Path]) -> None:
    (home / "lib" / "two-1.0.jar").unlink()
    (repository[1] / "org" / "example" / "two" / "1.0" / "two-1.0.jar").write_bytes(b"a trojan horse")
    with pytest.raises(LocalFault, match=r"offers a two-1\.0\.jar that is not the pinned one"):
        kafka_jars.fetch(home, None, LOCK, {"test": repository[0]})
    assert not (home / "lib" / "two-1.0.jar").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("address", ["http://127.0.0.1:1", None], ids=["no network", "no such file"])
def test_a_fetch_that_fails_says_what_to_do(home: Path, repository: tuple[str, Path], address: str | None) -> None:
    (home / "lib" / "two-1.0.jar").unlink()
    (repository[1] / "org" / "example" / "two" / "1.0" / "two-1.0.jar").unlink()
    with pytest.raises(LocalFault, match=r"two-1\.0\.jar could not be fetched: .* Check the network"):
        kafka_jars.fetch(home, None, LOCK, {"test": address or repository[0]})
    # jgo leaves the connection of a refused download to the garbage collector; let it complain here, not elsewhere.
    gc.collect()
