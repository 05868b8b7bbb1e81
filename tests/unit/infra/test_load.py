"""Settings come from variables, files and defaults; each remembers where from, and what is wrong is named."""

from pathlib import Path

import pytest

from depesche.infra.load import all_settings, load
from depesche.infra.reference import describe
from depesche.schemas.errors import SetupError


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"DEPESCHE_HOME": str(tmp_path)}


def production(tmp_path: Path) -> dict[str, str]:
    return {
        "DEPESCHE_HOME": str(tmp_path),
        "DEPESCHE_ENVIRONMENT": "production",
        "DEPESCHE_SANDBOX__ENABLED": "false",
        "DEPESCHE_MASTER_KEY_FILE": str(tmp_path / "master"),
        "DEPESCHE_SMTP__CERTIFICATE": str(tmp_path / "chain.pem"),
        "DEPESCHE_SMTP__PRIVATE_KEY": str(tmp_path / "key.pem"),
        "DEPESCHE_CLICKHOUSE__URL": "http://store:8123",
        "DEPESCHE_CLICKHOUSE__PASSWORD": "s3cret",
    }


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "depesche.toml").write_text('log_level = "debug"\n[kafka]\nport = 5001\npartitions = 8\n')
    loaded = load({**home, "DEPESCHE_KAFKA__PORT": "5002"})
    assert (loaded.settings.kafka.port, loaded.source("kafka.port")) == (5002, "DEPESCHE_KAFKA__PORT")
    assert (loaded.settings.kafka.partitions, loaded.source("kafka.partitions")) == (8, str(tmp_path / "depesche.toml"))
    assert (loaded.settings.kafka.replication, loaded.source("kafka.replication")) == (1, "default")
    assert loaded.settings.log_level == "debug"


