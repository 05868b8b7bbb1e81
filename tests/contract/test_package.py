"""The wheel holds the house and nothing else, and works far from the checkout."""

import json
import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.contract.checkout import CHECKOUT, ROOMS, files

#: What is read at run time, by suffix.
DATA = frozenset({".sql", ".avsc", ".toml", ".yar", ".html", ".css", ".svg", ".typed"})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the project's files without any network."""
    copy = tmp_path_factory.mktemp("source")
    for file in files():
        target = copy / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CHECKOUT / file, target)
    place = tmp_path_factory.mktemp("wheel")
    script = f"from setuptools import build_meta; print(build_meta.build_wheel({str(place)!r}))"
    built = subprocess.run([sys.executable, "-c", script], cwd=copy, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    assert "would be ignored" not in built.stderr
    return place / built.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked where an installer would put it."""
    place = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(place)
    return place


def run(installed: Path, code: str) -> str:
    """Run code that sees the installed wheel and its requirements, but no checkout."""
    # Without the site module no .pth file is read, so that the editable installation is not found.
    packages = [path for path in site.getsitepackages() if Path(path).is_dir()]
    program = f"import sys; sys.path[:0] = {[str(installed), *packages]!r}\n{code}"
    outcome = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        cwd=installed,
        env={name: value for name, value in os.environ.items() if not name.startswith("DEPESCHE_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def _belongs(file: Path) -> bool:
    """Whether a file is part of the product; infra/dev is for whoever works in a checkout."""
    return file.parts[0] in ROOMS and file.parts[:2] != ("infra", "dev")


def test_it_brings_one_name(installed: Path) -> None:
    names = {path.name for path in installed.iterdir()}
    assert "depesche" in names
    assert {name for name in names if not name.endswith(".dist-info")} == {"depesche"}


def test_it_holds_every_module_and_all_data(wheel: Path) -> None:
    wanted = {
        f"depesche/{file.as_posix()}"
        for file in files()
        if _belongs(file) and (file.suffix == ".py" or file.suffix in DATA or file.name == "py.typed")
    }
    with zipfile.ZipFile(wheel) as content:
        there = {name for name in content.namelist() if name.startswith("depesche/")}
    assert wanted - there == set()
    assert {name for name in there - wanted if not name.endswith(".md")} == set()


def test_every_module_can_be_imported_and_none_of_the_rooms_by_its_bare_name(installed: Path) -> None:
    script = """
import importlib, importlib.util, json, pkgutil, depesche
for path in depesche.__path__:
    assert path.startswith(sys.path[0]), path
names = [found.name for found in pkgutil.walk_packages(depesche.__path__, "depesche.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
bare = [room for room in ("schemas", "analytics", "streams", "api", "infra") if importlib.util.find_spec(room)]
print(json.dumps({"count": len(names), "bare": bare}))
"""
    found = json.loads(run(installed, script))
    assert found["bare"] == []
    assert found["count"] == sum(_belongs(file) and file.suffix == ".py" for file in files())


def test_data_is_read_where_it_is_installed(installed: Path) -> None:
    script = """
from depesche.analytics.store.migrate import steps
from depesche.infra.local.kafka_jars import read_lock
from depesche.schemas.codec import codec
from depesche.schemas.records import MailEvent
from depesche.streams.wire.yara import Yara
from depesche.infra.load import checkout
assert steps() and read_lock().jars and codec(MailEvent) and Yara().version
print(checkout())
"""
    assert run(installed, script) == "None\n"


def test_the_command_works_far_from_the_checkout(installed: Path) -> None:
    entry = next(installed.glob("*.dist-info")) / "entry_points.txt"
    assert "depesche = depesche.infra.cli.main:main" in entry.read_text()
    script = "sys.argv = ['depesche', 'services']\nfrom depesche.infra.cli.main import main\nmain()"
    assert "the REST door" in run(installed, script)
