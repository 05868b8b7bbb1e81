"""Apache Kafka as its project publishes it: jars from the Maven repository, pinned by SHA-256, without Maven or Java.

`kafka_jars.lock.toml` names every jar with its hash. `fetch` downloads what is missing into `HOME/lib`, `check` is run
before every start of the broker. Resolving versions happens only in `write_lock`, so that two machines never disagree:
a resolver may silently pick another version of a transitive dependency, a lock cannot.
"""

import argparse
import hashlib
import os
import ssl
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from depesche.infra.local.fault import LocalFault

COORDINATES = "org.apache.kafka:kafka_2.13:4.3.0+org.slf4j:slf4j-simple:1.7.36"
LOCK_PATH = Path(__file__).with_name("kafka_jars.lock.toml")

Progress = Callable[[str, int, int], None]
"""Called with (jar name, bytes fetched so far, bytes to fetch in all); calls never overlap, but come from any thread."""

_ATTEMPTS = 3
_DOWNLOADS_AT_ONCE = 6
_LOCK_HEAD = """\
# The jars of the embedded broker: what `fetch` may download and what every start is checked against.
# Written by `python -m depesche.infra.local.kafka_jars --lock`; do not edit by hand.
"""


@dataclass(frozen=True)
class Jar:
    """One locked file: `name` in `HOME/lib`, Maven `coordinate` (group:artifact:version), SHA-256 in hex, bytes."""

    name: str
    coordinate: str
    sha256: str
    size: int


@dataclass(frozen=True)
class JarLock:
    """All jars the broker runs with, in the order of the class path."""

    coordinates: str
    jars: tuple[Jar, ...]

    @property
    def fingerprint(self) -> str:
        """First 12 hex digits of a hash over all jars: names what was built for exactly this set."""
        text = "\n".join(f"{jar.name} {jar.sha256}" for jar in self.jars)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_lock(path: Path = LOCK_PATH) -> JarLock:
    """Read the lock file; raises OSError, tomllib.TOMLDecodeError or KeyError when the installation itself is broken."""
    content = tomllib.loads(path.read_text("utf-8"))
    return JarLock(content["coordinates"], tuple(Jar(**jar) for jar in content["jar"]))


def check(home: Path, lock: JarLock | None = None) -> list[Path]:
    """Return the class path (every locked jar in `home/lib`) after comparing each file's SHA-256 with the lock.

    Raises LocalFault when a jar is missing or is not the locked one. Reads 43 MB: about 50 ms.
    """
    lock = lock or read_lock()
    paths = [home / "lib" / jar.name for jar in lock.jars]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise LocalFault(
            f"{len(missing)} of the broker's {len(paths)} jars are missing in {home / 'lib'} (the first: {missing[0]}).",
            "Run the setup again while there is a network; it fetches what is missing.",
        )
    for path, jar in zip(paths, lock.jars, strict=True):
        if _sha256(path) != jar.sha256:
            raise LocalFault(
                f"The broker's jar {path} is not the one that is pinned (its SHA-256 differs).",
                "Delete that file and run the setup again; it fetches the right one.",
            )
    return paths


def fetch(
    home: Path,
    progress: Progress | None = None,
    lock: JarLock | None = None,
    repositories: Mapping[str, str] | None = None,
) -> list[Path]:
    """Bring every locked jar into `home/lib` and return the class path; blocks (call it in a thread).

    What is there and right is left alone, without any network; what is there and wrong is replaced. A jar appears under
    its name only when its hash is right, so an interrupted fetch is simply continued. `repositories` are Maven
    repositories (name to address); without them those of the user's own jgo settings and the public one are asked.
    Raises LocalFault when the network or the disk fails, or when what is offered is not what is pinned.
    """
    lock = lock or read_lock()
    lib = home / "lib"
    wanted = [jar for jar in lock.jars if not _is_right(lib / jar.name, jar)]
    if wanted:
        try:
            lib.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=home) as scratch:
                meter = _Meter(progress, sum(jar.size for jar in wanted))
                _Fetcher(lib, Path(scratch), meter, dict(repositories or _repositories())).fetch(wanted)
        except OSError as error:
            raise LocalFault(
                f"The broker's jars cannot be stored in {lib}: {_reason(error)}.",
                "Make room or correct the owner of the directory, then run the setup again.",
            ) from error
    return check(home, lock)


def _repositories() -> dict[str, str]:
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL

    return {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}


