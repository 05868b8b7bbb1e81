"""The suppression fold in production form, on real Kafka: exact after three kills, equal to its replay, per customer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from depesche.analytics.log.client import full_name
from depesche.analytics.suppressions.requests import Recipient, added, lifted
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.codec import encode
from depesche.schemas.identity import recipient_key
from depesche.schemas.records import (
    EventType,
    SuppressionAction,
    SuppressionReason,
    SuppressionRequest,
    SuppressionState,
)
from depesche.schemas.service import now_ms
from depesche.schemas.topics import SUPPRESSION_REQUESTS, SUPPRESSIONS, partition_of
from depesche.streams.agents.suppression_replay import Verdict, verify
from depesche.streams.mail.suppression import after_outcome
from depesche.streams.mail.suppression_facts import Policy
from tests.contract.suppression_lab import FULL, Lab, load, opened, secret_of

DAY_MS = 86_400_000


async def replayed(lab: Lab) -> Verdict:
    verdict = await verify(lab.settings, lambda *_: None)
    assert verdict.differences == []
    assert verdict.cut_off == verdict.other_policy == 0
    return verdict


@pytest.mark.long
async def test_a_thousand_hard_bounces_suppress_exactly_those_whatever_is_killed(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    async with opened(kafka_broker, tmp_path, "suppress-kill.") as lab, lab.book() as book:
        events, dead = load(lab, 1000, seed=7)

        async def saying() -> None:
            for begin in range(0, len(events), 100):
                await lab.say(*events[begin : begin + 100])
                # As after the restart of a courier: what was said shortly before is said again.
                await lab.say(*events[max(0, begin - 20) : begin])
                await asyncio.sleep(0.15)

        lab.start()
        speaking = asyncio.create_task(saying())
        for share in (0.1, 0.35, 0.6):
            await lab.until(lambda share=share: len(list(book.entries("10001"))) >= len(dead) * share)  # type: ignore[misc]
            lab.kill()
            lab.start()
        await speaking
        await lab.until(lambda: len(list(book.entries(None))) >= len(dead))
        verdict = await replayed(lab)
        await book.catch_up()
        found = {entry.recipient_key: entry for entry in book.entries(None)}
        assert found.keys() == dead
        assert verdict.compared == len(dead)
        assert all(entry.state is SuppressionState.ACTIVE for entry in found.values())
        # An undisturbed run: the rules alone, over what each partition holds, in its order.
        policy, undisturbed, offsets = Policy.of(lab.settings.suppression), {}, dict.fromkeys(dead, -1)
        for event in {event.event_id: event for event in events}.values():
            key = event.recipient_key
            if key in dead:
                offsets[key] += 1
                after = after_outcome(undisturbed.get(key), event, policy, 0, offsets[key])
                undisturbed[key] = after or undisturbed.get(key)
        assert {k: replace(e, watermarks=()) for k, e in found.items()} == {
            k: replace(e, watermarks=()) for k, e in undisturbed.items() if e is not None
        }


async def test_what_people_ask_is_taken_and_survives_a_kill(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    async with opened(kafka_broker, tmp_path, "suppress-hand.") as lab, lab.book() as book:
        lab.start()
        ada = Recipient("10001", recipient_key(secret_of("10001"), "ada@here.test"), "ada@here.test")
        today = lab.keyring.today("10001")
        asked = await lab.requests.send(
            added(ada, today, now_ms(), "me", "a letter", reason=SuppressionReason.MANUAL, days=0)
        )
        entry = await book.wait_for("10001", asked, 30)
        assert (entry.state, entry.reason, entry.until) == (SuppressionState.ACTIVE, SuppressionReason.MANUAL, None)
        assert book.blocking("10001", ada.key) == entry
        for _ in range(2):  # Said twice of one unit, it counts once.
            asked = await lab.requests.blocked(entry, "unit.0", now_ms(), "test")
        lab.kill()
        lab.start()
        asked = await lab.requests.blocked(entry, "unit.1", now_ms(), "test")
        assert (await book.wait_for("10001", asked, 30)).blocked == 2
        asked = await lab.requests.send(lifted(ada, now_ms(), "me", "another letter"))
        assert (await book.wait_for("10001", asked, 30)).state is SuppressionState.LIFTED
        assert book.blocking("10001", ada.key) is None
        await replayed(lab)


async def test_the_same_address_of_two_customers_is_two_recipients(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    async with opened(kafka_broker, tmp_path, "suppress-two.") as lab, lab.book() as book:
        lab.start()
        await lab.say(lab.outcome("ada@here.test", tenant="10001"), lab.outcome("bob@here.test", tenant="20002"))
        await lab.until(lambda: len(list(book.entries(None))) == 2)

        def blocked(tenant: str, address: str) -> bool:
            return book.blocking(tenant, recipient_key(secret_of(tenant), address), book.person(address)) is not None

        assert blocked("10001", "ada@here.test")
        assert not blocked("20002", "ada@here.test")
        assert blocked("20002", "Bob@here.test")
        assert [entry.tenant for entry in book.entries("10001")] == ["10001"]


async def test_a_global_list_knows_the_person_whoever_wrote(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    async with opened(kafka_broker, tmp_path, "suppress-all.", scope="global") as lab, lab.book() as book:
        lab.start()
        ada = book.person("ada@here.test")
        await lab.say(
            lab.outcome("ada@here.test", tenant="10001", person=ada, **FULL),
            lab.outcome("ada@here.test", EventType.COMPLAINED, tenant="20002", person=ada),
        )
        await lab.until(lambda: len(list(book.entries(None))) == 2)
        for tenant in ("10001", "20002", "30003"):
            found = book.blocking(tenant, recipient_key(secret_of(tenant), "ada@here.test"), ada)
            assert found is not None
            assert (found.tenant, found.reason) == ("20002", SuppressionReason.COMPLAINED)


async def test_it_ends_by_itself_and_a_blocked_send_puts_the_end_off(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    now = [now_ms()]
    async with (
        opened(kafka_broker, tmp_path, "suppress-end.") as lab,
        lab.book(clock=lambda: now[0]) as book,
    ):
        lab.start()
        full = lab.outcome("full@here.test", at=now[0], **FULL)
        key = full.recipient_key
        await lab.say(full)
        await lab.until(lambda: book.blocking("10001", key))
        now[0] += DAY_MS - 1
        entry = book.blocking("10001", key)
        assert entry is not None
        asked = await lab.requests.blocked(entry, "unit.0", now[0], "test")
        renewed = await book.wait_for("10001", asked)
        assert renewed.until == now[0] + DAY_MS
        now[0] += DAY_MS - 1
        assert book.blocking("10001", key) is not None
        now[0] += 1
        assert book.blocking("10001", key) is None
        await replayed(lab)


async def test_the_replay_tells_what_the_log_does_not_say(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    async with opened(kafka_broker, tmp_path, "suppress-forged.") as lab, lab.book() as book:
        lab.start()
        await lab.say(lab.outcome("ada@here.test"), lab.outcome("bob@here.test"))
        await lab.until(lambda: len(list(book.entries(None))) == 2)
        forged, taken_out = book.entries("10001")
        target = full_name(lab.settings.kafka, SUPPRESSIONS.name)
        for entry, value in ((forged, encode(replace(forged, blocked=7))), (taken_out, None)):
            place = partition_of(entry.recipient_key, lab.settings.kafka.partitions)
            await lab.out.send_and_wait(target, value, key=entry.recipient_key.encode(), partition=place)
        verdict = await verify(lab.settings, lambda *_: None)
        assert verdict.differing == 2
        assert {(d.recipient_key, d.field) for d in verdict.differences} == {
            (forged.recipient_key, "blocked"),
            (taken_out.recipient_key, "entry"),
        }


async def test_forgetting_is_a_record_and_is_replayed(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    async with opened(kafka_broker, tmp_path, "suppress-sweep.") as lab, lab.book() as book:
        lab.start()
        ended = lab.outcome("full@here.test", at=now_ms() - 3 * DAY_MS, **FULL)
        dead = lab.outcome("ada@here.test")
        await lab.say(ended, dead)
        await lab.until(lambda: len(list(book.entries(None))) == 2)
        for partition in range(2):
            sweep = SuppressionRequest(request_id=f"s/{partition}", action=SuppressionAction.SWEEP, at=now_ms())
            await lab.out.send_and_wait(
                full_name(lab.settings.kafka, SUPPRESSION_REQUESTS.name), encode(sweep), key=b"", partition=partition
            )
        await lab.until(lambda: len(list(book.entries(None))) == 1)
        assert book.blocking("10001", dead.recipient_key) is not None
        await replayed(lab)
