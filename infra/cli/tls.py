"""TLS towards the far side: what a domain asks and what we would do, and the reports of a day (RFC 8460)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.domain import TLSWord
from depesche.infra.cli.terminal import JSON, settings_or_fail, write_json, write_rows, write_text

if TYPE_CHECKING:
    from depesche.schemas.records import TLSCount
    from depesche.schemas.settings import Settings
    from depesche.streams.mail.tls_policy import Asked
    from depesche.streams.wire.dns import Host, Hosts
    from depesche.streams.wire.sts import StsFinding

DOMAIN = Annotated[str, typer.Argument(help="Domain of recipients, such as example.org.")]


def add_to(app: typer.Typer) -> None:
    """Add the noun ``tls``."""
    noun = typer.Typer(help="TLS towards the far side: policies of receivers, and reports.", no_args_is_help=True)
    noun.command(epilog="Example: depesche tls explain example.org --asked must")(explain)
    noun.command(epilog="Example: depesche tls report example.org --day 2026-11-27 | jq .policies")(report)
    app.add_typer(noun, name="tls")


def explain(
    domain: DOMAIN,
    asked: Annotated[TLSWord, typer.Option(help="What the sender domain asks of TLS.")] = TLSWord.MAY,
    json: JSON = False,
) -> None:
    """Say which TLS policy holds for each mail host of a domain, where it comes from, and what a courier would do.

    Asks DNS and the policy host as a courier does; a policy that is fetched is kept for couriers, too.
    """
    from depesche.schemas.values import domain_name

    settings = settings_or_fail().settings
    row = asyncio.run(_explained(settings, domain_name(domain), asked.value))
    if json:
        write_json(row)
    else:
        write_text("\n".join(_told(row)))


async def _explained(settings: Settings, domain: str, asked: Asked) -> dict[str, Any]:
    from depesche.streams.wire.destinations import shelf_of
    from depesche.streams.wire.dns import Resolver
    from depesche.streams.wire.sts import StsFinding, StsPolicies

    resolver = Resolver(settings.dns, allow_private=settings.deliver.allow_private)
    try:
        hosts = await resolver.mail_hosts(domain)
        found = StsFinding()
        if settings.tls.sts and hosts.verdict == "found":
            found = await StsPolicies(settings.tls, resolver, shelf_of(settings.home)).find(domain)
    finally:
        await resolver.close()
    return {
        "domain": domain,
        "verdict": hosts.verdict,
        "reason": hosts.reason,
        "asked": asked,
        "dnssec": settings.dns.validating,
        "sts": _sts(found),
        "hosts": [_host(host, hosts, found, asked) for group in hosts.groups for host in group],
    }


def _sts(found: StsFinding) -> dict[str, Any] | None:
    from depesche.analytics.queries.results import rfc3339

    problem = {"problem": found.problem, "reason": found.reason} if found.problem else {}
    if found.policy is None:
        return problem or None
    return {
        "mode": found.policy.mode,
        "mx": list(found.policy.mx),
        "id": found.id,
        "from": "fetched now" if found.fetched else "kept",
        "fetched_at": rfc3339(found.fetched_at),
        "holds_until": rfc3339(found.expires_at),
        **problem,
    }


def _host(host: Host, hosts: Hosts, found: StsFinding, asked: Asked) -> dict[str, Any]:
    from depesche.streams.mail.tls_policy import EXPLANATION, required

    wanted = required(host.name, hosts.domain, asked, host.dane, found.policy)
    return {
        "host": host.name,
        "addresses": list(host.addresses),
        "tlsa": [str(record) for record in host.dane.records] if host.dane else [],
        "policy": wanted.name,
        "means": wanted.refusal or EXPLANATION[wanted.name],
        "used": not wanted.refusal,
    }


def _told(row: Mapping[str, Any]) -> list[str]:
    """The answer for people."""
    lines = [f"{row['domain']}, for a sender that says {row['asked']}:"]
    if row["verdict"] != "found":
        return [*lines, f"  no mail host: {row['reason']}"]
    if not row["dnssec"]:
        lines.append("  DANE    not looked for: the resolver is not said to validate (dns.validating)")
    sts = row["sts"] or {}
    if "mode" in sts:
        hosts = ", ".join(sts["mx"]) or "no host"
        lines.append(f"  MTA-STS {sts['mode']} for {hosts}; {sts['from']}, id {sts['id']}, until {sts['holds_until']}")
    if "problem" in sts:
        lines.append(f"  MTA-STS a policy is announced and cannot be had: {sts['problem']}, {sts['reason']}")
    if not sts:
        lines.append("  MTA-STS no policy")
    for host in row["hosts"]:
        lines.append(f"  {host['host']} [{', '.join(host['addresses'])}]: {host['policy']}")
        lines += [f"    TLSA {record}" for record in host["tlsa"]]
        lines.append(f"    {'' if host['used'] else 'not used: '}{host['means']}")
    return lines


def report(
    domain: Annotated[str, typer.Argument(help="Receiving domain; default: an overview of all.")] = "",
    day: Annotated[str, typer.Option(help="Day in UTC, as 2026-11-27; default: today.")] = "",
    json: JSON = False,
) -> None:
    """Show the TLS report of a day: for one domain the JSON of RFC 8460, else what was counted for each.

    With --json and no domain: the report of every domain, one per line. Sessions of the last seconds may be missing.
    """
    from depesche.analytics.log.tls_counts import read_tls_counts
    from depesche.infra.cli.quiet import asking_kafka
    from depesche.schemas.errors import NotFoundError
    from depesche.schemas.service import now_ms
    from depesche.streams.mail.tls_report import day_of

    settings = settings_or_fail().settings
    chosen = _checked(day) if day else day_of(now_ms())
    with asking_kafka(settings):
        counts = asyncio.run(read_tls_counts(settings, chosen))
    if domain:
        counts = [count for count in counts if count.domain == domain.lower().rstrip(".")]
        if not counts:
            raise NotFoundError("no sessions", public=f"No session with {domain} was counted on {chosen}")
    if domain or json:
        write_json(*_reports(settings, chosen, counts))
    else:
        columns = ("domain", "policy", "good", "failed", "results")
        write_rows(_overview(counts), columns, as_json=False, empty=f"No session was counted on {chosen}.")


def _checked(day: str) -> str:
    import datetime

    from depesche.schemas.errors import SetupError

    try:
        return datetime.date.fromisoformat(day).isoformat()
    except ValueError as fault:
        raise SetupError(f"{day} is not a day.", fix="Write it as 2026-11-27.") from fault


def _reports(settings: Settings, day: str, counts: list[TLSCount]) -> list[dict[str, Any]]:
    from depesche.streams.mail.tls_report import report as reported

    name = settings.deliver.helo or settings.smtp.hostname
    organization, contact = settings.tls.organization or name, settings.tls.contact or f"postmaster@{name}"
    domains = sorted({count.domain for count in counts})
    return [
        reported(domain, day, [count for count in counts if count.domain == domain], organization, contact)
        for domain in domains
    ]


def _overview(counts: list[TLSCount]) -> list[Mapping[str, Any]]:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for count in sorted(counts, key=lambda count: (count.domain, count.kind, count.result)):
        empty = {"domain": count.domain, "policy": count.kind, "good": 0, "failed": 0, "results": {}}
        row = rows.setdefault((count.domain, count.kind), empty)
        row["failed" if count.result else "good"] += count.count
        if count.result:
            row["results"][count.result] = row["results"].get(count.result, 0) + count.count
    return [
        {**row, "results": ", ".join(f"{result} {number}" for result, number in row["results"].items())}
        for row in rows.values()
    ]
