"""Which mail is meant: the options by which orders and the queue name it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from depesche.schemas.records import ControlScope

_NAMING = {
    "customer": typer.Option("--customer", "-c", help="Of this customer number."),
    "account": typer.Option(help="Of this technical account."),
    "campaign": typer.Option(help="Of this campaign; say --customer or --account too."),
    "provider": typer.Option(help="To this mailbox provider, such as gmail, or a domain that is its own."),
    "domain": typer.Option(help="To this recipient domain."),
    "sender_domain": typer.Option(help="From this sender domain."),
    "pool": typer.Option(help="By this egress pool."),
}
"""The options that name mail."""
ALL = Annotated[bool, typer.Option("--all", help="All mail there is; needed where nothing else is said.")]
REASON = Annotated[str, typer.Option(help="Why; it is kept with the order, and shown with each mail it cancels.")]
FOR = Annotated[
    str, typer.Option("--for", help="How long the order holds, as 90s, 10m, 2h or 3d; default: until lifted.")
]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def about_mail(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` the options that name mail where it has a parameter ``scope``, and the scope that they name.

    Typer reads a command's options from its signature, so one is written: the command's own, with these options in it.
    """
    # The scope is no option, so its type need not be known here, where it would cost each start of a command.
    types = get_type_hints(command, localns={"ControlScope": object}, include_extras=True)

    def parameters() -> Iterator[Parameter]:
        for own in signature(command).parameters.values():
            if own.name != "scope":
                yield own.replace(kind=Parameter.KEYWORD_ONLY, annotation=types[own.name])
                continue
            for name, option in _NAMING.items():
                yield Parameter(name, Parameter.KEYWORD_ONLY, default="", annotation=Annotated[str, option])

    @wraps(command)
    def scoped(**given: Any) -> None:
        named = {name: given.pop(name) for name in _NAMING}
        command(scope=scope_of(**named), **given)

    options = list(parameters())
    scoped.__annotations__ = {option.name: option.annotation for option in options}
    scoped.__signature__ = Signature(options)  # type: ignore[attr-defined]
    return scoped


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
