"""Every command teaches with an example that fits it, gives data as JSON, and answers in the house's words."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperArgument, TyperGroup

from depesche.infra.load import load
from depesche.infra.local.home_lock import HomeLock, as_it_runs
from depesche.infra.reference import Command, all_commands
from tests.contract.typed import typed

COMMAND = str(Path(sys.executable).with_name("depesche"))
COMMANDS = {" ".join(words): command for words, command in all_commands()}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An empty home, and ports on which nobody answers."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DEPESCHE_")}
    return {**clean, "DEPESCHE_HOME": str(tmp_path / "home"), "DEPESCHE_PORT_OFFSET": "11871", "COLUMNS": "120"}


def from_the_shell(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of ours in a process of its own."""
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def examples(command: Command) -> list[list[str]]:
    """The words after ``depesche`` in each example of a command; pipes and alternatives divide them."""
    parts: list[list[str]] = [[]]
    for word in shlex.split((command.epilog or "").removeprefix("Example: ")):
        if word in ("|", "or", ">"):
            parts.append([])
        elif parts[-1] or "=" not in word:
            parts[-1].append(word)
    return [words[1:] for words in parts if words[:1] == ["depesche"]]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").strip().endswith((".", "!"))
    silent = [p.name for p in command.params if not getattr(p, "help", None) and p.name not in ("help", "json")]
    assert silent == []


@pytest.mark.parametrize("name", COMMANDS)
def test_its_example_can_be_typed(name: str) -> None:
    command = COMMANDS[name]
    shown = examples(command)
    assert shown, command.epilog
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    wanted = sum(1 for p in command.params if isinstance(p, TyperArgument) and p.required)
    for words in shown:
        path = name.split()
        assert words[: len(path)] == path, words
        rest = words[len(path) :]
        assert {word for word in rest if word.startswith("-") and len(word) > 1} <= options
        assert len(rest) >= wanted


@pytest.mark.parametrize("name", COMMANDS)
def test_it_gives_data_as_json(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in COMMANDS[name].params)


def test_help_is_the_same_from_the_shell(environment: dict[str, str]) -> None:
    whole = from_the_shell(environment, "--help")
    assert whole.returncode == 0
    nouns = {name.split()[0] for name in COMMANDS}
    assert [noun for noun in nouns if not re.search(rf"^  {noun}\b", whole.stdout, re.MULTILINE)] == []
    part = from_the_shell(environment, "domain", "create", "-h")
    assert "Example: depesche domain create" in part.stdout
    assert part.stderr == ""


def test_a_noun_alone_lists_its_verbs(environment: dict[str, str]) -> None:
    answer = typed(environment, "domain")
    assert "rotate" in answer.stdout + answer.stderr
    assert isinstance(COMMANDS["inbox"], TyperGroup)


def test_a_wrong_word_is_a_usage_error(environment: dict[str, str]) -> None:
    for words in (("nonsense",), ("domain", "nonsense"), ("search", "--nonsense"), ("show",)):
        answer = typed(environment, *words)
        assert answer.returncode == 2, words
        assert answer.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ("services",),
        ("topics",),
        ("config", "show"),
        ("config", "check"),
        ("config", "reference"),
        ("inbox",),
    ],
    ids=" ".join,
)
def test_json_is_one_object_per_line_and_nothing_else(environment: dict[str, str], words: tuple[str, ...]) -> None:
    answer = typed(environment, *words, "--json")
    assert answer.returncode == 0, answer.stderr
    for line in answer.stdout.splitlines():
        assert isinstance(json.loads(line), dict)
    assert answer.stdout or words == ("inbox",)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("status",), 1, "Nothing runs here"),
        (("down",), 3, "Nothing runs on"),
        (("inbox", "show"), 3, "Nothing has arrived"),
        (("search", "status:delivered"), 5, "Search is not available"),
        (("show", "01a2069f-6bec-7bdc-b4c6-0f890183e0e2"), 5, "Search is not available"),
        (("tables",), 5, "is not available"),
        (("search", "nonsense:1"), 4, "nonsense"),
        (("customer", "list"), 5, "Kafka does not answer"),
        (("topics", "--check"), 5, "Kafka does not answer"),
        (("rates",), 5, "Kafka does not answer"),
        (("alerts",), 5, "Kafka does not answer"),
        (("alerts", "--since", "yesteryear"), 4, "--since"),
        (("dnsbl", "check"), 1, "No blocklist is set"),
        (("dnsbl", "check", "mx1.example", "--zone", "bl.test"), 4, "is no IP address"),
        (("send", "--to", "ada@inbox.test"), 1, "Which key?"),
        (("serve", "nonsense"), 1, "There is no service nonsense"),
        (("classify", "/nonexistent.eml"), 1, "No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_where_nothing_runs_each_says_so_in_one_sentence(
    environment: dict[str, str], words: tuple[str, ...], code: int, said: str
) -> None:
    answer = typed(environment, *words)
    assert said in answer.stderr
    assert answer.returncode == code
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    assert len(answer.stderr.splitlines()) <= 2, answer.stderr


def test_a_condition_that_is_negated_is_no_row_of_options(environment: dict[str, str]) -> None:
    done = typed(environment, "search", "-status:delivered", "since:1h")
    assert done.returncode == 5, done.stderr
    wrong = typed(environment, "search", "-nonsense:x")
    assert "there is no field 'nonsense'" in wrong.stderr


def test_the_list_of_commands_cuts_no_sentence_off(environment: dict[str, str]) -> None:
    listed = typed({**environment, "COLUMNS": "80"}, "--help").stdout.split("--help")[1]
    assert "audit" in listed
    assert "..." not in listed


@pytest.mark.parametrize(
    "words", [("services", "--json"), ("down",), ("search", "nonsense:1"), ("show",)], ids=" ".join
)
def test_what_is_typed_here_is_what_the_shell_gets(environment: dict[str, str], words: tuple[str, ...]) -> None:
    here, there = typed(environment, *words), from_the_shell(environment, *words)
    assert (here.returncode, here.stdout, here.stderr) == (there.returncode, there.stdout, there.stderr)


def test_who_asks_does_not_wait_for_what_only_servers_need(environment: dict[str, str]) -> None:
    asked = from_the_shell({**environment, "PYTHONPROFILEIMPORTTIME": "1"}, "search", "status:delivered")
    assert asked.returncode == 5
    loaded = {line.rpartition("|")[2].strip() for line in asked.stderr.splitlines() if line.startswith("import time:")}
    assert "depesche.analytics.queries.search" in loaded
    assert loaded.isdisjoint(
        {"aiokafka", "aiosmtpd", "chdb", "fastapi", "faust", "numpy", "pyarrow", "uvicorn", "yara_x"}
    )


def test_a_second_terminal_finds_the_ports_of_what_runs_here(tmp_path: Path) -> None:
    here = {"DEPESCHE_HOME": str(tmp_path)}
    assert as_it_runs(load(here), here).settings.smtp.port == 2587
    lock = HomeLock(tmp_path)
    lock.take()
    try:
        lock.write({"port_offset": 1000})
        assert as_it_runs(load(here), here).settings.smtp.port == 3587
        named = {**here, "DEPESCHE_PORT_OFFSET": "0"}
        assert as_it_runs(load(named), named).settings.smtp.port == 2587
    finally:
        lock.release()
    assert as_it_runs(load(here), here).settings.smtp.port == 2587
