"""Where is my mail? Search, the story of one mail, and what happens right now."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from depesche.infra.cli.store_access import CUSTOMER, german, scope_of, with_store
from depesche.infra.cli.terminal import JSON, talk, write_json, write_rows, write_text

if TYPE_CHECKING:
    from depesche.analytics.queries.results import Event, Hit, Page, Story
    from depesche.analytics.queries.tail import Followed
    from depesche.analytics.store.client import StoreClient
    from depesche.schemas.settings import Settings

QUERY_HELP = (
    "FIELD:VALUE conditions, all of which must hold; '-' before one means not, 'or' between two means either, quotes keep words "
    "together. Fields: to from subject id status provider account campaign reference code size since until ... "
    "A bare word is an address, an id or a text."
)
_COLUMNS = ("accepted_at", "status", "recipient", "subject", "attempts", "code", "provider", "unit_id")
POLL_SECONDS = 0.25
_NEGATED = re.compile(r"-[a-z_]+:")
_SHIELD = "\0"


class QueryCommand(TyperCommand):
    """A command with a query, in which ``-status:delivered`` is a condition and not a row of options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        return super().parse_args(ctx, [_SHIELD + word if _NEGATED.match(word) else word for word in args])


def _joined(query: list[str] | None) -> str:
    return " ".join(query or ()).replace(_SHIELD, "")


def add_to(app: typer.Typer) -> None:
    """Add ``search``, ``show`` and ``tail``."""
    app.command(cls=QueryCommand, epilog="Example: depesche search 'to:ada@inbox.test status:delivered since:1h'")(
        search
    )
    app.command(epilog="Example: depesche show 01a2069f-6bec-7bdc-b4c6-0f890183e0e2")(show)
    app.command(cls=QueryCommand, epilog="Example: depesche tail status:bounced")(tail)


def search(
    query: Annotated[list[str] | None, typer.Argument(help=QUERY_HELP)] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Units per page.")] = 50,
    cursor: Annotated[str, typer.Option(help="Go on after a page: the cursor it ended with.")] = "",
    customer: CUSTOMER = "",
    json: JSON = False,
) -> None:
    """Find mails, newest first. Without a query: the newest ones."""
    from depesche.analytics.queries.grammar import parse
    from depesche.analytics.queries.search import Search
    from depesche.schemas.service import now_ms

    parsed = parse(_joined(query), now_ms())

    async def work(client: StoreClient, _: Settings) -> Page[Hit]:
        return await Search(client).find(scope_of(customer), parsed, limit, cursor or None)

    page = with_store(work)
    rows = [hit.to_json() for hit in page.items]
    write_rows(
        rows,
        _COLUMNS,
        as_json=json,
        empty="Nothing found. Mail is kept 45 days; `depesche search` alone shows the newest.",
    )
    if page.next_cursor:
        talk().print(f"There is more: --cursor {page.next_cursor}")


def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Of a unit, of a job, or a Message-ID.")],
    customer: CUSTOMER = "",
    transcript: Annotated[
        bool, typer.Option("--transcript", help="With the SMTP conversation of each attempt.")
    ] = False,
    json: JSON = False,
) -> None:
    """Tell the story of a mail, step by step, in English or German (by LANG)."""
    from depesche.analytics.queries.timeline import Timeline
    from depesche.schemas.errors import NotFoundError

    async def work(client: StoreClient, _: Settings) -> list[Story]:
        return await Timeline(client).of(scope_of(customer), id_)

    stories = with_store(work)
    if not stories:
        raise NotFoundError(
            id_, public=f"No mail {id_} is known (it may have been accepted within the last second, or expired)"
        )
    if json:
        write_json(*(story.to_json() for story in stories))
    else:
        write_text("\n\n".join(told(story, in_german=german(), transcript=transcript) for story in stories))


def told(story: Story, *, in_german: bool, transcript: bool = False) -> str:
    """A story as text: what it is, one sentence on where it stands, then each step."""
    unit = story.unit
    lines = [
        f"{unit.subject or '(no subject)'}",
        f"  {unit.mail_from} → {unit.recipient}   unit {unit.unit_id}",
        f"  {_sentence(story, in_german)}",
        "",
    ]
    before = None
    for event in story.events:
        lines.append(
            f"  {_clock(event.occurred_at)}  {_gap(before, event.occurred_at):>8}  {event.type:<10} {_particulars(event, unit)}"
        )
        before = event.occurred_at
        if transcript and event.transcript:
            lines += [f"{'':>30}{line}" for line in event.transcript.splitlines()]
    return "\n".join(lines).rstrip()


