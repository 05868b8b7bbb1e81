"""What is generated is what the sources say now; `make gen` writes it anew."""

import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from depesche.infra.reference import page
from depesche.schemas.generate import TARGET, generate
from tests.contract.checkout import CHECKOUT


def test_the_records_are_what_the_avro_files_say() -> None:
    assert TARGET.read_text("utf-8") == generate()


def test_the_reference_page_is_what_the_sources_say() -> None:
    assert (CHECKOUT / "infra" / "config" / "reference.md").read_text("utf-8") == page()


def test_the_lock_file_holds_a_fitting_version_of_every_requirement() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
    lines = (CHECKOUT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [Requirement(line.split(" \\")[0].split(" --hash")[0]) for line in lines if line[:1].isalnum()]
    locked: dict[str, set[Version]] = {}
    for pin in pins:
        [specifier] = pin.specifier
        locked.setdefault(canonicalize_name(pin.name), set()).add(Version(specifier.version))
    wanted = [Requirement(text) for text in (*project["project"]["dependencies"], *project["dependency-groups"]["dev"])]
    unmet = [
        str(one)
        for one in wanted
        if not any(one.specifier.contains(version) for version in locked.get(canonicalize_name(one.name), ()))
    ]
    assert unmet == [], "make lock"


def test_every_locked_package_has_its_hashes() -> None:
    text = (CHECKOUT / "requirements.lock").read_text("utf-8").replace("\\\n", " ")
    bare = [line for line in text.splitlines() if line[:1].isalnum() and "--hash=sha256:" not in line]
    assert bare == []
