"""What a newcomer does: paste the lines that `depesche up` prints, look at the mail, find it, read its story, see it proved."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from depesche.analytics.queries.grammar import FIELDS
from depesche.infra.local.doctor_machine import missing_programs
from tests.live.conftest import COMMAND, Stack
from tests.live.mailer import a_mail, logged_in

LOOK_SECONDS = 30
LINES = {
    "curl": "Hello from curl",
    **(
        {"printf": "Hello by SMTP"}
        if {"swaks", "Net::SSLeay"} & set(missing_programs())
        else {"swaks": "Hello from swaks"}
    ),
}
"""The first word of each printed line, and the subject of its mail; without swaks, curl speaks SMTP as well."""


def rows(stack: Stack, *arguments: str) -> list[dict[str, Any]]:
    """What a command gives as JSON."""
    answer = stack.depesche(*arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


def by_rest(stack: Stack, query: str) -> set[str]:
    """Units that the same query finds by REST; a command takes a second to start, and there are many fields."""
    answer = httpx.get(
        f"{stack.settings.rest_url}/v1/search",
        params={"q": query, "limit": 200},
        headers={"Authorization": f"Bearer {stack.demo.api_key}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return {unit["unit_id"] for unit in answer.json()["data"]}


def eventually(look: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What a look finds once it finds anything."""
    deadline = time.monotonic() + LOOK_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def delivered(stack: Stack) -> dict[str, Any]:
    """A mail by REST with all a customer may add, as search tells it when it has arrived."""
    body = {
        "from": "Demo Shop <hello@shop.test>",
        "to": ["grace@inbox.test"],
        "subject": "Compiler nanoseconds",
        "text": "Every step of this mail is a record.",
        "reference": "order-4711",
        "campaign_id": "spring-fair",
    }
    job = stack.rest(body).json()["id"]
    return eventually(lambda: rows(stack, "search", f"id:{job}", "status:delivered"))[0]


@pytest.fixture(scope="module")
def bounced(stack: Stack) -> dict[str, Any]:
    """A mail that the far side refused for good."""
    with logged_in(stack.settings, stack.demo) as client:
        client.send_message(a_mail("hardbounce@sandbox.test", "Nobody there"))
    return eventually(lambda: rows(stack, "search", "to:hardbounce@sandbox.test", "status:bounced"))[0]


@pytest.mark.parametrize("program", LINES)
def test_a_printed_line_works_when_it_is_pasted(stack: Stack, program: str) -> None:
    [line] = re.findall(rf"^  ({program} .*)$", stack.printed, re.MULTILINE)
    pasted = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert pasted.returncode == 0, pasted.stdout + pasted.stderr
    subject = LINES[program]
    [found] = eventually(lambda: rows(stack, "search", f'subject:"{subject}"', "status:delivered", "since:5m"))
    assert found["recipient"] == "ada@inbox.test"
    assert any(mail["subject"] == subject for mail in rows(stack, "inbox", "list", "--to", "ada@inbox.test"))


def test_the_mail_can_be_looked_at_as_it_arrived(stack: Stack, delivered: dict[str, Any]) -> None:
    [mail] = rows(stack, "inbox", "list", "--to", delivered["recipient"])
    [shown] = rows(stack, "inbox", "show", mail["id"])
    assert shown["headers"]["Subject"] == "Compiler nanoseconds"
    assert shown["text"].strip() == "Every step of this mail is a record."
    assert any("d=shop.test" in signature for signature in shown["dkim"])
    raw = stack.depesche("inbox", "raw", mail["id"])
    assert "DKIM-Signature: " in raw.stdout


