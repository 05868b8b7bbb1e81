"""The whole line of couriers under TLS policies: what the log says of each unit, and what is counted for reports."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from typer.testing import CliRunner

from depesche.analytics.log.tls_counts import read_tls_counts
from depesche.infra.cli.main import build
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.records import MailUnit
from depesche.schemas.service import now_ms
from depesche.streams.mail.tls_report import day_of
from tests.contract.outbox import PARTITIONS, Outbox, detail, opened
from tests.contract.tls_world import World, policy_text, said, world

__all__ = ["world"]

PREFIXES = (f"tls{number}." for number in itertools.count())


@pytest_asyncio.fixture
async def outbox(kafka_broker: KafkaBroker, world: World, tmp_path: Path) -> AsyncIterator[Outbox]:
    kafka = {"bootstrap": kafka_broker.bootstrap_servers, "topic_prefix": next(PREFIXES), "partitions": PARTITIONS}
    settings = world.settings(tmp_path, kafka=kafka)
    quick = settings.deliver.model_copy(update={"time_scale": 0.005, "idle_seconds": 2.0})
    async with opened(settings.model_copy(update={"deliver": quick})) as made:
        yield made


async def _shape(world: World) -> None:
    """Two neighbours on the same Exim and the same host: one asks for what the host cannot give, the other for nothing."""
    if "plain-expired-exim.test" in world.records["test."]:
        return
    for domain in ("plain-expired-exim.test", "enforce-expired-exim.test"):
        lines = (f"{domain}. 60 IN MX 10 mx.neighbours.test.",)
        await world.publish("test.", *lines)
    await world.publish("test.", f"mx.neighbours.test. 60 IN A {world.address('expired', 'exim')}")
    await world.sts("enforce-expired-exim.test", said(policy_text("enforce", "mx.neighbours.test")))
    await world.domain("testing-wrong-postfix.test", "wrong", "postfix")
    await world.sts("testing-wrong-postfix.test", said(policy_text("testing", "*.testing-wrong-postfix.test")))
    tlsa = f"_25._tcp.mx.ee-self-postfix.test. 60 IN TLSA {world.tlsa('self')}"
    await world.domain("ee-self-postfix.test", "self", "postfix", tlsa)
    await world.domain("plain-none-exim.test", "none", "exim")


async def _told(outbox: Outbox, units: list[MailUnit]) -> dict[str, tuple[str, str, str]]:
    ends = {}
    for unit in units:
        end = (await outbox.told(unit))[-1]
        found = detail(end)
        ends[f"{unit.tls} {unit.recipient_domain}"] = (end.type.value, found.tls_policy, found.reply_class)
    return ends


async def test_the_log_says_which_policy_was_in_force_and_the_report_what_came_of_it(
    outbox: Outbox, world: World
) -> None:
    await _shape(world)
    mails = ["ada@plain-expired-exim.test", "ada@testing-wrong-postfix.test", "ada@ee-self-postfix.test"]
    async with outbox.couriers():
        units = await outbox.units(*mails)
        short = {"expires_at": now_ms() + 10_000}
        units += await outbox.units("ada@enforce-expired-exim.test", **short)
        units += await outbox.units("ada@plain-none-exim.test")
        units += await outbox.units("ada@plain-none-exim.test", tls="must", **short)
        await outbox.all_final()
    assert await _told(outbox, units) == {
        "may plain-expired-exim.test": ("delivered", "may", ""),
        "may enforce-expired-exim.test": ("expired", "sts-enforce", "tls"),
        "may testing-wrong-postfix.test": ("delivered", "sts-testing", ""),
        "may ee-self-postfix.test": ("delivered", "dane", ""),
        "may plain-none-exim.test": ("delivered", "may", ""),
        "must plain-none-exim.test": ("expired", "must", "tls"),
    }
    counts = await read_tls_counts(outbox.settings, day_of(now_ms()))
    kinds = {(count.domain, count.kind, count.result) for count in counts}
    assert kinds == {
        ("plain-expired-exim.test", "no-policy-found", ""),
        ("enforce-expired-exim.test", "sts", "certificate-expired"),
        ("testing-wrong-postfix.test", "sts", "certificate-host-mismatch"),
        ("ee-self-postfix.test", "tlsa", ""),
        ("plain-none-exim.test", "no-policy-found", "starttls-not-supported"),
    }
    attempts = [event for unit in units[3:4] for event in await outbox.told(unit)]
    tried = [event for event in attempts if detail(event).step == "starttls"]
    [failed] = [count.count for count in counts if count.domain == "enforce-expired-exim.test"]
    assert failed == len(tried) > 0


def _environment(outbox: Outbox, world: World) -> dict[str, str]:
    settings = outbox.settings
    return {
        "DEPESCHE_HOME": str(settings.home),
        "DEPESCHE_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "DEPESCHE_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "DEPESCHE_DNS__SERVERS": f"127.0.0.1:{world.resolver_port}",
        "DEPESCHE_DNS__VALIDATING": "true",
        "DEPESCHE_DELIVER__ALLOW_PRIVATE": "true",
        "DEPESCHE_TLS__CA_FILE": str(world.authority.root),
        "DEPESCHE_TLS__STS_PORT": str(world.https_port),
        "DEPESCHE_TLS__ORGANIZATION": "Shop",
    }


async def test_the_command_line_explains_and_reports(outbox: Outbox, world: World) -> None:
    await _shape(world)
    async with outbox.couriers():
        await outbox.units("ada@testing-wrong-postfix.test")
        await outbox.all_final()
    runner, environment = CliRunner(), _environment(outbox, world)

    async def said_by(*words: str) -> str:
        # Commands bring a loop of their own.
        result = await asyncio.to_thread(runner.invoke, build(), ["tls", *words], env=environment)
        assert result.exit_code == 0, result.output
        return result.stdout

    explained = json.loads(await said_by("explain", "enforce-expired-exim.test", "--json"))
    assert (explained["sts"]["mode"], explained["sts"]["mx"]) == ("enforce", ["mx.neighbours.test"])
    assert [(host["policy"], host["used"]) for host in explained["hosts"]] == [("sts-enforce", True)]
    kept = json.loads(await said_by("explain", "enforce-expired-exim.test", "--json"))
    assert (explained["sts"]["from"], kept["sts"]["from"]) == ("fetched now", "kept")
    dane = json.loads(await said_by("explain", "ee-self-postfix.test", "--asked", "must", "--json"))
    assert dane["hosts"][0]["policy"] == "dane"
    assert dane["hosts"][0]["tlsa"] == [world.tlsa("self")]
    assert "MTA-STS no policy" in await said_by("explain", "ee-self-postfix.test")

    report = json.loads(await said_by("report", "testing-wrong-postfix.test"))
    assert report["organization-name"] == "Shop"
    [policy] = report["policies"]
    assert policy["policy"]["policy-string"][:2] == ["version: STSv1", "mode: testing"]
    assert policy["summary"] == {"total-successful-session-count": 0, "total-failure-session-count": 1}
    [failure] = policy["failure-details"]
    assert (failure["result-type"], failure["receiving-ip"]) == ("certificate-host-mismatch", "127.0.20.3")
    assert "certificate-host-mismatch 1" in await said_by("report")
