"""What comes back, on the whole stack: a real Postfix bounces later, providers complain about a mail taken off the wire."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import smtplib
import subprocess
import tempfile
import time
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from depesche.infra.local import sandbox
from depesche.infra.local.exim import USER, Exim
from depesche.infra.local.part import scratch_folder
from depesche.infra.local.sink.mailbox import list_mails
from depesche.schemas.return_key import HEADER
from tests import shapes

from .conftest import Stack

pytestmark = pytest.mark.live


def sent(stack: Stack, recipient: str, subject: str = "Your order") -> str:
    """A mail by REST; the id of its unit."""
    body = {"from": "Shop <hello@shop.test>", "to": [recipient], "subject": subject, "text": "It has shipped."}
    answer = stack.rest(body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["units"][0]["id"])


def story(stack: Stack, unit: str) -> dict[str, Any]:
    shown = stack.depesche("show", unit, "--json")
    return json.loads(shown.stdout) if shown.returncode == 0 else {"unit": {"status": ""}, "events": []}


def story_when(stack: Stack, unit: str, type_: str, seconds: float = 60) -> dict[str, Any]:
    """The story of a unit as soon as an event of this type is in it."""
    deadline = time.monotonic() + seconds
    while True:
        told = story(stack, unit)
        types = [event["type"] for event in told["events"]]
        if type_ in types:
            return told
        assert time.monotonic() < deadline, types
        time.sleep(0.2)


def comes_back(stack: Stack, content: bytes, recipient: str, sender: str = "") -> None:
    with smtplib.SMTP("127.0.0.1", stack.settings.returns.port, timeout=30) as client:
        client.sendmail(sender, [recipient], content)


def mailbox(stack: Stack) -> Path:
    return sandbox.sink_settings(stack.settings).mailbox


def needs_postfix(stack: Stack) -> None:
    reason = sandbox.postfix(stack.settings).available()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize(
    ("local", "code", "reply_class", "kind"),
    [("latebounce", "5.1.1", "recipient_unknown", "hard"), ("latefull", "5.2.2", "mailbox_full", "soft")],
)
def test_what_a_real_postfix_bounces_later_is_bounced(
    stack: Stack, local: str, code: str, reply_class: str, kind: str
) -> None:
    needs_postfix(stack)
    unit = sent(stack, f"{local}@inbox.test")
    told = story_when(stack, unit, "bounced")
    types = [event["type"] for event in told["events"]]
    assert types[-2:] == ["delivered", "bounced"]
    assert [event["final"] for event in told["events"][-2:]] == [True, False]
    found = told["unit"]
    assert (found["status"], found["final"], found["enhanced_code"]) == ("bounced", True, code)
    assert (found["reply_class"], found["kind"]) == (reply_class, kind)
    assert "mailbox" in found["reply_text"]
    shown = stack.depesche("show", unit).stdout
    assert "sent it back later" in shown or "später zurückgeschickt" in shown
    hits = stack.depesche("search", f"to:{local}@inbox.test status:bounced", "--json").stdout
    assert unit in hits


EXIM = """\
primary_hostname = mx.exim.test
exim_path = {home}/exim4
spool_directory = {home}/spool
log_file_path = {home}/log/%slog
pid_file_path = {home}/exim.pid
keep_environment =
host_lookup =
begin routers
back:
  driver = manualroute
  domains = {domain}
  route_list = * 127.0.0.1
  self = send
  transport = back
closed:
  driver = redirect
  allow_fail
  data = :fail: this account is closed, no such user here
begin transports
back:
  driver = smtp
  port = {port}
  hosts_require_tls = *