def test_search_finds_it_by_each_field(stack: Stack, delivered: dict[str, Any], bounced: dict[str, Any]) -> None:
    queries = {
        "to": delivered["recipient"],
        "from": "hello@shop.test",
        "subject": "nanoseconds",
        "id": delivered["unit_id"],
        "status": "delivered",
        "code": "250",
        "provider": delivered["provider"],
        "host": delivered["host"],
        "account": delivered["account"],
        "campaign": "spring-fair",
        "reference": "order-4711",
        "domain": "shop.test",
        "interface": "rest",
        "ip": "127.0.0.1",
        "size": f"{delivered['size']}..{delivered['size']}",
        "address": delivered["recipient"],
        "text": "nanoseconds",
        "since": "1h",
        "until": "2100-01-01",
        "between": "2020-01-01..2100-01-01",
    }
    # The customer's number is for operators, a reason for mails that were dropped (test_infected).
    assert set(queries) | {"class", "tenant", "reason"} == set(FIELDS)
    for field, value in queries.items():
        assert delivered["unit_id"] in by_rest(stack, f'{field}:"{value}"'), field
    assert bounced["reply_class"]
    assert bounced["unit_id"] in by_rest(stack, f"class:{bounced['reply_class']}")
    [found] = rows(stack, "search", f"tenant:{stack.demo.tenant}", "subject:nanoseconds", "status:delivered")
    assert found["unit_id"] == delivered["unit_id"]


def test_search_by_something_else_does_not_find_it(stack: Stack, delivered: dict[str, Any]) -> None:
    for query in ("to:nobody@inbox.test", "subject:unheard", "status:dropped", "campaign:autumn", "until:2020-01-01"):
        assert delivered["unit_id"] not in by_rest(stack, query), query


def test_its_story_is_told_step_by_step(stack: Stack, delivered: dict[str, Any]) -> None:
    [story] = rows(stack, "show", delivered["unit_id"])
    assert [event["type"] for event in story["events"]] == ["accepted", "scanned", "signed", "delivered"]
    told = stack.depesche("show", delivered["job_id"])
    assert told.returncode == 0
    for word in ("Compiler nanoseconds", "by rest", "d1._domainkey.shop.test", "250"):
        assert word in told.stdout
    assert stack.depesche("show", "01a2069f-6bec-7bdc-b4c6-0f890183e0e2").returncode == 3


def test_tail_shows_what_happens_as_it_happens(stack: Stack) -> None:
    command = [COMMAND, "tail", "to:live@inbox.test", "--seconds", "20", "--json"]
    with subprocess.Popen(command, env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert b"Following" in following.stderr.readline()
        assert stack.depesche("send", "--to", "live@inbox.test").returncode == 0
        seen = []
        while "delivered" not in seen:
            line = following.stdout.readline()
            assert line, f"it ended after {seen}"
            seen.append(json.loads(line)["type"])
        following.terminate()
    assert set(seen) == {"accepted", "scanned", "signed", "delivered"}


def test_rates_are_counted_alike_by_the_agent_and_by_clickhouse(
    stack: Stack, delivered: dict[str, Any], bounced: dict[str, Any]
) -> None:
    def agreeing() -> list[dict[str, Any]]:
        # The agent and the sink each take a moment for what has just happened.
        answer = stack.depesche("rates", "--by", "outcome", "--check", "--json")
        return [json.loads(line) for line in answer.stdout.splitlines()] if answer.returncode == 0 else []

    counted = {(row["type"], row["provider"]) for row in eventually(agreeing)}
    assert {("delivered", delivered["provider"]), ("bounced", bounced["provider"])} <= counted


def test_status_names_every_process_and_each_is_ready(stack: Stack) -> None:
    found = {row["process"]: row for row in rows(stack, "status")}
    assert {"up", "broker", "engine", "doors", "workshop", "couriers", "analytics", "agents", "sandbox"} <= set(found)
    assert {row["state"] for row in found.values()} == {"ready"}
    assert stack.pids().items() <= {name: row["pid"] for name, row in found.items()}.items()


def test_the_doctor_finds_nothing_that_does_not_work(stack: Stack) -> None:
    found = rows(stack, "doctor")
    assert [finding for finding in found if finding["state"] == "fail"] == []
    asked = {finding["check"] for finding in found}
    assert {"broker", "topics", "groups", "engine", "tables", "sink", "names", "far side", "doors"} <= asked


def test_the_audit_proves_that_nothing_is_missing(stack: Stack, delivered: dict[str, Any]) -> None:
    assert delivered["final"]
    answer = stack.depesche("audit", "--json")
    assert answer.returncode == 0, answer.stdout
    assert json.loads(answer.stdout)["balanced"]
