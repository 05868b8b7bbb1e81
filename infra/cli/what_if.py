"""`depesche shaping what-if`: past answers from the log, judged by today's shaping and by a changed file."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_text

if TYPE_CHECKING:
    from depesche.analytics.archive.keyring import Keyring
    from depesche.schemas.records import MailEvent
    from depesche.schemas.settings import Settings
    from depesche.streams.mail.reply import Answered
    from depesche.streams.mail.shaping.what_if import WhatIf

_SINCE = re.compile(r"(\d+)([mhd])\Z")
_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


def add_to(noun: typer.Typer) -> None:
    """Add ``what-if`` to the noun ``shaping``."""
    noun.command("what-if", epilog="Example: depesche shaping what-if new-shaping.toml --since 6h")(what_if)


def what_if(
    file: Annotated[Path, typer.Argument(help="The changed shaping file; it would take the place of the operator's.")],
    since: Annotated[str, typer.Option(help="How far back, as 30m, 6h or 2d.")] = "1h",
    json: JSON = False,
) -> None:
    """Replay past refusals from the log through today's shaping and a changed file; say what would be decided differently.

    Nothing is changed and nothing is sent. Answers are shown without addresses. Mail whose keys were erased is left out.
    """
    from depesche.infra.cli.quiet import asking_kafka
    from depesche.schemas.errors import SetupError
    from depesche.streams.mail.shaping.book import ShapingBook, shipped
    from depesche.streams.mail.shaping.what_if import WhatIf
    from depesche.streams.stages.shaping_watch import book_of, read_file

    match = _SINCE.match(since)
    if match is None:
        raise SetupError(f"--since {since} is no time.", fix="Say 30m, 6h or 2d.")
    settings = settings_or_fail().settings
    found = WhatIf(book_of(settings), ShapingBook(settings.deliver, read_file(file), shipped()))
    with asking_kafka(settings):
        unread = asyncio.run(_replay(settings, found, int(match[1]) * _MS[match[2]]))
    if unread:
        talk().print(f"[yellow]{unread} answers could not be opened (their keys are gone) and were left out.[/]")
    if json:
        write_json({"answers": found.seen, "different": found.counts.total(), "unread": unread}, *_rows(found))
    else:
        write_text("\n".join(_told(found)))


def _rows(found: WhatIf) -> list[dict[str, object]]:
    return [
        {
            "provider": change.provider,
            "count": count,
            "class_before": change.class_before,
            "before": change.before,
            "class_after": change.class_after,
            "after": change.after,
            "samples": found.samples[change],
        }
        for change, count in found.counts.most_common()
    ]


def _told(found: WhatIf) -> list[str]:
    lines = [f"{found.seen} refusals were looked at; {found.counts.total()} would be decided differently."]
    for change, count in found.counts.most_common():
        lines.append(
            f"{count:>8}  {change.provider}: {change.class_before} ({change.before}) -> {change.class_after} ({change.after})"
        )
        lines += [
            f"{'':>10}{''.join(char if char.isprintable() else '?' for char in s)}" for s in found.samples[change]
        ]
    return lines


async def _replay(settings: Settings, found: WhatIf, back_ms: int) -> int:
    """Read mail.outcomes from so long ago to its end; gives how many refusals could not be opened."""
    from aiokafka.structs import TopicPartition
    from rich.progress import Progress

    from depesche.analytics.archive.keyring import Keyring
    from depesche.analytics.log.client import full_name, reader
    from depesche.analytics.log.topics import partition_counts
    from depesche.schemas.codec import decode
    from depesche.schemas.records import MailEvent
    from depesche.schemas.service import now_ms
    from depesche.schemas.topics import OUTCOMES

    keyring = Keyring.open(settings.home / "keys", settings.master_key_file)
    count = (await partition_counts(settings, OUTCOMES))[OUTCOMES.name]
    name = full_name(settings.kafka, OUTCOMES.name)
    partitions = [TopicPartition(name, number) for number in range(count)]
    consumer, unread = reader(settings, "what-if"), 0
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.offsets_for_times(dict.fromkeys(partitions, now_ms() - back_ms))
        at = {part: begins[part].offset if begins[part] is not None else ends[part] for part in partitions}
        for part in partitions:
            consumer.seek(part, at[part])
        with Progress(console=talk(), transient=True) as progress:
            task = progress.add_task("answers", total=sum(ends[part] - at[part] for part in partitions))
            while any(at[part] < ends[part] for part in partitions):
                for records in (await consumer.getmany(timeout_ms=500, max_records=2_000)).values():
                    for record in records:
                        unread += not _consider(found, keyring, decode(MailEvent, record.value or b""))
                    progress.advance(task, len(records))
                for part in partitions:
                    at[part] = await consumer.position(part)
    finally:
        await consumer.stop()
    return unread


def _consider(found: WhatIf, keyring: Keyring, event: MailEvent) -> bool:
    """Take in an event if it tells of a refusal; False when it does but cannot be opened."""
    from depesche.schemas.records import AttemptDetail

    if not isinstance(event.detail, AttemptDetail) or event.detail.code < 400:
        return True
    answer = _answer(event, event.detail, keyring)
    if answer is None:
        return False
    found.consider(event.provider, answer)
    return True


def _answer(event: MailEvent, detail: object, keyring: Keyring) -> Answered | None:
    from depesche.schemas.codec import decode
    from depesche.schemas.errors import ContentLostError
    from depesche.schemas.records import AttemptDetail, Personal
    from depesche.streams.mail.reply import Answered

    assert isinstance(detail, AttemptDetail)
    try:
        sealed = keyring.key(event.key_id).open(event.sealed_personal, b"event|" + event.event_id.encode())
    except ContentLostError:
        return None
    text = decode(Personal, sealed).reply_text or ""
    step, code, tls = detail.step, detail.code, detail.tls
    return Answered(step, code, detail.enhanced_code, text, detail.host, tls, detail.ambiguous)
