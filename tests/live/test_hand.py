"""The operator's hand on the running stack: how soon after an order the last mail leaves, told by the log's own times."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from datetime import datetime
from typing import Any

import httpx
import pytest
from aiokafka import TopicPartition

from depesche.analytics.log.client import full_name, reader
from depesche.schemas.codec import decode
from depesche.schemas.records import EventType, MailEvent
from depesche.schemas.settings import Settings
from depesche.schemas.topics import OUTCOMES
from tests.live.conftest import Stack
from tests.live.mailer import Mailer

EFFECTIVE_MS = 5_000
COUNT = 1_500


async def _outcomes(settings: Settings) -> list[MailEvent]:
    """Every outcome in the log."""
    consumer = reader(settings, "test")
    await consumer.start()
    try:
        name = full_name(settings.kafka, OUTCOMES.name)
        places = [TopicPartition(name, number) for number in range(settings.kafka.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends, found = await consumer.end_offsets(places), []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [decode(MailEvent, record.value) for record in records]
        return found
    finally:
        await consumer.stop()


def _told(stack: Stack, *words: str) -> dict[str, Any]:
    done = stack.depesche(*words, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[0]))


@pytest.mark.timeout(400)
def test_nothing_leaves_any_more_five_seconds_after_an_account_was_dropped(stack: Stack) -> None:
    mailer = Mailer(stack.settings, stack.demo, COUNT)
    begun = int(time.time() * 1000)
    mailer.start()
    while len(mailer.accepted) < COUNT // 3:
        time.sleep(0.02)
    order = _told(stack, "control", "drop", "--account", stack.demo.account, "--reason", "a live test", "--yes")
    ordered_at = round(datetime.fromisoformat(order["at"]).timestamp() * 1000)
    try:
        mailer.join(200)
        deadline = time.monotonic() + 120
        while (report := _told_audit(stack))["in_flight"] and time.monotonic() < deadline:
            time.sleep(1)
    finally:
        lifted = stack.depesche("control", "lift", order["id"])
    assert lifted.returncode == 0, lifted.stderr
    assert report["balanced"], report["differences"]
    ends = [
        event
        for event in asyncio.run(_outcomes(stack.settings))
        if event.account == stack.demo.account and event.occurred_at >= begun
    ]
    counted = Counter(event.type for event in ends)
    latest = max((event.occurred_at for event in ends if event.type is EventType.DELIVERED), default=0) - ordered_at
    print(f"{dict(counted)}; the last one was delivered {latest} ms after the order was given")
    assert counted[EventType.CANCELLED] > COUNT // 4
    assert latest < EFFECTIVE_MS
    cancelled = next(event for event in ends if event.type is EventType.CANCELLED)
    shown = stack.depesche("show", cancelled.unit_id)
    assert "cancelled" in shown.stdout
    assert order["id"] in shown.stdout
    assert "a live test" in shown.stdout


def _told_audit(stack: Stack) -> dict[str, Any]:
    done = stack.depesche("audit", "--sandbox", "--json")
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


def test_what_is_suspended_stands_in_the_queue_until_it_is_resumed(stack: Stack) -> None:
    order = _told(stack, "control", "suspend", "--domain", "inbox.test", "--reason", "the far side asks")
    body = {"from": "hello@shop.test", "to": ["held@inbox.test"], "subject": "Held", "text": "t"}
    assert stack.rest(body).status_code == 202
    deadline = time.monotonic() + 30
    while True:
        done = stack.depesche("queue", "--by", "why", "--domain", "inbox.test", "--json")
        whys = {row["name"] for row in map(json.loads, done.stdout.splitlines())}
        if f"suspended {order['id']}" in whys or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert f"suspended {order['id']}" in whys, done.stdout + done.stderr
    resumed = stack.depesche("control", "resume", "--domain", "inbox.test")
    assert resumed.returncode == 0, resumed.stderr
    assert b"Held" in stack.arrived("held@inbox.test", 30)


def test_a_locked_account_is_refused_within_seconds(stack: Stack) -> None:
    account = _told(stack, "account", "create", "soon locked", "--interface", "rest")["id"]
    key = _told(stack, "key", "create", "--account", account)["token"]
    body = {"from": "hello@shop.test", "to": ["locked@sandbox.test"], "subject": "s", "text": "t"}

    def post() -> int:
        return httpx.post(
            f"{stack.settings.rest_url}/v1/emails", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30
        ).status_code

    assert post() == 202
    assert _told(stack, "account", "lock", account)["status"] == "locked"
    locked_at = time.monotonic()
    while post() == 202 and time.monotonic() < locked_at + EFFECTIVE_MS / 1000:
        time.sleep(0.1)
    assert post() == 401
    assert _told(stack, "account", "unlock", account)["status"] == "active"
    while (code := post()) != 202 and time.monotonic() < locked_at + 30:
        time.sleep(0.1)
    assert code == 202
