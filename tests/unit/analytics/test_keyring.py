"""The keyring: who can open what, who can erase what, and what a start refuses."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from depesche.analytics.archive.keyring import DAY_MS, RECHECK_SECONDS, Keyring
from depesche.schemas.errors import ContentLostError, SetupError

NOON = 1_795_348_800_000  # 2026-11-22 12:00 UTC


class Clock:
    def __init__(self, now: int = NOON) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def test_a_key_opens_what_it_sealed_and_nothing_for_another_purpose(tmp_path: Path) -> None:
    key = Keyring.open(tmp_path / "keys").today("10001")
    sealed = key.seal(b"Dear Ada", b"job|1")
    assert key.open(sealed, b"job|1") == b"Dear Ada"
    assert b"Ada" not in sealed
    place = bytearray(len(sealed))
    key.seal_into(memoryview(place), b"Dear Ada", b"job|1")
    assert key.open(place, b"job|1") == b"Dear Ada"
    assert place != sealed, "every seal has a nonce of its own"
    for damaged, aad in ((sealed, b"job|2"), (sealed[:-1], b"job|1"), (b"", b"job|1"), (sealed + b"x", b"job|1")):
        with pytest.raises(ContentLostError):
            key.open(damaged, aad)


def test_key_ids_name_tenant_and_day_and_change_at_midnight_utc(tmp_path: Path) -> None:
    clock = Clock()
    keyring = Keyring.open(tmp_path / "keys", clock=clock)
    first = keyring.today("10001")
    assert first.id == "10001/20261122"
    assert keyring.today("10001") is first
    assert keyring.today("10002").id == "10002/20261122"
    clock.now += DAY_MS // 2
    assert keyring.today("10001").id == "10001/20261123"


def test_another_process_opens_with_the_key_it_finds_by_id(tmp_path: Path) -> None:
    sealed = Keyring.open(tmp_path / "keys").today("10001").seal(b"text", b"aad")
    other = Keyring.open(tmp_path / "keys")
    assert other.key(next(other.key_ids())).open(sealed, b"aad") == b"text"


def test_an_erased_key_is_gone_for_everybody_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    one, two = (Keyring.open(tmp_path / "keys", clock=clock) for _ in range(2))
    key_id = one.today("10001").id
    two.key(key_id)
    clock.now += DAY_MS
    assert one.erase(key_id) is True
    assert one.erase(key_id) is False
    with pytest.raises(ContentLostError):
        one.key(key_id)
    now = __import__("time").monotonic() + RECHECK_SECONDS
    monkeypatch.setattr("depesche.analytics.archive.keyring.time.monotonic", lambda: now)
    with pytest.raises(ContentLostError):
        two.key(key_id)


def test_a_key_in_use_today_is_not_erased(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path / "keys", clock=Clock())
    key_id = keyring.today("10001").id
    with pytest.raises(ValueError, match="in use"):
        keyring.erase(key_id)
    assert keyring.key(key_id).id == key_id


def test_expiry_erases_all_tenants_older_days_and_keeps_the_rest(tmp_path: Path) -> None:
    clock = Clock()
    keyring = Keyring.open(tmp_path / "keys", clock=clock)
    for _ in range(3):
        keyring.today("10001")
        keyring.today("10002")
        clock.now += DAY_MS
    gone = keyring.erase_before(date(2026, 11, 24))
    assert gone == ["10001/20261122", "10001/20261123", "10002/20261122", "10002/20261123"]
    assert list(keyring.key_ids()) == ["10001/20261124", "10002/20261124"]


@pytest.mark.parametrize("tenant", ["", "..", "a/b", "../x", "a\0b", ".hidden", "x" * 65])
def test_a_tenant_cannot_name_a_place_outside_the_directory(tmp_path: Path, tenant: str) -> None:
    keyring = Keyring.open(tmp_path / "keys")
    with pytest.raises(ValueError, match="customer number"):
        keyring.today(tenant)
    with pytest.raises(ContentLostError):
        keyring.key(f"{tenant}/20261122")


def test_the_master_key_and_data_keys_are_private_and_no_plain_key_lies_on_disk(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path / "keys")
    keyring.today("10001")
    files = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == sorted(["master", "check", next(keyring.key_ids())[6:] + ".key"])
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    wrapped = [path.stat().st_size for path in files if path.suffix == ".key"]
    assert wrapped == [1 + 12 + 32 + 16]


def test_a_secret_opens_only_for_its_purpose_and_tenant(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path / "keys")
    sealed = keyring.seal_secret("dkim", "10001", b"private")
    assert Keyring.open(tmp_path / "keys").open_secret("dkim", "10001", sealed) == b"private"
    for purpose, tenant, raw in (("webhook", "10001", sealed), ("dkim", "10002", sealed), ("dkim", "10001", b"\x01x")):
        with pytest.raises(ContentLostError):
            keyring.open_secret(purpose, tenant, raw)


def test_peppers_differ_by_purpose_and_stay_over_restarts(tmp_path: Path) -> None:
    one, two = Keyring.open(tmp_path / "keys"), Keyring.open(tmp_path / "keys")
    assert one.pepper("credential") == two.pepper("credential") != one.pepper("idempotency")
    assert len(one.pepper("credential")) == 32


def test_a_start_with_a_wrong_missing_or_open_master_key_says_how_to_mend_it(tmp_path: Path) -> None:
    Keyring.open(tmp_path / "keys")
    master = tmp_path / "keys" / "master"
    original = master.read_bytes()
    master.write_bytes(os.urandom(32))
    with pytest.raises(SetupError, match="does not fit"):
        Keyring.open(tmp_path / "keys")
    master.write_bytes(b"short")
    with pytest.raises(SetupError, match="5 bytes"):
        Keyring.open(tmp_path / "keys")
    master.write_bytes(original)
    master.chmod(0o644)
    with pytest.raises(SetupError, match="Everybody") as caught:
        Keyring.open(tmp_path / "keys")
    assert caught.value.fix.startswith("chmod 600")
    master.unlink()
    with pytest.raises(SetupError, match="is gone"):
        Keyring.open(tmp_path / "keys")


def test_a_configured_master_key_file_must_exist_and_is_used(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with pytest.raises(SetupError, match="cannot be read"):
        Keyring.open(tmp_path / "keys", file)
    file.write_bytes(bytes(32))
    file.chmod(0o400)
    sealed = Keyring.open(tmp_path / "keys", file).seal_secret("a", "b", b"x")
    assert Keyring.open(tmp_path / "elsewhere", file).open_secret("a", "b", sealed) == b"x"
    assert not (tmp_path / "keys" / "master").exists()


def test_many_processes_that_start_at_once_agree_on_all_keys(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from depesche.analytics.archive.keyring import Keyring\n"
        "k = Keyring.open(Path(sys.argv[1])); d = k.today('10001')\n"
        "print(k.pepper('x').hex(), d.seal(b'text', b'aad').hex())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "keys")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert len({pepper for pepper, _ in answers}) == 1
    keyring = Keyring.open(tmp_path / "keys")
    key = keyring.key(next(keyring.key_ids()))
    assert [key.open(bytes.fromhex(sealed), b"aad") for _, sealed in answers] == [b"text"] * 6
