"""Threat 1, SMTP smuggling: sequences that some server takes for the end of a message never end one here.

Each is sent the way an attacker would: a message, the sequence, then commands and a second message that a server fooled by
it would obey. Exactly one message may come of it, or a refusal; never two (CVE-2023-51764, -51765, -51766, CVE-2024-27305).
"""

from __future__ import annotations

import itertools

import pytest

from tests.contract.smtp.bench import MESSAGE, RunningDoor

LINE_ENDS = [b"\n", b"\r", b"\r\r", b"\n\n", b"\n\r", b"\r\r\n", b"\r\n\n", b"\r\n\r", b"\r\n\0", b"\0", b"\r\n"]
SEQUENCES = sorted(
    {
        before + dot + after
        for before, after in itertools.product(LINE_ENDS, LINE_ENDS)
        for dot in (b".", b"\0.", b".\0")
    }
    - {b"\r\n.\r\n"}
)
HARMLESS = [
    b"\r\n..\r\n",
    b"\r\n .\r\n",
    b"\r\n. \r\n",
    b"\r\n.=0D=0A",
    b"\r\n.x\r\n",
    "\r\n\u2024\r\n".encode(),
    b"=0A.=0A",
]
SMUGGLED = (
    b"MAIL FROM:<admin@other.example>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\n"
    b"From: admin@other.example\r\nSubject: smuggled\r\n\r\nsmuggled\r\n"
)


def test_the_table_has_all_the_known_sequences() -> None:
    known = [
        b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r\n.\n", b"\r.\r\n", b"\r.\n", b"\n.\r", b"\n\n.\r\n", b"\r\r.\r\r",
        b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\0.\r\n", b"\r\r\n.\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n\r.\n\r",
    ]  # fmt: skip
    assert set(known) - {b"\r\r\n.\r\n"} <= set(SEQUENCES)
    assert len(SEQUENCES) > 300


@pytest.mark.parametrize("chunk", range(6))
async def test_no_known_end_of_data_sequence_ends_a_message(door: RunningDoor, chunk: int) -> None:
    for sequence in SEQUENCES[chunk::6]:
        if b"\r\n.\r\n" in sequence:
            continue
        client = await door.session()
        await client.envelope()
        await client.send(MESSAGE.removesuffix(b"\r\n") + sequence + SMUGGLED + b".\r\nQUIT\r\n")
        replies = [await client.reply(), await client.reply()]
        assert replies[0].startswith("550 5.6.0 "), (sequence, replies)
        assert replies[1].startswith("221 "), (sequence, replies)
        assert door.hallway.taken == []


async def test_a_sequence_that_contains_the_true_end_ends_one_message_and_no_more(door: RunningDoor) -> None:
    """``CR CR LF . CR LF`` and the like: the true end is in it, the stray CR before it refuses the message."""
    for sequence in (b"\r\r\n.\r\n", b"\n\r\n.\r\n", b"\0\r\n.\r\n"):
        client = await door.session()
        await client.envelope()
        await client.send(MESSAGE.removesuffix(b"\r\n") + sequence + b"QUIT\r\n")
        assert (await client.reply()).startswith("550 5.6.0 ")
        assert (await client.reply()).startswith("221 ")
    assert door.hallway.taken == []


async def test_what_only_resembles_an_end_is_part_of_the_one_message(door: RunningDoor) -> None:
    for number, sequence in enumerate(HARMLESS, 1):
        client = await door.session()
        await client.envelope()
        start = MESSAGE.removesuffix(b"\r\n")
        await client.send(start + sequence + SMUGGLED + b".\r\nQUIT\r\n")
        assert (await client.reply()).startswith("250 2.0.0 "), sequence
        assert (await client.reply()).startswith("221 "), sequence
        assert len(door.hallway.taken) == number
        assert [unit.address for unit in door.hallway.last.recipients] == ["ada@example.org"]
        body = b"".join(door.hallway.last.messages[0].parts)
        assert body.endswith(b"Dear Ada," + sequence.replace(b"\r\n.", b"\r\n") + SMUGGLED)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n", b"\0\r\n"])
async def test_a_command_with_another_line_end_is_not_obeyed(door: RunningDoor, end: bytes) -> None:
    client = await door.session()
    await client.send(b"MAIL FROM:<orders@shop.example>" + end + b"NOOP\r\n")
    replies = [await client.reply()]
    if end != b"\r":
        replies.append(await client.reply())
    assert replies[0].startswith("500 5.5.2 ")
    assert (await client.command("RCPT TO:<ada@example.org>")).startswith("503 ")
