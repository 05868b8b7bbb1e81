"""kill -9 of each process in turn while mail comes in: nothing accepted is lost, and every copy too many is accounted for."""

import collections
import json
import os
import signal
import time

import pytest

from depesche.infra.local import sandbox
from depesche.infra.local.sink.ground_truth import read_ground_truth
from tests.live.conftest import Stack
from tests.live.mailer import Mailer, a_mail, logged_in

VICTIMS = ("doors", "workshop", "couriers", "analytics", "broker", "agents", "engine", "clamd", "sandbox")
COUNT = 2000


def _ready_again(stack: Stack, victim: str, before: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        program = stack.programs()[victim]
        if program["state"] == "ready" and program["pid"] not in (before, None):
            return
        time.sleep(0.1)
    pytest.fail(f"{victim} did not come back: {stack.programs()[victim]}")


def _audited(stack: Stack) -> dict[str, object]:
    """The audit once nothing is in flight any more."""
    deadline = time.monotonic() + 120
    while True:
        done = stack.depesche("audit", "--sandbox", "--json")
        assert done.stdout, done.stderr
        report: dict[str, object] = json.loads(done.stdout)
        if not report["in_flight"] or time.monotonic() > deadline:
            return report
        time.sleep(1)


@pytest.mark.timeout(400)
def test_nothing_is_lost_when_each_process_is_killed_in_turn(stack: Stack) -> None:
    mailer = Mailer(stack.settings, stack.demo, COUNT)
    mailer.start()
    for number, victim in enumerate(VICTIMS, 1):
        while len(mailer.accepted) < COUNT * number // (len(VICTIMS) + 2):
            time.sleep(0.02)
        before = stack.programs()[victim]["pid"]
        os.kill(before, signal.SIGKILL)
        _ready_again(stack, victim, before)
    mailer.join(180)
    report = _audited(stack)
    assert report["balanced"], report["differences"]
    assert not report["in_flight"]
    assert not mailer.refused, "an outage was answered with a refusal"
    arrived: collections.Counter[str] = collections.Counter()
    for arrival in read_ground_truth(sandbox.sink_settings(stack.settings).ground_truth):
        if arrival.kept:
            arrived[arrival.message_id.strip("<>")] += 1
    lost = [id_ for id_ in mailer.accepted if not arrived[id_.strip("<>")]]
    assert not lost
    copies = sum(arrived[id_.strip("<>")] - 1 for id_ in set(mailer.accepted))
    ambiguous = report["ambiguous_attempts"]
    assert isinstance(ambiguous, dict)
    # A mail whose yes was lost with the door is sent again by the application: two jobs, not two copies of one.
    assert copies <= ambiguous["count"] + len(mailer.put_off) + mailer.threads * len(VICTIMS)


def test_the_rates_are_as_many_as_clickhouse_counts(stack: Stack) -> None:
    """After the kills above, or without them: the Faust agent's sums equal ClickHouse's counts to the unit."""
    with logged_in(stack.settings, stack.demo) as client:
        for name in ("ok", "hardbounce", "defer-1x"):
            client.send_message(a_mail(f"{name}@sandbox.test"))
    deadline = time.monotonic() + 60
    while True:
        done = stack.depesche("rates", "--by", "outcome", "--hours", "2", "--check", "--json")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        types = {row["type"] for row in rows}
        if (done.returncode == 0 and {"delivered", "bounced", "deferred"} <= types) or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert done.returncode == 0, done.stdout[-2000:]
    assert {"delivered", "bounced", "deferred"} <= types


def test_a_broker_that_stands_still_is_answered_at_once_and_noticed_when_it_returns(stack: Stack) -> None:
    broker = stack.programs()["broker"]["pid"]
    with logged_in(stack.settings, stack.demo) as client:
        client.send_message(a_mail("before@sandbox.test"))
        os.kill(broker, signal.SIGSTOP)
        try:
            codes = [_code(stack) for _ in range(3)]
            rest = stack.rest({"from": "hello@shop.test", "to": ["x@sandbox.test"], "subject": "s", "text": "t"})
        finally:
            os.kill(broker, signal.SIGCONT)
    assert set(codes) <= {421, 451}
    assert rest.status_code == 503
    assert "retry-after" in rest.headers
    deadline = time.monotonic() + 60
    while (code := _code(stack)) != 250 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert code == 250


def _code(stack: Stack) -> int:
    import smtplib

    try:
        with logged_in(stack.settings, stack.demo) as client:
            client.send_message(a_mail("during@sandbox.test"))
    except smtplib.SMTPResponseException as reply:
        return int(reply.smtp_code)
    except smtplib.SMTPServerDisconnected:
        return 421
    return 250
