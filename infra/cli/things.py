"""What the nouns of the directory share: opening it, finding the customer that is meant, listing, showing and removing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer
from aiokafka import AIOKafkaProducer

from depesche.analytics.archive.keyring import Keyring
from depesche.analytics.directory.book import Entry
from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.registrar import Registrar
from depesche.analytics.log.client import producer
from depesche.infra.cli.quiet import asking_kafka
from depesche.infra.cli.terminal import settings_or_fail, talk, write_json, write_pairs, write_rows
from depesche.infra.local.seed import read_demo
from depesche.schemas.errors import NotFoundError, SetupError
from depesche.schemas.records import Account, Credential, Customer, DirectoryKind, Pool, SenderDomain
from depesche.schemas.settings import Settings

BY = "depesche command"
T = TypeVar("T")

CUSTOMER = Annotated[
    str, typer.Option("--customer", "-c", help="Customer number; default: DEPESCHE_TENANT, else the demo's.")
]


@dataclass(frozen=True, slots=True)
class Desk:
    """An open directory with the pen to write in it, the keys, and a producer."""

    settings: Settings
    directory: Directory
    registrar: Registrar
    keyring: Keyring
    producer: AIOKafkaProducer


@asynccontextmanager
async def open_desk(settings: Settings) -> AsyncIterator[Desk]:
    """The directory, read to its end.

    Raises:
        LogUnavailableError: Kafka does not answer.
    """
    keyring = Keyring.open(settings.home / "keys", settings.master_key_file)
    directory = Directory(settings, keyring)
    sender: AIOKafkaProducer = producer(settings, "depesche-command")
    try:
        with asking_kafka(settings):
            await sender.start()
            await directory.start()
        yield Desk(settings, directory, Registrar(settings, directory, sender, keyring), keyring, sender)
    finally:
        await directory.stop()
        await sender.stop()


def at_desk(work: Callable[[Desk], Awaitable[T]]) -> T:
    """Open the directory, do the work, close it."""

    async def run() -> T:
        async with open_desk(settings_or_fail().settings) as desk:
            return await work(desk)

    return asyncio.run(run())


def customer_meant(settings: Settings, given: str) -> str:
    """The customer number that is meant.

    Raises:
        SetupError: none was given and there is no demo.
    """
    demo = read_demo(settings.home)
    number = given or os.environ.get("DEPESCHE_TENANT", "") or (demo.tenant if demo else "")
    if not number:
        raise SetupError("Which customer?", fix="Say --customer NUMBER, or set DEPESCHE_TENANT.")
    return number


def row_of(entry: Entry) -> dict[str, Any]:
    """A thing as it may be shown: everything but sealed secrets and hashes."""
    record = entry.record
    row: dict[str, Any] = {"id": record.id, "customer": record.tenant}
    match record.value:
        case Customer() as value:
            row |= {"name": value.name, "status": value.status.value, "hourly_capacity": value.hourly_capacity}
        case Account() as value:
            row |= {
                "name": value.name,
                "status": value.status.value,
                "interfaces": [interface.value for interface in value.interfaces],
                "source_ips": list(value.source_ips),
                "login_by_ip": value.login_by_ip,
                "expiry_hours": value.expiry_hours,
            }
        case SenderDomain() as value:
            selectors = [key.selector for key in value.dkim if key.active]
            row |= {
                "status": value.status.value,
                "accounts": list(value.accounts),
                "tls": value.tls,
                "selectors": selectors,
            }
        case Credential() as value:
            row |= {
                "name": value.name,
                "account": value.account,
                "use": value.use.value,
                "status": value.status.value,
                "ends_with": value.hint,
            }
        case Pool() as value:
            row |= {
                "addresses": [f"{one.ip}={one.helo}" if one.helo else one.ip for one in value.addresses],
                "warm_up_plan": list(value.warm_up_plan),
                "overflow_pool": value.overflow_pool,
            }
    return row | {"changed_by": record.changed_by}


def list_things(kind: DirectoryKind, customer: str, columns: tuple[str, ...], *, as_json: bool) -> None:
    """Write all things of a kind, of one customer or (empty) of all."""

    async def work(desk: Desk) -> list[Mapping[str, Any]]:
        return [row_of(entry) for entry in desk.directory.book.all(kind, customer or None)]

    write_rows(at_desk(work), columns, as_json=as_json, empty=f"There is no {kind.value}.")


def show_thing(
    kind: DirectoryKind, id_: str, *, as_json: bool, more: Callable[[Desk], Mapping[str, Any]] | None = None
) -> None:
    """Write one thing.

    Raises:
        NotFoundError: there is none.
    """

    async def work(desk: Desk) -> dict[str, Any]:
        return {**row_of(_found(desk, kind, id_)), **(more(desk) if more else {})}

    write_pairs(at_desk(work), as_json=as_json)


def remove_thing(kind: DirectoryKind, id_: str, *, as_json: bool) -> None:
    """Remove one thing.

    Raises:
        NotFoundError: there is none.
    """

    async def work(desk: Desk) -> None:
        await desk.registrar.remove(kind, id_, _found(desk, kind, id_).record.tenant, BY)

    at_desk(work)
    told({"removed": id_, "kind": kind.value}, f"{kind.value} {id_} is removed.", as_json=as_json)


def told(row: Mapping[str, Any], sentence: str, *, as_json: bool) -> None:
    """Say that something was done: as data, or as a sentence."""
    if as_json:
        write_json(row)
    else:
        talk().print(f"[green]✓[/] {sentence}")


def _found(desk: Desk, kind: DirectoryKind, id_: str) -> Entry:
    entry = desk.directory.book.find(kind, id_)
    if entry is None:
        raise NotFoundError(f"no {kind.value} {id_}", public=f"There is no {kind.value} {id_}")
    return entry