def test_another_file_can_be_named_and_must_be_there(home: dict[str, str], tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[rest]\nport = 9000\n")
    assert load({**home, "DEPESCHE_CONFIG": str(other)}).settings.rest.port == 9000
    with pytest.raises(SetupError, match="does not exist"):
        load({**home, "DEPESCHE_CONFIG": str(tmp_path / "nowhere.toml")})


def test_a_damaged_file_is_named_with_its_line(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "depesche.toml").write_text("[kafka\nport = 1\n")
    with pytest.raises(SetupError, match=r"depesche\.toml cannot be read: .*line 1"):
        load(home)


def test_an_unknown_name_in_the_file_is_refused_with_a_suggestion(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "depesche.toml").write_text("[kafka]\nprot = 1\n")
    with pytest.raises(SetupError, match=r"kafka\.prot .* is no setting, did you mean kafka\.port"):
        load(home)


def test_lists_are_written_with_commas_or_as_json(home: dict[str, str]) -> None:
    assert load({**home, "DEPESCHE_SCAN__ENGINES": "yara, clamav"}).settings.scan.engines == ("yara", "clamav")
    assert load({**home, "DEPESCHE_SCAN__ENGINES": '["yara"]'}).settings.scan.engines == ("yara",)
    assert load({**home, "DEPESCHE_DELIVER__SOURCE_IPS": ""}).settings.deliver.source_ips == ()


def test_every_wrong_value_is_named_with_its_source(home: dict[str, str]) -> None:
    with pytest.raises(SetupError) as caught:
        load({**home, "DEPESCHE_KAFKA__PORT": "many", "DEPESCHE_LOG_LEVEL": "loud"})
    assert "kafka.port (from DEPESCHE_KAFKA__PORT)" in str(caught.value)
    assert "log_level (from DEPESCHE_LOG_LEVEL)" in str(caught.value)


def test_an_unknown_variable_is_a_warning_with_a_suggestion(home: dict[str, str]) -> None:
    loaded = load({**home, "DEPESCHE_KAFKA__PROT": "1", "DEPESCHE_CRASHPOINT": "A1", "OTHER": "x"})
    assert loaded.warnings == ("DEPESCHE_KAFKA__PROT is set but is no setting; did you mean DEPESCHE_KAFKA__PORT?",)


def test_a_secret_may_stand_in_a_file_and_is_never_shown(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    loaded = load({**home, "DEPESCHE_KAFKA__SASL_PASSWORD_FILE": str(tmp_path / "password")})
    assert loaded.settings.kafka.sasl_password.get_secret_value() == "s3cret"
    assert loaded.warnings == ()
    rows = {row["setting"]: row for row in describe(loaded)}
    assert rows["kafka.sasl_password"]["value"] == "(set)"
    assert "s3cret" not in str(rows)
    with pytest.raises(SetupError, match="cannot be read"):
        load({**home, "DEPESCHE_KAFKA__SASL_PASSWORD_FILE": str(tmp_path / "nowhere")})


def test_a_group_is_no_value(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "depesche.toml").write_text("kafka = 5\n")
    with pytest.raises(SetupError, match="kafka"):
        load({**home, "DEPESCHE_KAFKA__PORT": "1"})


def test_the_offset_moves_every_port_of_ours_that_was_not_set(home: dict[str, str]) -> None:
    plain, moved = load(home), load({**home, "DEPESCHE_PORT_OFFSET": "100", "DEPESCHE_REST__PORT": "9000"})
    for setting in all_settings():
        if setting.is_port and setting.path != "rest.port":
            before, after = plain.value(setting.path), moved.value(setting.path)
            assert after == (before + 100 if before else 0), setting.path
    assert moved.settings.rest.port == 9000


def test_an_offset_that_leads_past_the_last_port_is_refused(home: dict[str, str]) -> None:
    with pytest.raises(SetupError, match="which is no port"):
        load({**home, "DEPESCHE_REST__PORT": "70000"})
    with pytest.raises(SetupError, match="are both 19092"):
        load({**home, "DEPESCHE_REST__PORT": "19092"})


def test_the_sandbox_implies_the_way_to_it_and_yields_to_what_is_set(home: dict[str, str]) -> None:
    inside = load(home).settings
    assert inside.deliver.port == inside.sandbox.smtp_port
    assert inside.deliver.allow_private
    assert inside.dns.servers == (f"127.0.0.1:{inside.sandbox.dns_port}",)
    outside = load({**home, "DEPESCHE_SANDBOX__ENABLED": "false"}).settings
    assert (outside.deliver.port, outside.deliver.allow_private, outside.dns.servers) == (25, False, ())
    assert load({**home, "DEPESCHE_DELIVER__PORT": "2500"}).settings.deliver.port == 2500


def test_the_self_made_password_of_the_engine_is_found(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "clickhouse-password").write_text("made")
    loaded = load(home)
    assert loaded.settings.clickhouse.password.get_secret_value() == "made"
    assert loaded.source("clickhouse.password").startswith("self-made")
    outside = load({**home, "DEPESCHE_CLICKHOUSE__URL": "http://store:8123"})
    assert outside.settings.clickhouse.password.get_secret_value() == ""


def test_production_takes_its_own_secrets_and_no_sandbox(tmp_path: Path) -> None:
    assert load(production(tmp_path)).settings.environment == "production"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("DEPESCHE_SANDBOX__ENABLED", "true", "sandbox.enabled must be false"),
        ("DEPESCHE_MASTER_KEY_FILE", None, "master_key_file must be set"),
        ("DEPESCHE_SMTP__PRIVATE_KEY", None, "smtp.private_key must be set"),
        ("DEPESCHE_CLICKHOUSE__PASSWORD", None, "clickhouse.password must be set"),
        ("DEPESCHE_ARCHIVE__FSYNC", "false", "archive.fsync must be true"),
        ("DEPESCHE_DELIVER__ALLOW_PRIVATE", "true", "deliver.allow_private must be false"),
    ],
)
def test_production_refuses_local_ways(tmp_path: Path, variable: str, value: str | None, said: str) -> None:
    environment = production(tmp_path)
    environment.pop(variable, None)
    if value is not None:
        environment[variable] = value
    with pytest.raises(SetupError, match=said):
        load(environment)
