"""The sandbox's mailboxes: what arrived at the far side, exactly as it arrived."""

from __future__ import annotations

import email
import email.policy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_rows, write_text
from depesche.schemas.errors import NotFoundError
from depesche.schemas.settings import Settings

if TYPE_CHECKING:
    from depesche.infra.local.sink.mailbox import StoredMail

_SCRIPTED = (
    "Addresses there act by their name: hardbounce@sandbox.test is refused, defer-1x@ is taken at the second attempt, slow@ "
    "takes its time, spam@ is refused for its content; full@, blocked@, greylist@, dropdot@ and others do as they say. Every "
    "other address gets its mail."
)
ID = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a mail, as `depesche inbox` shows it; default: the newest.")
]


def add_to(app: typer.Typer) -> None:
    """Add the noun ``inbox``; alone it lists."""
    noun = typer.Typer(help=f"What arrived at the sandbox's far side. {_SCRIPTED}", invoke_without_command=True)
    noun.callback(epilog="Example: depesche inbox")(default)
    noun.command("list", epilog="Example: depesche inbox list --to ada@inbox.test --json")(list_mails)
    noun.command(epilog="Example: depesche inbox show")(show)
    noun.command(epilog="Example: depesche inbox raw > mail.eml")(raw)
    app.add_typer(noun, name="inbox")


def default(context: typer.Context, json: JSON = False) -> None:
    """What arrived at the sandbox's far side, newest first: Postfix (inbox.test) and the scripted mailbox (all others)."""
    if context.invoked_subcommand is None:
        list_mails(json=json)


def list_mails(
    to: Annotated[str, typer.Option(help="Only mail to this address.")] = "",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 20,
    json: JSON = False,
) -> None:
    """List what arrived, newest first."""
    settings = settings_or_fail().settings
    rows = [_row(mail, box) for mail, box in _all(settings) if not to or to in mail.recipients][:limit]
    empty = "Nothing has arrived yet. `depesche send --to ada@inbox.test --subject Hello` sends something."
    write_rows(rows, ("id", "time", "to", "subject", "size", "box"), as_json=json, empty=empty)


def show(id_: ID = "", json: JSON = False) -> None:
    """Show one mail as its reader would see it: the headers that matter, the text, the attachments."""
    mail, box, content = _read(settings_or_fail().settings, id_)
    message = email.message_from_bytes(content, policy=email.policy.default)
    body = message.get_body(("plain", "html"))
    text = body.get_content() if body is not None else ""
    attachments = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    headers = {
        name: str(message[name]) for name in ("From", "To", "Cc", "Subject", "Date", "Message-ID") if message[name]
    }
    signed = [value.replace("\n", " ") for value in map(str, message.get_all("DKIM-Signature", []))]
    if json:
        write_json({**_row(mail, box), "headers": headers, "text": text, "attachments": attachments, "dkim": signed})
        return
    for name, value in headers.items():
        write_text(f"{name}: {value}")
    for name in attachments:
        write_text(f"Attachment: {name}")
    write_text(f"DKIM signatures: {len(signed)}")
    write_text(f"\n{text}")


def raw(id_: ID = "", json: JSON = False) -> None:
    """Write one mail byte by byte as it arrived."""
    mail, box, content = _read(settings_or_fail().settings, id_)
    if json:
        write_json({**_row(mail, box), "content": content.decode("utf-8", "replace")})
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def _boxes(settings: Settings) -> tuple[tuple[str, Path], ...]:
    from depesche.infra.local.sandbox import postfix, sink_settings

    return (("mailbox", sink_settings(settings).mailbox), ("postfix", postfix(settings).settings.maildir))


def _all(settings: Settings) -> Iterator[tuple[StoredMail, str]]:
    from depesche.infra.local.sink.mailbox import list_mails as stored

    found: list[tuple[StoredMail, str]] = []
    for name, folder in _boxes(settings):
        try:
            found += [(mail, name) for mail in stored(folder)]
        except PermissionError:
            talk().print(f"[yellow]warning:[/] {folder} cannot be read by this user.")
    yield from sorted(found, key=lambda pair: pair[0].time, reverse=True)


def _read(settings: Settings, id_: str) -> tuple[StoredMail, str, bytes]:
    from depesche.infra.local.sink.mailbox import read_mail

    mails = list(_all(settings))
    for mail, box in mails:
        if not id_ or mail.id == id_:
            try:
                return mail, box, read_mail(dict(_boxes(settings))[box], mail.id)[1]
            except KeyError:
                break
    raise NotFoundError("mail", public="There is no such mail in the sandbox" if mails else "Nothing has arrived yet")


def _row(mail: StoredMail, box: str) -> dict[str, Any]:
    return {
        "id": mail.id,
        "time": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(mail.time)),
        "from": mail.sender,
        "to": mail.recipients,
        "subject": mail.subject,
        "size": mail.size,
        "message_id": mail.message_id,
        "box": box,
    }
