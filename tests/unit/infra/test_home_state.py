"""Half a home directory is recognised, whichever half is missing; a whole one and an empty one are not."""

from pathlib import Path

import pytest

from depesche.infra.load import load
from depesche.infra.local.fault import LocalFault
from depesche.infra.local.home_state import faults, prepare_home, require_room, require_whole, too_open
from depesche.schemas.settings import Settings

PARTS = {
    "keys": ("keys/master", b"k" * 32),
    "log": ("kafka/broker/data/meta.properties", b"cluster.id=x\n"),
    "records": ("kafka/broker/data/mail.jobs-0/00000000000000000000.log", b"a record"),
    "store": ("clickhouse/data/metadata/depesche.sql", b"ATTACH DATABASE depesche"),
    "bodies": ("archive/20261123-doors-1.seg", b"a body"),
}


def home_with(home: Path, *parts: str, **variables: str) -> Settings:
    for part in parts:
        path, content = PARTS[part]
        file = home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return load({"DEPESCHE_HOME": str(home), **variables}).settings


def test_an_empty_home_and_a_whole_one_are_fine(tmp_path: Path) -> None:
    require_whole(home_with(tmp_path / "empty"))
    require_whole(home_with(tmp_path / "whole", *PARTS))


def test_an_interrupted_first_start_is_fine(tmp_path: Path) -> None:
    # Formatted, but nothing written yet: the keys come with the first service.
    require_whole(home_with(tmp_path / "formatted", "log"))
    require_whole(home_with(tmp_path / "keyed", "keys"))


@pytest.mark.parametrize("missing", ["keys", "log"])
def test_what_the_rest_cannot_be_read_without_is_missed(tmp_path: Path, missing: str) -> None:
    there = [part for part in PARTS if part != missing]
    settings = home_with(tmp_path, *there)
    (tmp_path / PARTS[missing][0]).unlink(missing_ok=True)
    with pytest.raises(LocalFault, match=r"Half of .* is missing") as caught:
        require_whole(settings)
    assert "backup" in caught.value.fix


def test_a_store_without_its_log_is_half(tmp_path: Path) -> None:
    with pytest.raises(LocalFault, match="the store is there"):
        require_whole(home_with(tmp_path, "keys", "store"))


def test_what_lies_elsewhere_is_not_missed(tmp_path: Path) -> None:
    outside = {"DEPESCHE_KAFKA__BOOTSTRAP": "kafka:9092"}
    require_whole(home_with(tmp_path, "keys", "store", "bodies", **outside))
    key = tmp_path / "mounted-key"
    key.write_bytes(b"k" * 32)
    require_whole(home_with(tmp_path / "b", "log", "records", DEPESCHE_MASTER_KEY_FILE=str(key)))


def test_a_file_in_place_of_the_home_is_told(tmp_path: Path) -> None:
    place = tmp_path / "home"
    place.write_text("not a directory")
    with pytest.raises(LocalFault, match="there is a file of that name"):
        prepare_home(load({"DEPESCHE_HOME": str(place)}).settings)


def test_a_disk_without_room_is_told_with_its_numbers(tmp_path: Path) -> None:
    with pytest.raises(LocalFault, match=r"Only \d+ MB are free on the disk of .*; 1152921504606 MB are needed"):
        require_room(tmp_path, least=1 << 60)


def test_keys_that_others_may_read_are_found(tmp_path: Path) -> None:
    settings = home_with(tmp_path, "keys")
    (tmp_path / "keys").chmod(0o700)
    master = tmp_path / PARTS["keys"][0]
    master.chmod(0o600)
    assert too_open(settings) == []
    master.chmod(0o640)
    assert too_open(settings) == [master]
    assert list(faults(settings)) == []
