"""What the sink writes at once: records of the log, turned into rows and inserted under a token made of their places.

A record that no table can take must not hold up the others, and ClickHouse refuses a block as a whole. So a batch that is
refused for its data is taken apart until the culprit stands alone; it is handed back as a ``Poison``.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import pyarrow as pa

from depesche.analytics.log import meters
from depesche.analytics.store.client import StoreClient, StoreRefusedError
from depesche.analytics.store.offsets import Place
from depesche.analytics.store.rows import ROW_FAULTS, EventRows, Keys
from depesche.schemas.codec import codec
from depesche.schemas.crashpoints import crashpoint
from depesche.schemas.errors import UndecodableError
from depesche.schemas.records import DeadLetter


class Record(Protocol):
    """A record as the Kafka client gives it."""

    @property
    def partition(self) -> int:
        """Partition it stands in."""
        ...

    @property
    def offset(self) -> int:
        """Where it stands."""
        ...

    @property
    def key(self) -> bytes | None:
        """Its key."""
        ...

    @property
    def value(self) -> bytes | None:
        """Its bytes."""
        ...


class Item(NamedTuple):
    """A record and the topic it stands in, by its name without prefix."""

    topic: str
    record: Record


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that no table can take, and why."""

    item: Item
    fault: Exception


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one table, ready to insert, the records they come from, and the token that stands for these records."""

    table: str
    rows: pa.Table
    items: Sequence[Item]
    token: str


Blocks = tuple[list[Block], list[Poison]]
"""What can be inserted, and what cannot."""


def event_blocks(items: Sequence[Item], keys: Keys) -> Blocks:
    """The rows of event records for three tables, and the records that are no events."""
    rows, kept, poison = EventRows(keys), [], []
    for item in items:
        try:
            rows.add(item.topic, item.record.partition, item.record.offset, item.record.value)
            kept.append(item)
        except ROW_FAULTS as fault:
            poison.append(Poison(item, fault))
    try:
        tables = rows.tables()
    except ROW_FAULTS as fault:
        # A value that fits no column. Arrow does not say whose it was, so the search goes on in halves.
        if len(kept) == 1:
            return [], [*poison, Poison(kept[0], fault)]
        first, second = (event_blocks(half, keys) for half in _halves(kept))
        return first[0] + second[0], poison + first[1] + second[1]
    named = (("events", tables.events), ("units", tables.units), ("states", tables.states))
    token = token_of(kept)
    return [Block(name, rows, kept, token) for name, rows in named if rows.num_rows], poison


def letter_blocks(items: Sequence[Item]) -> Blocks:
    """The rows of dead letters, and the records that are none."""
    letters: list[DeadLetter] = []
    kept: list[Item] = []
    poison: list[Poison] = []
    for item in items:
        try:
            letters.append(codec(DeadLetter).decode(item.record.value or b""))
            kept.append(item)
        except UndecodableError as fault:
            poison.append(Poison(item, fault))
    return ([Block("dead_letters", _letter_rows(letters), kept, token_of(kept))] if letters else []), poison


async def write(
    client: StoreClient, items: Sequence[Item], prepare: Callable[[Sequence[Item]], Blocks]
) -> list[Poison]:
    """Write records to their tables.

    Args:
        client: the store.
        items: records of one kind.
        prepare: makes their blocks (``event_blocks`` or ``letter_blocks``); runs in a thread.

    Returns:
        the records that cannot be written, which must be buried before their offsets are noted.

    Raises:
        StoreUnavailableError: not all is in; do it again with the same records.
    """
    blocks, poison = await client.run_in_thread(partial(prepare, items))
    crashpoint("S1")
    found = await asyncio.gather(*(_insert(client, block, prepare) for block in blocks))
    refused = {id(one.item): one for some in found for one in some}
    return [*poison, *refused.values()]


async def _insert(client: StoreClient, block: Block, prepare: Callable[[Sequence[Item]], Blocks]) -> list[Poison]:
    try:
        await client.insert(block.table, block.rows, block.token)
    except StoreRefusedError as fault:
        if not fault.about_the_data:
            raise
        if len(block.items) == 1:
            return [Poison(block.items[0], fault)]
        parts = [part for half in _halves(block.items) for part in prepare(half)[0] if part.table == block.table]
        return [one for part in parts for one in await _insert(client, part, prepare)]
    meters.count("mail_sink_rows_total", block.rows.num_rows, table=block.table)
    return []


def _halves(items: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    return items[: len(items) // 2], items[len(items) // 2 :]


def spans(items: Iterable[Item]) -> dict[Place, tuple[int, int]]:
    """First and last offset for each partition."""
    found: dict[Place, tuple[int, int]] = {}
    # Within a partition the records come in order, so first and last are what is met first and last.
    for topic, record in items:
        place, offset = (topic, record.partition), record.offset
        known = found.get(place)
        found[place] = (offset, offset) if known is None else (known[0], offset)
    return found


def token_of(items: Iterable[Item]) -> str:
    """The same for the same records: topic, partition, first and last offset, hashed because ClickHouse keeps many."""
    text = ";".join(f"{topic}/{number}/{a}-{b}" for (topic, number), (a, b) in sorted(spans(items).items()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _letter_rows(letters: Sequence[DeadLetter]) -> pa.Table:
    text = partial(pa.array, type=pa.string())
    return pa.table(
        {
            "topic": text([letter.topic for letter in letters]),
            "partition": pa.array([letter.partition for letter in letters], pa.uint16()),
            "offset": pa.array([letter.offset for letter in letters], pa.uint64()),
            "stage": text([letter.stage for letter in letters]),
            "tenant": text([letter.tenant or "" for letter in letters]),
            "unit_id": text([letter.unit_id or "" for letter in letters]),
            "occurred_at": pa.array([letter.occurred_at for letter in letters], pa.timestamp("ms", "UTC")),
            "cause": text([letter.cause for letter in letters]),
            "explanation": text([letter.explanation for letter in letters]),
            "record_key": pa.array([letter.record_key or b"" for letter in letters], pa.binary()),
            "record_value": pa.array([letter.record_value or b"" for letter in letters], pa.binary()),
        }
    )
