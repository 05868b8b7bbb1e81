"""The panel at the end of a start: where everything is, and lines that work when they are pasted."""

from __future__ import annotations

import shlex
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape

from depesche.infra.cli.invocation import command_name
from depesche.infra.local.doctor_machine import missing_programs
from depesche.infra.local.seed import Demo
from depesche.schemas.settings import Settings

RECIPIENT = "ada@inbox.test"


def welcome_data(settings: Settings, demo: Demo | None) -> dict[str, Any]:
    """The same for programs."""
    found: dict[str, Any] = {
        "home": str(settings.home),
        "api": settings.rest_url,
        "smtp": f"{settings.smtp.host}:{settings.smtp.port}",
        "smtp_tls": f"{settings.smtp.host}:{settings.smtp.tls_port}",
        "kafka": settings.bootstrap,
        "clickhouse": settings.clickhouse.url or f"http://127.0.0.1:{settings.clickhouse.port}",
    }
    if demo is not None:
        found |= {
            "tenant": demo.tenant,
            "domain": demo.domain,
            "api_key": demo.api_key,
            "smtp_user": demo.user,
            "smtp_password": demo.password,
        }
    return found


def curl_line(settings: Settings, demo: Demo) -> str:
    """A REST call that sends a mail."""
    body = {
        "from": f"Demo Shop <hello@{demo.domain}>",
        "to": [RECIPIENT],
        "subject": "Hello from curl",
        "text": "Every step of this mail is a record.",
    }
    return shlex.join(
        [
            *("curl", "-sS", f"{settings.rest_url}/v1/emails"),
            *("-H", f"Authorization: Bearer {demo.api_key}"),
            *("-H", "Content-Type: application/json"),
            *("-d", orjson.dumps(body).decode(), "-w", r"\n"),
        ]
    )


def swaks_line(settings: Settings, demo: Demo) -> str:
    """An SMTP submission with STARTTLS that sends a mail."""
    return shlex.join(
        [
            *("swaks", "--server", settings.smtp.host, "--port", str(settings.smtp.port)),
            *("--tls", "--auth", "PLAIN", "--auth-user", demo.user, "--auth-password", demo.password),
            *("--from", f"hello@{demo.domain}", "--to", RECIPIENT),
            *("--header", "Subject: Hello from swaks", "--body", "Every step of this mail is a record."),
        ]
    )


def smtp_line(settings: Settings, demo: Demo) -> str:
    """The same by curl, for machines without swaks."""
    lines = (
        f"From: hello@{demo.domain}",
        f"To: {RECIPIENT}",
        "Subject: Hello by SMTP",
        "",
        "Every step is a record.",
        "",
    )
    mail = shlex.join(["printf", r"\r\n".join(lines)])
    send = [
        *("curl", "-sS", "-k", "--ssl-reqd", f"smtp://{settings.smtp.host}:{settings.smtp.port}"),
        *("--user", f"{demo.user}:{demo.password}", "--mail-from", f"hello@{demo.domain}"),
        *("--mail-rcpt", RECIPIENT, "-T", "-"),
    ]
    return f"{mail} | {shlex.join(send)}"


def welcome(settings: Settings, demo: Demo | None, console: Console) -> None:
    """Tell where everything is."""

    def line(name: str, value: str) -> None:
        console.print(f"  [bold]{name:<11}[/]{escape(value)}")

    console.print("\n[bold green]Depesche is up.[/] Ctrl-C stops it; nothing that was accepted is lost.\n")
    data = welcome_data(settings, demo)
    line("API", f"{data['api']}   (description: {data['api']}/openapi.json)")
    line("SMTP", f"{data['smtp']} with STARTTLS, {data['smtp_tls']} with TLS")
    line("log", f"Kafka on {data['kafka']}")
    line("store", f"ClickHouse on {data['clickhouse']}")
    line("state", data["home"])
    if demo is None:
        return
    line("API key", demo.api_key)
    line("SMTP login", f"{demo.user} / {demo.password}")
    console.print("\n[bold]Send a mail:[/]")
    console.print(f"  {escape(curl_line(settings, demo))}")
    without_swaks = {"swaks", "Net::SSLeay"}.intersection(missing_programs())
    console.print(f"  {escape((smtp_line if without_swaks else swaks_line)(settings, demo))}")
    name = command_name()
    console.print("\n[bold]Look at it:[/]")
    for command, purpose in (
        ("inbox", "the mail as it arrived"),
        (f"search to:{RECIPIENT}", "what happened to whom"),
        ("show ID", "its story, step by step"),
        ("audit", "the proof that nothing is lost"),
        ("send --to hardbounce@sandbox.test", "a mail that comes back; more: inbox --help"),
    ):
        console.print(f"  {name} {command:<34} [dim]{purpose}[/]")
    console.print()
