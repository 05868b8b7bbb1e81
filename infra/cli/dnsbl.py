"""Are our addresses on blocklists? Asked now, beside what the monitor has noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.terminal import EXIT_FAILED, JSON, settings_or_fail, talk, write_rows

if TYPE_CHECKING:
    from depesche.schemas.settings import Settings
    from depesche.streams.monitor.blocklists import Standing

_COLUMNS = ("address", "list", "state", "codes", "reason", "since")


def add_to(app: typer.Typer) -> None:
    """Add ``dnsbl``."""
    noun = typer.Typer(help="Blocklists in DNS (RFC 5782) and the own addresses.", no_args_is_help=True)
    noun.command(epilog="Example: depesche dnsbl check 192.0.2.7 --zone zen.spamhaus.org")(check)
    app.add_typer(noun, name="dnsbl")


def check(
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="[IP]...", help="IPv4 or IPv6; without: every address we send from.")
    ] = None,
    zone: Annotated[
        list[str] | None, typer.Option(help="Ask this list instead of the ones in dnsbl.zones; may be repeated.")
    ] = None,
    json: JSON = False,
) -> None:
    """Ask every list about every address now.

    A list is asked about its test entries first: one that lists everything, does not list its test entry, or does not serve us
    is unusable and says nothing about any address. unknown: no answer. since: when the monitor noticed. The exit code is 1 when
    an address is listed.
    """
    from depesche.schemas.errors import SetupError

    settings = settings_or_fail().settings
    zones = tuple(zone or settings.dnsbl.zones)
    if not zones:
        raise SetupError(
            "No blocklist is set (in the sandbox none is, unless you set it).",
            fix="Name one with --zone, or set dnsbl.zones (DEPESCHE_DNSBL__ZONES).",
        )
    own = not addresses
    asked = _given(addresses) if addresses else _own(settings)
    found = asyncio.run(_examined(settings, asked, zones))
    since = _since(settings) if own else {}
    rows = [_row(standing, since) for standing in found]
    write_rows(
        rows, _COLUMNS, as_json=json, empty="No own address is set: neither in a pool nor in deliver.source_ips."
    )
    listed = sum(row["state"] == "listed" for row in rows)
    if listed:
        talk().print(f"[red]{listed} listings[/]")
        raise typer.Exit(EXIT_FAILED)


def _given(addresses: Collection[str]) -> frozenset[str]:
    from depesche.schemas.errors import InvalidRequestError
    from depesche.streams.mail.dnsbl import plain_address

    for text in addresses:
        if not plain_address(text):
            raise InvalidRequestError(
                "address", public=f"{text!r} is no IP address; give one such as 192.0.2.7 or 2001:db8::7"
            )
    return frozenset(map(plain_address, addresses))


def _own(settings: Settings) -> frozenset[str]:
    from depesche.infra.cli.things import open_desk
    from depesche.streams.monitor.service import own_addresses

    async def work() -> frozenset[str]:
        async with open_desk(settings) as desk:
            return own_addresses(settings, desk.directory)

    return asyncio.run(work())


async def _examined(settings: Settings, addresses: Collection[str], zones: Collection[str]) -> list[Standing]:
    from depesche.streams.monitor.blocklists import examine
    from depesche.streams.wire.dnsbl import blocklist_resolver

    with talk().status(f"asking {len(zones)} lists about {len(addresses)} addresses ..."):
        return await examine(blocklist_resolver(settings), addresses, zones)


def _since(settings: Settings) -> dict[str, int]:
    """When each open listing was noticed, by subject."""
    from depesche.analytics.log.alerts import read_ledger
    from depesche.infra.cli.quiet import asking_kafka
    from depesche.schemas.records import AlertKind

    with asking_kafka(settings):
        ledger = asyncio.run(read_ledger(settings))
    return {key.subject: alert.at for key, alert in ledger.open().items() if key.kind is AlertKind.LISTED}


def _row(standing: Standing, since: dict[str, int]) -> dict[str, Any]:
    from depesche.analytics.queries.results import rfc3339

    verdict = standing.verdict
    if verdict is not None:
        state = {"failed": "unknown", "refused": "unusable"}.get(verdict.state, verdict.state)
    else:
        state = "unknown" if standing.health.usable is None else "unusable"
    return {
        "address": standing.address,
        "list": standing.zone,
        "state": state,
        "codes": list(verdict.codes) if verdict else [],
        "reason": standing.reason or standing.health.reason,
        "since": rfc3339(since.get(f"{standing.address}/{standing.zone}")),
    }
