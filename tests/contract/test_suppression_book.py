"""The local view of the suppression list: goes on after a restart, and is built anew when it cannot be trusted."""

from __future__ import annotations

from pathlib import Path

from depesche.analytics.log.client import full_name
from depesche.analytics.suppressions.book import SuppressionBook
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.schemas.codec import encode
from depesche.schemas.records import Suppression
from depesche.schemas.service import now_ms
from depesche.schemas.topics import SUPPRESSIONS, partition_of
from depesche.streams.mail.suppression import after_outcome
from depesche.streams.mail.suppression_facts import Policy
from tests.contract.suppression_lab import Lab, opened

DAY_MS = 86_400_000
COUNT = 300


async def written(lab: Lab, *addresses: str) -> list[Suppression]:
    """Entries as the fold writes them."""
    policy, made = Policy.of(lab.settings.suppression), []
    for number, address in enumerate(addresses):
        entry = after_outcome(None, lab.outcome(address), policy, 0, number)
        assert entry is not None
        made.append(entry)
        await put(lab, entry.recipient_key, encode(entry))
    return made


async def put(lab: Lab, key: str, value: bytes | None) -> None:
    name = full_name(lab.settings.kafka, SUPPRESSIONS.name)
    place = partition_of(key, lab.settings.kafka.partitions)
    await lab.out.send_and_wait(name, value, key=key.encode(), partition=place)


async def test_a_restart_reads_only_what_is_new(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    async with opened(kafka_broker, tmp_path, "book-restart.") as lab:
        entries = await written(lab, *(f"a{number}@here.test" for number in range(COUNT)))
        async with lab.book() as book:
            assert book.read == COUNT
            assert list(book.entries("10001")) == sorted(entries, key=lambda entry: entry.recipient_key)
        await put(lab, entries[0].recipient_key, None)
        async with lab.book() as book:
            assert book.read == 1
            assert book.entry("10001", entries[0].recipient_key) is None
            assert book.blocking("10001", entries[1].recipient_key) == entries[1]


async def test_a_view_that_cannot_be_trusted_is_built_anew(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    async with opened(kafka_broker, tmp_path, "book-anew.") as lab:
        await written(lab, *(f"a{number}@here.test" for number in range(10)))
        now = [now_ms()]

        async def start() -> SuppressionBook:
            async with lab.book(clock=lambda: now[0]) as book:
                assert len(list(book.entries(None))) == 10
            return book

        assert (await start()).read == 10
        assert (await start()).read == 0
        (tmp_path / "book" / "CURRENT").write_text("not a manifest\n")
        assert (await start()).read == 10
        (tmp_path / "book" / "broken").touch()
        assert (await start()).read == 10
        now[0] += 4 * DAY_MS
        assert (await start()).read == 10
    async with opened(kafka_broker, tmp_path, "book-foreign.") as lab, lab.book() as book:
        assert list(book.entries(None)) == []