class _Meter:
    """Adds up what several downloads have fetched and tells the caller about it, one call at a time."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._told = 0.0
        self._lock = threading.Lock()

    def add(self, name: str, count: int) -> None:
        with self._lock:
            self._done += count
            now = time.monotonic()
            # Chunks are small; ten reports a second are enough for an eye.
            if self._progress is not None and (now - self._told >= 0.1 or self._done == self._total):
                self._told = now
                self._progress(name, self._done, self._total)

    @contextmanager
    def watch(self, name: str, _size: int) -> Iterator[Callable[[int], None]]:
        """The form in which jgo reports a download."""
        counted = 0

        def update(count: int) -> None:
            nonlocal counted
            counted += count
            self.add(name, count)

        try:
            yield update
        except BaseException:
            # The next attempt starts at the first byte again.
            self.add(name, -counted)
            raise


@dataclass(frozen=True)
class _Fetcher:
    lib: Path
    scratch: Path
    meter: _Meter
    repositories: dict[str, str]

    def fetch(self, jars: list[Jar]) -> None:
        """Download these jars, several at once; the first failure ends all."""
        _trust_what_the_system_trusts()
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE, thread_name_prefix="kafka-jars") as pool:
            tasks = [pool.submit(self._download, jar) for jar in jars]
            try:
                for task in tasks:
                    task.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _download(self, jar: Jar) -> None:
        path = self._attempts(jar)
        if _sha256(path) != jar.sha256:
            raise LocalFault(
                f"The repository offers a {jar.name} that is not the pinned one (its SHA-256 differs).",
                "It was not installed. Look for a proxy or mirror that changes files, then run the setup again.",
            )
        path.replace(self.lib / jar.name)

    def _attempts(self, jar: Jar) -> Path:
        for attempt in range(1, _ATTEMPTS):
            try:
                return self._resolve(jar, attempt)
            except (OSError, RuntimeError):
                time.sleep(attempt)
        try:
            return self._resolve(jar, _ATTEMPTS)
        except (OSError, RuntimeError) as error:
            raise LocalFault(
                f"The broker's jar {jar.name} could not be fetched: {_reason(error)}.",
                "Check the network and the free space, then run the setup again; it continues where it stopped.",
            ) from error

    def _resolve(self, jar: Jar, attempt: int) -> Path:
        from jgo.maven import MavenContext, PythonResolver

        context = MavenContext(
            resolver=PythonResolver(progress_callback=self.meter.watch),
            # Each attempt has a directory of its own, because jgo takes a half-written file of the last one for whole.
            repo_cache=self.scratch / f"{jar.name}-{attempt}",
            remote_repos=self.repositories,
            timeout=30,
        )
        group, artifact, version = jar.coordinate.split(":")
        return Path(context.project(group, artifact).at_version(version).artifact().resolve())


def _trust_what_the_system_trusts() -> None:
    """Let requests take the system's certificates unless it was told others: an office's gateway stands in them only."""
    store = ssl.get_default_verify_paths().cafile
    if store and not any(os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")):
        os.environ["REQUESTS_CA_BUNDLE"] = store


def _reason(error: Exception) -> str:
    # The text of a network error holds the whole address; its kind is what helps.
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return error.strerror
    return type(error).__name__


def _is_right(path: Path, jar: Jar) -> bool:
    return path.is_file() and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock(path: Path = LOCK_PATH) -> JarLock:
    """Resolve COORDINATES anew with jgo, hash every jar, and write the lock file (for maintainers; needs a network)."""
    import jgo

    with tempfile.TemporaryDirectory(prefix="kafka-jars-") as scratch:
        environment = jgo.build(COORDINATES, cache_dir=Path(scratch))
        files = {file.name: file for file in Path(environment.path).rglob("*.jar")}
        jars = [
            _locked(files[artifact.filename], f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}")
            for artifact in jgo.resolve(COORDINATES)
        ]
        if len(jars) != len(files):
            raise LocalFault(f"{len(files)} jars were built but {len(jars)} resolved.", "Look at jgo's release notes.")
    lock = JarLock(COORDINATES, tuple(sorted(jars, key=lambda jar: jar.name)))
    entries = "".join(
        f'\n[[jar]]\nname = "{jar.name}"\ncoordinate = "{jar.coordinate}"\nsha256 = "{jar.sha256}"\nsize = {jar.size}\n'
        for jar in lock.jars
    )
    path.write_text(f'{_LOCK_HEAD}coordinates = "{lock.coordinates}"\n{entries}', "utf-8")
    return lock


def _locked(file: Path, coordinate: str) -> Jar:
    return Jar(file.name, coordinate, _sha256(file), file.stat().st_size)


def main(arguments: list[str] | None = None) -> int:
    """`--lock` writes the lock file anew, `--fetch HOME` fetches the jars; returns the exit code."""
    parser = argparse.ArgumentParser(description="Fetch the embedded broker's pinned jars, or pin them anew.")
    parser.add_argument("--lock", action="store_true", help="resolve anew and write kafka_jars.lock.toml")
    parser.add_argument("--fetch", type=Path, metavar="HOME", help="bring the pinned jars into HOME/lib")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.lock:
            sys.stderr.write(f"locked {len(write_lock().jars)} jars\n")
        if chosen.fetch:
            paths = fetch(chosen.fetch, _show)
            sys.stderr.write(f"\n{len(paths)} jars in {chosen.fetch / 'lib'} are the pinned ones\n")
    except LocalFault as fault:
        sys.stderr.write(f"\n{fault}\n")
        return 1
    return 0


def _show(name: str, done: int, total: int) -> None:
    sys.stderr.write(f"\r{done / 1e6:5.1f} of {total / 1e6:.1f} MB  {name:<45}")


if __name__ == "__main__":
    sys.exit(main())
