"""Send one mail through the REST door, as a customer's program would."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from depesche.infra.cli.terminal import (
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    EXIT_REFUSED,
    EXIT_TEMPORARY,
    JSON,
    settings_or_fail,
    talk,
    write_json,
    write_text,
)
from depesche.schemas.errors import LogUnavailableError, SetupError
from depesche.schemas.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Add ``send``."""
    app.command(epilog="Example: depesche send --to ada@inbox.test --subject Hello --text 'Good morning'")(send)


def send(
    to: Annotated[list[str], typer.Option(help="Recipient; may be repeated.")],
    subject: Annotated[str, typer.Option(help="Subject.")] = "Hello",
    text: Annotated[str, typer.Option(help="The message as text; - reads standard input.")] = "Sent with Depesche.",
    html: Annotated[str, typer.Option(help="The message as HTML.")] = "",
    sender: Annotated[str, typer.Option("--from", help="Sender; default: hello@ the demo's domain.")] = "",
    attach: Annotated[list[Path] | None, typer.Option(help="File to attach; may be repeated.")] = None,
    key: Annotated[str, typer.Option(help="API key; default: DEPESCHE_API_KEY, else the demo's.")] = "",
    idempotency_key: Annotated[str, typer.Option(help="Sending again with the same key sends nothing.")] = "",
    json: JSON = False,
) -> None:
    """Send one mail through the REST door; writes the id to look it up by.

    The exit code is 4 when it is refused and 5 when the door cannot take it just now.
    """
    import httpx

    settings = settings_or_fail().settings
    body: dict[str, Any] = {"to": to, "subject": subject, "text": sys.stdin.read() if text == "-" else text}
    headers = _credentials(settings, key, sender, body)
    if html:
        body["html"] = html
    if attach:
        body["attachments"] = [_attachment(file) for file in attach]
    if idempotency_key:
        headers["Idempotency-Key"] = idempotency_key
    try:
        answer = httpx.post(f"{settings.rest_url}/v1/emails", json=body, headers=headers, timeout=60)
    except httpx.TransportError as fault:
        raise LogUnavailableError(
            str(fault), public=f"The REST door does not answer on {settings.rest_url}; is `depesche up` running?"
        ) from fault
    _tell(answer.status_code, answer.json(), as_json=json)


def _credentials(settings: Settings, key: str, sender: str, body: dict[str, Any]) -> dict[str, str]:
    from depesche.infra.local.seed import read_demo

    demo = read_demo(settings.home)
    token = key or os.environ.get("DEPESCHE_API_KEY", "") or (demo.api_key if demo else "")
    if not token:
        raise SetupError("Which key?", fix="Say --key, set DEPESCHE_API_KEY, or start the demo with `depesche up`.")
    if not sender and demo is None:
        raise SetupError("From whom?", fix="Say --from with an address of a registered domain.")
    body["from"] = sender or (f"Demo Shop <hello@{demo.domain}>" if demo else "")
    return {"Authorization": f"Bearer {token}"}


def _attachment(file: Path) -> dict[str, str]:
    import base64
    import mimetypes

    try:
        content = file.read_bytes()
    except OSError as fault:
        raise SetupError(f"{file} cannot be read: {fault.strerror}.", fix="Correct the path or its rights.") from fault
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return {"filename": file.name, "content_type": kind, "content": base64.b64encode(content).decode()}


def _tell(status: int, answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(answer)
    if status < 300:
        if not as_json:
            for unit in answer["units"]:
                refused = unit.get("refused")
                write_text(unit["id"])
                talk().print(f"{unit['to']}: " + (f"[red]refused[/] ({refused['detail']})" if refused else "accepted"))
            talk().print(f"[dim]depesche show {answer['id']}[/]")
        return
    if not as_json:
        talk().print(f"[bold red]error:[/] {answer.get('detail') or answer.get('title')}")
    refused_code = EXIT_NOT_FOUND if status == 404 else EXIT_REFUSED
    temporary = status in (429, 503)
    raise typer.Exit(EXIT_TEMPORARY if temporary else refused_code if status < 500 or status == 501 else EXIT_FAILED)
