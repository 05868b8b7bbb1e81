"""Threat 5, resource abuse: whatever a stranger does, the door's memory, time and connections stay bounded (fault L2)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from depesche.api.smtp import door as door_module
from depesche.api.smtp import server
from tests.contract.smtp.bench import MESSAGE, DoorMaker, RunningDoor


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_200_mb_without_a_line_end_grow_memory_by_less_than_30_mb(door: RunningDoor) -> None:
    client = await door.session()
    block = bytes(1 << 20).replace(b"\0", b"x")
    before = resident_bytes()
    with_growth = 0
    for _ in range(200):
        try:
            await client.send(block)
        except ConnectionError:
            break
        with_growth = max(with_growth, resident_bytes() - before)
    assert with_growth < 30 << 20
    assert (await client.reply()) in ("500 5.5.2 Line too long", "")
    assert (await (await door.session()).mail()).startswith("250 ")


async def test_200_mb_of_content_without_a_line_end_grow_memory_by_less_than_30_mb(door_maker: DoorMaker) -> None:
    door = await door_maker(max_size=10 << 20)
    client = await door.session()
    await client.envelope()
    block = bytes(1 << 18).replace(b"\0", b"x")
    before = resident_bytes()
    growth = 0
    for _ in range(800):
        try:
            await client.send(block)
        except ConnectionError:
            break
        growth = max(growth, resident_bytes() - before)
    assert growth < 30 << 20
    assert (await client.reply())[:10] in ("552 5.3.4 ", "")


async def test_a_client_that_never_reads_its_replies_is_not_read_either(door: RunningDoor) -> None:
    client = await door.session()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    before = resident_bytes()
    block = b"HELP\r\n" * 10_000

    async def flood() -> None:
        for _ in range(2000):
            await client.send(block)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flood(), 3)
    assert resident_bytes() - before < 30 << 20


async def test_input_is_not_read_ahead_while_a_mail_is_being_accepted(door: RunningDoor) -> None:
    client = await door.session()
    door.hallway.gate.clear()
    await client.envelope()
    before = resident_bytes()
    await client.send(MESSAGE + b".\r\n")
    await door.hallway.entered.wait()

    async def flood() -> None:
        for _ in range(100):
            await client.send(b"NOOP\r\n" * 200_000)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flood(), 2)
    assert resident_bytes() - before < 30 << 20


async def test_the_next_connection_over_the_limit_in_all_or_per_source_gets_421(door_maker: DoorMaker) -> None:
    door = await door_maker(max_connections=4, max_connections_per_ip=3)
    clients = [await door.session() for _ in range(3)]
    refused = await door.connect(tls=True)
    assert (await refused.reply()).startswith("421 4.7.0 ")
    assert await refused.reply() == ""
    await clients[0].command("QUIT")
    await clients[0].reply()
    assert (await (await door.session()).mail()).startswith("250 ")


async def test_connections_that_vanish_are_counted_out(door_maker: DoorMaker) -> None:
    door = await door_maker(max_connections_per_ip=3)
    for _ in range(10):
        client = await door.session()
        await client.envelope()
        client.writer.transport.abort()
        while True:
            probe = await door.connect(tls=True)
            if (await probe.reply()).startswith("220 "):
                break
        await probe.close()


async def test_who_says_nothing_is_told_421_and_let_go(door_maker: DoorMaker) -> None:
    door = await door_maker(command_seconds=0.4)
    client = await door.session()
    assert (await client.reply()).startswith("421 4.4.2 ")
    assert await client.reply() == ""


async def test_a_byte_now_and_then_does_not_keep_a_connection(door_maker: DoorMaker) -> None:
    door = await door_maker(command_seconds=0.6)
    client = await door.session()

    async def drip() -> None:
        while True:
            await client.send(b"N")
            await asyncio.sleep(0.1)

    task = asyncio.create_task(drip())
    assert (await client.reply()).startswith("421 4.4.2 ")
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() or isinstance(task.exception(), ConnectionError)


async def test_a_slow_but_honest_upload_is_not_cut_by_the_time_for_commands(door_maker: DoorMaker) -> None:
    door = await door_maker(command_seconds=0.6)
    client = await door.session()
    await client.envelope()
    for start in range(0, len(MESSAGE), 8):
        await client.send(MESSAGE[start : start + 8])
        await asyncio.sleep(0.15)
    await client.send(b".\r\n")
    assert (await client.reply()).startswith("250 2.0.0 ")


async def test_an_upload_that_stops_is_ended(door_maker: DoorMaker) -> None:
    door = await door_maker(command_seconds=0.4)
    client = await door.session()
    await client.envelope()
    await client.send(MESSAGE)
    assert (await client.reply()).startswith("421 4.4.2 ")


async def test_an_upload_below_the_least_rate_is_ended(door_maker: DoorMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(door_module, "SWEEP_SECONDS", 0.1)
    door = await door_maker(min_bytes_per_second=500)
    client = await door.session()
    await client.envelope()

    async def drip() -> None:
        while True:
            await client.send(b"x")
            await asyncio.sleep(0.05)

    task = asyncio.create_task(drip())
    assert (await client.reply()).startswith("421 4.4.2 ")
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() or isinstance(task.exception(), ConnectionError)


async def test_no_session_lasts_for_ever(door_maker: DoorMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "SWEEP_SECONDS", 0.1)
    door = await door_maker(session_seconds=0.8)
    client = await door.session()
    for _ in range(10):
        assert (await client.command("NOOP")).startswith("250 ")
        await asyncio.sleep(0.01)
    assert (await client.reply()).startswith("421 4.4.2 ")
    assert await client.reply() == ""


async def test_a_session_that_is_over_still_gets_the_answer_to_its_last_mail(
    door_maker: DoorMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "SWEEP_SECONDS", 0.05)
    door = await door_maker(session_seconds=0.5)
    client = await door.session()
    door.hallway.gate.clear()
    await client.envelope()
    await client.send(MESSAGE + b".\r\n")
    await asyncio.sleep(1)
    door.hallway.gate.set()
    assert (await client.reply()).startswith("250 2.0.0 ")


async def test_who_makes_mistake_after_mistake_is_let_go(door: RunningDoor) -> None:
    client = await door.session()
    await client.send(b"".join(b"FOO%d\r\n" % n for n in range(100)))
    replies = [await client.reply() for _ in range(server.MAX_MISTAKES + 1)]
    assert {reply[:9] for reply in replies[:-1]} == {"500 5.5.1"}
    assert replies[-1].startswith("421 4.7.0 ")
    assert await client.reply() == ""


async def test_a_command_line_too_long_is_refused_and_the_next_one_is_heard(door: RunningDoor) -> None:
    client = await door.session()
    assert (await client.command("NOOP " + "x" * 5000)).startswith("500 5.5.2 ")
    assert (await client.command("NOOP " + "x" * 4000)).startswith("250 ")


async def test_too_much_under_way_on_all_connections_together_is_put_off(
    door_maker: DoorMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "MAX_UNFINISHED_BYTES", 100_000)
    door = await door_maker()
    first, second = await door.session(), await door.session()
    line = b"x" * 98 + b"\r\n"
    for client in (first, second):
        await client.envelope()
        await client.send(MESSAGE + line * 700)
        await asyncio.sleep(0.05)
    third = await door.session()
    for client in (second, first):
        await client.send(b".\r\n")
    assert (await second.reply()).startswith("452 4.3.1 ")
    assert (await first.reply()).startswith("250 2.0.0 ")
    assert (await third.mail()).startswith("250 2.0.0 ")
