"""A virus never leaves: the job is dropped with an event that names the engine, whatever the mail hides it in."""

import json
import time
from email.message import EmailMessage

import pytest

from depesche.infra.local.eicar import eicar
from tests.live.conftest import Stack
from tests.live.mailer import a_mail, logged_in


def _attached() -> EmailMessage:
    mail = a_mail("attached@sandbox.test", "infected attached")
    mail.add_attachment(eicar(), maintype="application", subtype="octet-stream", filename="invoice.pdf")
    return mail


def _nested() -> EmailMessage:
    mail = a_mail("nested@sandbox.test", "infected nested")
    mail.add_attachment(_attached())
    return mail


def _plain() -> EmailMessage:
    return a_mail("plain@sandbox.test", "infected plain", eicar().decode() + "\r\n")


@pytest.mark.parametrize("make", [_attached, _nested, _plain], ids=["attached", "nested", "plain"])
def test_an_infected_mail_is_dropped_and_says_so(make: object, stack: Stack) -> None:
    mail = make()  # type: ignore[operator]
    with logged_in(stack.settings, stack.demo) as client:
        client.send_message(mail)
    deadline = time.monotonic() + 30
    rows: list[dict[str, object]] = []
    while time.monotonic() < deadline and not rows:
        out = stack.depesche("search", f"to:{mail['To']}", "status:dropped", "since:5m", "--json").stdout
        rows = [json.loads(line) for line in out.splitlines()]
        time.sleep(0.3)
    assert rows
    assert rows[0]["reason"] == "virus_detected"
    story = json.loads(stack.depesche("show", str(rows[0]["unit_id"]), "--json").stdout)
    assert [event["type"] for event in story["events"]] == ["accepted", "dropped"]
    assert story["events"][1]["finding"]
