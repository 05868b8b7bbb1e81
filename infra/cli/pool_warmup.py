"""``depesche pool warmup``: how far the addresses of a pool are; and where their warm-up begins, how fast, and who helps."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depesche.infra.cli.terminal import JSON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from depesche.analytics.warmup.book import WarmupBook
    from depesche.infra.cli.things import Desk
    from depesche.schemas.records import Pool, PoolAddress

NAME = Annotated[str, typer.Argument(help="Name of the pool.")]
BEGIN = Annotated[list[str] | None, typer.Option(help="Address that warms up from today, or --on; may be repeated.")]
ON = Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="First day (UTC) of those that begin; default: today.")]
END = Annotated[list[str] | None, typer.Option(help="Address that is warm from now on; may be repeated.")]
PLAN = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Mails per provider, day by day; empty: the service's plan.")
]
OVERFLOW = Annotated[str | None, typer.Option(metavar="POOL", help="Pool whose warm addresses help; empty: none.")]
_COLUMNS = ("address", "state", "day", "allowance", "used", "warm_at")


def warmup(
    name: NAME,
    begin: BEGIN = None,
    on: ON = "",
    end: END = None,
    plan: PLAN = None,
    overflow: OVERFLOW = None,
    json: JSON = False,
) -> None:
    """Show the warm-up of a pool: day of the plan, what may be sent to each provider today, and what was; or change it.

    A cold address sends each provider 50 mails on its first day, 100 on the second, twice as many each day up to 51,200, and is
    warm after 30 days (UTC). Cold addresses go first, the rest takes the pool's warm ones, then those of the pool that
    helps; what nobody may send waits.
    """
    from depesche.analytics.directory.pools import OPERATOR, pool_of
    from depesche.analytics.warmup.book import WarmupBook
    from depesche.infra.cli.things import BY, at_desk
    from depesche.schemas.errors import NotFoundError
    from depesche.schemas.service import now_ms

    async def work(desk: Desk) -> tuple[Pool, WarmupBook]:
        pool = pool_of(desk.directory.book, name)
        if pool is None:
            raise NotFoundError(f"no pool {name}", public=f"There is no pool {name}")
        wanted = _changed(pool, _dates(begin or (), on, now_ms()), end or (), plan, overflow)
        if wanted != pool:
            await desk.registrar.change(OPERATOR, name, wanted, BY)
        book = WarmupBook(desk.settings)
        try:
            await book.start()
        finally:
            await book.stop()
        return wanted, book

    pool, book = at_desk(work)
    _write([row_of(address, pool, book, now_ms()) for address in pool.addresses], as_json=json)


def row_of(address: PoolAddress, pool: Pool, book: WarmupBook, now: int) -> dict[str, Any]:
    """How far an address is at ``now`` (milliseconds since 1970 UTC); times in RFC 3339."""
    from depesche.analytics.queries.results import rfc3339
    from depesche.streams.mail.warmup import allowance, day_of, day_of_plan, plan_of, warm, warm_at

    plan, day = plan_of(pool), day_of_plan(address, now)
    cold, at = not warm(address, plan, now), warm_at(address, plan)
    return {
        "address": address.ip,
        "state": "warm" if not cold else "warming up" if day is not None and day >= 0 else "not begun",
        "day": day + 1 if cold and day is not None and day >= 0 else None,
        "days": len(plan),
        "allowance": allowance(address, plan, now),
        "used": book.by_provider(address.ip, day_of(now)) if cold else {},
        "warm_at": rfc3339(at) if at is not None else None,
    }


def _write(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from depesche.infra.cli.terminal import write_rows

    def shown(row: Mapping[str, Any]) -> dict[str, Any]:
        used = ", ".join(f"{provider} {count}" for provider, count in row["used"].items())
        day = f"{row['day']} of {row['days']}" if row["day"] else None
        return {**row, "used": used, "day": day}

    write_rows(rows if as_json else map(shown, rows), _COLUMNS, as_json=as_json, empty="The pool has no address.")


def _dates(begin: list[str] | tuple[str, ...], on: str, now: int) -> dict[str, int]:
    """The first day of each address that begins, in milliseconds since 1970 UTC."""
    from depesche.schemas.errors import InvalidRequestError
    from depesche.streams.mail.warmup import day_of

    if on and not begin:
        raise InvalidRequestError("on without begin", public="--on is for --begin: say which address begins then")
    try:
        day = datetime.datetime.fromisoformat(on).replace(tzinfo=datetime.UTC) if on else None
    except ValueError as fault:
        public = f"{on!r} is not a day; write it as 2026-01-31"
        raise InvalidRequestError("no day", public=public) from fault
    first = day_of(now if day is None else round(day.timestamp() * 1000))
    return dict.fromkeys(map(_ip, begin), first)


def _changed(
    pool: Pool, begin: dict[str, int], end: list[str] | tuple[str, ...], plan: str | None, overflow: str | None
) -> Pool:
    from depesche.schemas.errors import InvalidRequestError, NotFoundError

    ended = set(map(_ip, end))
    missing = ({*begin} | ended) - {address.ip for address in pool.addresses}
    if missing:
        raise NotFoundError("no address", public=f"{', '.join(sorted(missing))} is not in the pool")
    if ended & {*begin}:
        raise InvalidRequestError("both", public=f"{', '.join(sorted(ended & {*begin}))} cannot both begin and end")
    addresses = tuple(
        replace(a, warm_up_from=None if a.ip in ended else begin.get(a.ip, a.warm_up_from)) for a in pool.addresses
    )
    days = pool.warm_up_plan if plan is None else _plan(plan)
    helper = pool.overflow_pool if overflow is None else overflow
    return replace(pool, addresses=addresses, warm_up_plan=days, overflow_pool=helper)


def _plan(text: str) -> tuple[int, ...]:
    from depesche.schemas.errors import InvalidRequestError

    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError as fault:
        raise InvalidRequestError("plan", public=f"{text!r} is not a plan; write it as 50,100,200") from fault


def _ip(text: str) -> str:
    from depesche.analytics.directory.pools import pool_address

    return pool_address(text).ip
