"""Why did this mail come back? The reader of returned mail, for files and for standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.terminal import JSON, talk, write_json, write_text

if TYPE_CHECKING:
    from depesche.streams.mail.returns.report import Report

_STANDARD_INPUT = "-"


def add_to(app: typer.Typer) -> None:
    """Add ``classify``."""
    app.command(epilog="Example: depesche classify --json bounces/*.eml   or   pbpaste | depesche classify -")(classify)


def classify(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Mails or mbox files; - reads standard input.")],
    json: JSON = False,
) -> None:
    """Read returned mail: bounces of any kind, complaints, automatic answers; say whom it is about, why, and what follows.

    A class says why (recipient_unknown, mailbox_full, reputation ...), its kind what follows: hard means that the address is
    dead, soft not this mail or not now, block that we or our mail are refused, complaint that the recipient wants no mail,
    not_a_bounce nothing. Only three classes are hard; "550" alone is not. The rule behind a class is shown.

    Nothing is stored and nothing is sent; a report is not checked for being genuine. Exit code 1: a file cannot be read.
    """
    from depesche.streams.mail.bounce import read
    from depesche.streams.mail.letter import split_mails

    unread = 0
    for name in files:
        try:
            reports = tuple(report for mail in split_mails(_content(name)) for report in read(mail))
        except OSError as fault:
            talk().print(f"[red]error:[/] {name}: {fault.strerror}")
            unread += 1
            continue
        if json:
            write_json({"file": name, "reports": [_row(report) for report in reports]})
        else:
            write_text("\n".join(_told(name, reports)))
    if unread:
        raise typer.Exit(1)


def _content(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == _STANDARD_INPUT else Path(name).read_bytes()


def _row(report: Report) -> dict[str, Any]:
    row: dict[str, Any] = {
        "recipient": report.recipient,
        "action": report.action,
        "status": report.reply.enhanced,
        "replycode": str(report.reply.code or ""),
        "class": report.verdict.reply_class,
        "kind": report.verdict.kind,
        "suppress": report.verdict.suppress,
        "rule": report.verdict.rule,
        "source": report.source,
    }
    return row | ({"feedback_type": report.feedback_type} if report.feedback_type else {})


def _told(name: str, reports: tuple[Report, ...]) -> list[str]:
    """The reports in sentences."""
    from depesche.schemas.reply_classes import CLASS_MEANING

    if not reports:
        return [f"{name}: no bounce, no complaint, no automatic answer."]
    lines = [f"{name}:"]
    for report in reports:
        found = report.verdict
        codes = " ".join(filter(None, (str(report.reply.code or ""), report.reply.enhanced)))
        lines.append(f"  {report.recipient or '(masked)'}  {report.action}  {codes}".rstrip())
        follows = f"{found.kind}, suppress" if found.suppress else found.kind
        lines.append(f"    {found.reply_class} ({follows}): {CLASS_MEANING[found.reply_class].english}")
        lines.append(f"    by {found.rule}")
        if report.reply.text:
            lines.append(f"    said: {_printable(report.reply.text)}")
    return lines


def _printable(text: str) -> str:
    """A stranger's words on one line, safe for a terminal."""
    one_line = " ".join(text.split())[:300]
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in one_line)
