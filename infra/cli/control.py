"""The operator's hand: orders about mail that is under way."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from depesche.infra.cli.scope import ALL, FOR, REASON, about_mail, end_of
from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_rows

if TYPE_CHECKING:
    from depesche.analytics.controls.orders import Order
    from depesche.analytics.controls.pen import ControlPen
    from depesche.schemas.records import ControlScope

T = TypeVar("T")
ASK_ABOVE = 100
"""So many units are not cancelled without being asked for a second time."""
ID = Annotated[str, typer.Argument(metavar="ID", help="Id of the order, as `depesche control list` shows it.")]


def add_to(app: typer.Typer) -> None:
    """Add the noun ``control``."""
    noun = typer.Typer(
        help="Orders about mail that is under way: suspend, resume, drop, reroute, retry.", no_args_is_help=True
    )
    noun.command(epilog="Example: depesche control suspend --provider gmail --for 2h --reason 'they ask us to wait'")(
        suspend
    )
    noun.command(epilog="Example: depesche control resume --provider gmail")(resume)
    noun.command(epilog="Example: depesche control drop --account 10001_local_7b1c --reason phishing --yes")(drop)
    noun.command(epilog="Example: depesche control reroute --sender-domain shop.test --to relief --for 1d")(reroute)
    noun.command(epilog="Example: depesche control retry --domain example.org")(retry)
    noun.command(epilog="Example: depesche control lift 01a2069f-6bec-7bdc-b4c6-0f890183e0e2")(lift)
    noun.command("list", epilog="Example: depesche control list --ended --json")(list_all)
    app.add_typer(noun, name="control")


@about_mail
def suspend(
    scope: ControlScope,
    everything: ALL = False,
    duration: FOR = "",
    reason: REASON = "",
    json: JSON = False,
) -> None:
    """Send nothing of this mail: what waits goes to the ladder, what comes is parked there too, within seconds.

    Mail goes on being accepted, and time to deliver it goes on running out.
    """
    order = _given("suspend", scope, everything, duration=duration, reason=reason)
    _told(order, "is suspended", json)


@about_mail
def resume(
    scope: ControlScope,
    everything: ALL = False,
    json: JSON = False,
) -> None:
    """Lift every order that suspends exactly this mail; what it had parked is tried now."""
    from depesche.analytics.controls.orders import described
    from depesche.analytics.controls.pen import EVERYTHING
    from depesche.schemas.errors import MissingValueError, NotFoundError
    from depesche.schemas.records import ControlAction

    if scope == EVERYTHING and not everything:
        raise MissingValueError("scope", public="Resume what? Say which mail, or --all")

    async def work(pen: ControlPen) -> list[Order]:
        found = [
            order
            for order in pen.active()
            if order.control.action is ControlAction.SUSPEND and order.control.scope == scope
        ]
        return [await pen.lift(order.control.control_id, _by()) for order in found]

    lifted = _with_pen(work)
    if not lifted:
        raise NotFoundError(
            "no order", public=f"Nothing suspends {described(scope)}; `depesche control list` shows what holds"
        )
    for order in lifted:
        _told(order, "is resumed", json)


@about_mail
def drop(
    scope: ControlScope,
    everything: ALL = False,
    duration: FOR = "",
    reason: REASON = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many units wait now; drop none.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, however many they are.")] = False,
    json: JSON = False,
) -> None:
    """Cancel this mail for good wherever it is, and what comes as long as the order holds. It cannot be taken back.

    Says first how many units wait now; above 100 it asks, and where there is nobody to ask it needs --yes. Each unit ends as
    cancelled, with the order's id, who gave it and why.
    """
    waiting = _counted(scope, everything)
    if dry_run:
        if json:
            write_json({"dry_run": True, "waiting": waiting})
        else:
            talk().print(f"{waiting:,} units wait now and would be cancelled.")
        return
    if waiting > ASK_ABOVE and not yes:
        _ask(waiting)
    order = _given("drop", scope, everything, duration=duration, reason=reason)
    _told(order, f"is dropped ({waiting:,} units waited)", json, waiting=waiting)


@about_mail
def reroute(
    to: Annotated[str, typer.Option(help="Pool that takes it.")],
    scope: ControlScope,
    everything: ALL = False,
    duration: FOR = "",
    reason: REASON = "",
    json: JSON = False,
) -> None:
    """Send this mail by another pool, as soon as its turn comes; what was moved stays there when the order ends."""
    _check_known(to)
    order = _given("reroute", scope, everything, target_pool=to, duration=duration, reason=reason)
    _told(order, f"goes by the pool {to}", json)


@about_mail
def retry(
    scope: ControlScope,
    everything: ALL = False,
    reason: REASON = "",
    json: JSON = False,
) -> None:
    """Try now what waits on the ladder, once; what is scheduled for later is left alone."""
    order = _given("retry", scope, everything, reason=reason)
    _told(order, "is tried now", json)


def lift(id_: ID, json: JSON = False) -> None:
    """End an order, whatever it says. What it suspended is tried now; what it cancelled stays cancelled."""

    async def work(pen: ControlPen) -> Order:
        return await pen.lift(id_, _by())

    _told(_with_pen(work), "is free of it", json)


def list_all(
    ended: Annotated[bool, typer.Option("--ended", help="Also those that hold no more, of the last 30 days.")] = False,
    json: JSON = False,
) -> None:
    """List the orders that hold, the newest first."""
    from depesche.analytics.controls.shown import row_of
    from depesche.schemas.service import now_ms

    async def work(pen: ControlPen) -> list[dict[str, Any]]:
        chosen = pen.all() if ended else pen.active()
        return [row_of(order, now_ms()) for order in chosen]

    columns = ("id", "action", "about", "to_pool", "state", "until", "by", "reason")
    write_rows(_with_pen(work), columns, as_json=json, empty="No order holds.")


def _given(action: str, scope: ControlScope, everything: bool, **more: str) -> Order:
    from depesche.schemas.records import ControlAction
    from depesche.schemas.service import now_ms

    until = end_of(more.pop("duration", ""), now_ms())

    async def work(pen: ControlPen) -> Order:
        return await pen.give(ControlAction(action), scope, _by(), everything=everything, until=until, **more)

    return _with_pen(work)


def _check_known(pool: str) -> None:
    from depesche.analytics.directory.pools import check_known
    from depesche.infra.cli.things import Desk, at_desk

    async def work(desk: Desk) -> None:
        check_known(desk.directory.book, pool)

    at_desk(work)


def _counted(scope: ControlScope, everything: bool) -> int:
    from depesche.analytics.controls.pen import check_scope
    from depesche.infra.cli.queue import inspected

    check_scope(scope, everything=everything)
    return len(inspected(scope))


def _ask(waiting: int) -> None:
    import sys

    from depesche.schemas.errors import ConflictError

    if not sys.stdin.isatty():
        raise ConflictError("not confirmed", public=f"{waiting:,} units would be cancelled for good; say --yes")
    if not typer.confirm(f"Cancel {waiting:,} units for good?", err=True):
        raise typer.Abort


def _told(order: Order, sentence: str, as_json: bool, **more: Any) -> None:
    from depesche.analytics.controls.orders import described
    from depesche.analytics.controls.shown import row_of
    from depesche.infra.cli.things import told
    from depesche.schemas.service import now_ms

    id_ = order.control.control_id
    text = f"{described(order.control.scope)} {sentence}. Order {id_}"
    told({**row_of(order, now_ms()), **more}, text, as_json=as_json)


def _by() -> str:
    try:
        return f"depesche command ({getpass.getuser()})"
    except (KeyError, OSError):
        return "depesche command"


def _with_pen(work: Callable[[ControlPen], Awaitable[T]]) -> T:
    from depesche.analytics.controls.book import ControlBook
    from depesche.analytics.controls.pen import ControlPen
    from depesche.analytics.log.client import producer
    from depesche.infra.cli.quiet import asking_kafka

    settings = settings_or_fail().settings

    async def run() -> T:
        book, sender = ControlBook(settings), producer(settings, "depesche-command")
        try:
            with asking_kafka(settings):
                await sender.start()
                await book.start()
            return await work(ControlPen(settings, book, sender))
        finally:
            await book.stop()
            await sender.stop()

    return asyncio.run(run())