def _sentence(story: Story, in_german: bool) -> str:
    from depesche.schemas.records import EventType
    from depesche.schemas.vocabulary import LATE_BOUNCE, MEANING

    meaning = MEANING.get(EventType(story.unit.status)) if story.unit.status in set(EventType) else None
    bounces = [event for event in story.events if event.type == EventType.BOUNCED.value]
    if story.unit.status == EventType.BOUNCED.value and bounces and not any(event.final for event in bounces):
        meaning = LATE_BOUNCE
    if meaning is None:
        return story.unit.status
    sentence = meaning.german if in_german else meaning.english
    words = " ".join(f"{story.unit.code or story.unit.enhanced_code} {story.unit.reply_text}".split())
    return sentence + (f" ({words})" if story.unit.reply_text else "")


def _particulars(event: Event, unit: Hit | None = None) -> str:
    host = f"{event.host} [{event.remote_ip}]" if event.remote_ip else event.host
    parts: list[Any] = [host, _answer(event), _tls(event)]
    detail = event.detail
    if event.reason:
        parts.append(event.reason)
    if event.finding:
        parts.append(event.finding)
    if event.type == "cancelled":
        parts.append(f"by {event.detail.get('by') or 'an order'}, order {event.detail.get('control_id', '')}")
    if event.ambiguous:
        parts.append("may have arrived although no reply was read")
    if event.next_attempt_at:
        parts.append(f"next attempt {_clock(event.next_attempt_at)}")
    if event.type == "accepted" and unit is not None:
        parts.append(f"by {unit.interface}, {unit.size:,} bytes")
    elif detail.get("source"):
        parts += [event.reply_class, detail.get("feedback_type"), f"reported as {detail['source']}"]
    elif event.type == "scanned":
        parts.append(", ".join(detail.get("engines", ())))
    elif event.type == "signed":
        parts.append(
            f"{detail.get('selector', '')}._domainkey.{detail.get('domain', '')} {detail.get('algorithm', '')}"
        )
    return "  ".join(str(part) for part in parts if part)


def _tls(event: Event) -> str:
    """Protocol and cipher, and the policy where one was in force."""
    policy = event.detail.get("tls_policy", "may")
    return " ".join(part for part in (event.tls, "" if policy == "may" else f"(TLS policy {policy})") if part)


def _answer(event: Event) -> str:
    """What the far side said, or who came back with which words."""
    # A reply's text begins with its enhanced code, where the far side gave one.
    known = "" if event.reply_text.startswith(event.enhanced_code) else f"{event.enhanced_code} "
    if event.code or event.detail.get("source"):
        # A report quotes its answer in several lines.
        return " ".join(f"{event.code or ''} {known}{event.reply_text}".split())
    return f"at {event.step}: {event.reply_text or event.reply_class or 'no answer'}" if event.step else ""


def _clock(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000)) + f".{ms % 1000:03d}"


def _gap(before: int | None, now: int) -> str:
    if before is None:
        return ""
    gap = now - before
    return f"+{gap} ms" if gap < 10_000 else f"+{gap / 1000:.0f} s"


def tail(
    query: Annotated[list[str] | None, typer.Argument(help=QUERY_HELP)] = None,
    customer: CUSTOMER = "",
    seconds: Annotated[float, typer.Option(help="Stop after so long; 0: go on until Ctrl-C.")] = 0,
    json: JSON = False,
) -> None:
    """Follow what happens, event by event, as it happens."""
    import asyncio

    from depesche.analytics.queries.grammar import parse
    from depesche.analytics.queries.tail import Tail
    from depesche.schemas.service import now_ms

    parsed = parse(_joined(query), now_ms())

    async def work(client: StoreClient, _: Settings) -> None:
        following, scope = Tail(client), scope_of(customer)
        cursor, end = await following.now(), time.monotonic() + seconds
        talk().print("Following; Ctrl-C ends it.")
        while not seconds or time.monotonic() < end:
            news = await following.since(scope, parsed, cursor)
            cursor = news.cursor
            _write_news(news, json)
            if not news.more:
                await asyncio.sleep(POLL_SECONDS)

    with_store(work)


def _write_news(news: Followed, json: bool) -> None:
    if json:
        write_json(*(event.to_json() for event in news.events))
        return
    for event in news.events:
        write_text(
            f"{_clock(event.occurred_at)}  {event.type:<10} {event.recipient or event.unit_id}  {_particulars(event)}"
        )