begin retry
* * F,1m,1s
"""


def test_what_a_real_exim_took_and_sends_back_is_bounced(stack: Stack, tmp_path: Path) -> None:
    program = Exim._program()
    if program is None or os.geteuid() != 0:
        pytest.skip("Exim does not run here")
    recipient = "exim@sandbox.test"
    unit = sent(stack, recipient)
    mail = stack.arrived(recipient)
    [path] = [mail.sender for mail in list_mails(mailbox(stack)) if recipient in mail.recipients]
    home = scratch_folder(Path(tempfile.gettempdir()), "exim", tmp_path)
    try:
        for name in ("spool", "log"):
            (home / name).mkdir()
        shutil.copy(program, home / "exim4")
        user = pwd.getpwnam(USER)
        for place in (home, *home.rglob("*")):
            os.chown(place, user.pw_uid, user.pw_gid)
        configuration = home / "exim.conf"
        returns = stack.settings.returns
        configuration.write_text(EXIM.format(home=home, domain=returns.domain, port=returns.port))
        command = [str(home / "exim4"), "-C", str(configuration), "-odi", "-oi", "-f", path, "ada@closed.test"]
        subprocess.run(command, input=mail, timeout=60, check=True, capture_output=True)
        told = story_when(stack, unit, "bounced")
    finally:
        shutil.rmtree(home)
    assert told["unit"]["status"] == "bounced"
    assert "closed" in told["unit"]["reply_text"]


def test_a_mail_off_the_wire_with_every_address_masked_finds_its_unit_in_each_shape(stack: Stack) -> None:
    units: dict[str, str] = {}
    for name, shape in shapes.COMPLAINTS.items():
        recipient = f"complains-{name.replace('_', '-')}@sandbox.test"
        units[name] = sent(stack, recipient)
        mail = stack.arrived(recipient)
        assert message_from_bytes(mail)[HEADER]
        comes_back(stack, shape(shapes.masked(mail)), f"fbl@{stack.settings.returns.domain}", "feedback@far.test")
    for name, unit in units.items():
        told = story_when(stack, unit, "complained")
        assert told["unit"]["status"] == "delivered", name
        assert told["events"][-1]["detail"]["suppress"] is True
    # The return path is on the wire what it is in the copy, and is one more way back.
    recipient = "verp@sandbox.test"
    unit = sent(stack, recipient)
    stack.arrived(recipient)
    [path] = [mail.sender for mail in list_mails(mailbox(stack)) if recipient in mail.recipients]
    assert path.startswith("b1-")
    assert path.endswith(f"@{stack.settings.returns.domain}")
    comes_back(stack, shapes.delivery_report(b"Subject: nothing of ours\r\n\r\n", "somebody@else.test"), path)
    assert story_when(stack, unit, "bounced")["unit"]["status"] == "bounced"
    assert story(stack, unit)["unit"]["mail_from"] == "hello@shop.test"


def test_swaks_is_refused_where_it_wants_to_pass_through(stack: Stack) -> None:
    port = str(stack.settings.returns.port)
    common = ["swaks", "--server", f"127.0.0.1:{port}", "--from", "a@far.test", "--quit-after", "RCPT", "--to"]
    for recipient in (
        "victim@elsewhere.test",
        "victim%elsewhere.test@returns.test",
        "b1-" + "a" * 55 + "@returns.test",
    ):
        try:
            done = subprocess.run([*common, recipient], capture_output=True, text=True, timeout=60, check=False)
        except FileNotFoundError:
            pytest.skip("swaks is not installed")
        assert "550 5." in done.stdout


def test_the_doctor_and_the_audit_know_of_it(stack: Stack) -> None:
    found = json.loads(stack.depesche("doctor", "--json").stdout.splitlines()[0])
    assert found
    text = stack.depesche("doctor").stdout
    assert f"return path 127.0.0.1:{stack.settings.returns.port}" in text
    deadline = time.monotonic() + 60
    while True:
        audit = stack.depesche("audit", "--json")
        if audit.returncode == 0 or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert audit.returncode == 0, audit.stdout
    report = json.loads(audit.stdout)
    assert report["balanced"]
    assert report["late_bounces"] >= 1
