"""Which mail is meant: the options by which orders and the queue name it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from depesche.schemas.records import ControlScope

CUSTOMER = Annotated[str, typer.Option("--customer", "-c", help="Of this customer number.")]
ACCOUNT = Annotated[str, typer.Option(help="Of this technical account.")]
CAMPAIGN = Annotated[str, typer.Option(help="Of this campaign; say --customer or --account too.")]
PROVIDER = Annotated[str, typer.Option(help="To this mailbox provider, such as gmail, or a domain that is its own.")]
DOMAIN = Annotated[str, typer.Option(help="To this recipient domain.")]
SENDER_DOMAIN = Annotated[str, typer.Option(help="From this sender domain.")]
POOL = Annotated[str, typer.Option(help="By this egress pool.")]
ALL = Annotated[bool, typer.Option("--all", help="All mail there is; needed where nothing else is said.")]
REASON = Annotated[str, typer.Option(help="Why; it is kept with the order, and shown with each mail it cancels.")]
FOR = Annotated[
    str, typer.Option("--for", help="How long the order holds, as 90s, 10m, 2h or 3d; default: until lifted.")
]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def scope_of(
    customer: str, account: str, campaign: str, provider: str, domain: str, sender_domain: str, pool: str
) -> ControlScope:
    """The scope that these options name.

    Raises:
        InvalidRequestError: a domain is none.
    """
    from depesche.schemas.records import ControlScope
    from depesche.schemas.values import domain_name

    return ControlScope(
        tenant=customer or None,
        account=account or None,
        campaign_id=campaign or None,
        provider=provider.lower() or None,
        recipient_domain=domain_name(domain) if domain else None,
        sender_domain=domain_name(sender_domain) if sender_domain else None,
        pool=pool or None,
    )


def end_of(duration: str, now: int) -> int | None:
    """When an order ends that holds for ``duration`` from ``now`` on (milliseconds since 1970 UTC); None: when it is lifted.

    Raises:
        InvalidRequestError: not a duration.
    """
    from depesche.schemas.errors import InvalidRequestError

    if not duration:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", duration.strip())
    if found is None:
        raise InvalidRequestError("duration", public=f"--for {duration} is no duration; say 90s, 10m, 2h or 3d")
    return now + int(found[1]) * _SECONDS[found[2]] * 1000
