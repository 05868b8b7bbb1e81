"""The doctor finds what is wrong on a machine where nothing runs, says what to do, and changes nothing."""

import json
import os
import random
import re
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from depesche.analytics.store import sink
from depesche.infra.cli.doctor import all_checks
from depesche.infra.load import load
from depesche.infra.local.doctor import Case
from depesche.infra.local.doctor_far_side import scanners
from depesche.infra.local.doctor_log import GROUPS
from depesche.infra.local.doctor_machine import PROGRAMS, ports
from depesche.streams.agents.app import APP_ID
from depesche.streams.stages import prepare, retry
from depesche.streams.stages.deliver import DeliverStage
from tests.contract.typed import typed

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DEPESCHE_")}
    offset = str(random.randrange(8_000, 13_000, 10))
    return {**clean, "DEPESCHE_HOME": str(tmp_path / "home"), "DEPESCHE_PORT_OFFSET": offset}


def examined(environment: Mapping[str, str], **variables: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Exit code, and the findings by check."""
    outcome = typed({**environment, **variables}, "doctor", "--json")
    found: dict[str, list[dict[str, str]]] = {}
    for line in outcome.stdout.splitlines():
        finding = json.loads(line)
        found.setdefault(finding["check"], []).append(finding)
    assert found, outcome.stderr
    return outcome.returncode, found


def test_a_fresh_machine_is_well_and_what_does_not_run_is_said(environment: dict[str, str]) -> None:
    code, found = examined(environment)
    assert code == 0, found
    [stack] = found["stack"]
    assert stack["state"] == "warn"
    assert "does not run" in stack["sentence"]
    assert stack["fix"] == "depesche up"
    assert not {"broker", "topics", "engine", "doors"} & set(found)
    assert not Path(environment["DEPESCHE_HOME"]).exists(), "the doctor has made a home"


def test_every_finding_that_is_not_well_has_a_fix(environment: dict[str, str]) -> None:
    _, found = examined(environment, DEPESCHE_SMPT__PORT="1")
    findings = [finding for findings in found.values() for finding in findings]
    assert {finding["state"] for finding in findings} >= {"ok", "warn"}
    for finding in findings:
        assert finding["sentence"].endswith((".", "?"))
        assert bool(finding["fix"]) == (finding["state"] != "ok"), finding
    assert "did you mean DEPESCHE_SMTP__PORT" in found["settings"][0]["sentence"]


def test_a_configuration_that_cannot_be_is_the_only_finding(environment: dict[str, str]) -> None:
    code, found = examined(environment, DEPESCHE_KAFKA__PARTITIONS="many")
    assert code == 1
    assert list(found) == ["settings"]
    assert "kafka.partitions" in found["settings"][0]["sentence"]


def test_open_keys_a_taken_port_and_half_a_home_are_failures(environment: dict[str, str]) -> None:
    home = Path(environment["DEPESCHE_HOME"])
    (home / "keys").mkdir(parents=True)
    master = home / "keys" / "master"
    master.write_bytes(b"k" * 32)
    master.chmod(0o644)
    (home / "clickhouse" / "data" / "metadata").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, found = examined(environment, DEPESCHE_SMTP__PORT=str(port))
    assert code == 1
    assert found["keys"][0]["state"] == "fail"
    assert f"chmod go-rwx {home / 'keys'} {master}" == found["keys"][0]["fix"]
    assert found["ports"][0]["state"] == "fail"
    assert str(port) in found["ports"][0]["sentence"]
    assert "the store is there, but the log" in found["home"][0]["sentence"]


async def test_what_was_installed_after_the_start_is_not_expected_to_answer(
    environment: dict[str, str],
) -> None:
    # A stack that was started without ClamAV and Postfix, on a machine that may have them by now.
    case = Case(load(environment), os.getpid(), {"broker": {"state": "ready", "pid": os.getpid()}})
    assert case.parts() == {"broker"}
    findings = [*await scanners(case), *await ports(case)]
    assert not [finding for finding in findings if "ClamAV)" in finding.sentence]
    [clamav] = [finding for finding in findings if finding.sentence.startswith("ClamAV")]
    assert (clamav.state, "YARA-X only" in clamav.sentence) == ("warn", True)


def test_an_outside_log_that_does_not_answer_is_a_failure(environment: dict[str, str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        code, found = examined(
            environment, DEPESCHE_KAFKA__BOOTSTRAP=address, DEPESCHE_CLICKHOUSE__URL=f"http://{address}"
        )
    assert code == 1
    for check in ("broker", "topics", "groups", "engine", "tables"):
        assert found[check][0]["state"] == "fail", check


def test_the_words_of_the_doctor_are_those_of_the_parts() -> None:
    assert set(GROUPS) == {prepare.Prepare.name, DeliverStage.name, retry.GROUP, sink.GROUP, APP_ID}
    assert tuple(topic.name for topic in GROUPS[sink.GROUP]) == sink.TOPICS
    assert len(all_checks()) == len(set(all_checks()))


ONLY_FOR_TESTS = {"unbound", "exim4-daemon-light"}


def test_setup_and_doctor_name_the_same_programs() -> None:
    script = (CHECKOUT / "infra" / "dev" / "setup.sh").read_text()
    line = re.search(r"for pair in ((?:.|\\\n)*?); do", script)
    assert line is not None
    packages = {pair.partition("=")[2] for pair in line[1].replace("\\\n", " ").split()}
    assert packages - ONLY_FOR_TESTS == set(PROGRAMS.values())
