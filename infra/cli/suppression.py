"""The suppression list at the terminal: who gets no mail, why, since when; add, lift, import, export."""

from __future__ import annotations

import asyncio
import getpass
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from depesche.infra.cli.terminal import JSON, settings_or_fail, talk, write_json, write_pairs, write_rows, write_text

if TYPE_CHECKING:
    from depesche.analytics.suppressions.desk import SuppressionDesk
    from depesche.analytics.suppressions.requests import Asked
    from depesche.infra.suppression_file import Read
    from depesche.schemas.settings import Settings

T = TypeVar("T")
ADDRESS = Annotated[str, typer.Argument(help="The address.")]
CUSTOMER = Annotated[
    str, typer.Option("--customer", "-c", help="Customer number; default: DEPESCHE_TENANT, else the demo's.")
]
OF_CUSTOMER = Annotated[str, typer.Option("--customer", "-c", help="Only this customer's; default: everybody's.")]
NOTE = Annotated[str, typer.Option("--note", help="Why, in your words.")]
STATE = Annotated[str, typer.Option(help="active, ended, pending, lifted or all.")]
_COLUMNS = ("address", "customer", "state", "reason", "reply_class", "since", "until", "blocked")
_PREVIEW = 5
_AT_ONCE = 500
_STATES = ("active", "ended", "pending", "lifted", "all")


def add_to(app: typer.Typer) -> None:
    """Add the noun ``suppression``."""
    noun = typer.Typer(help="The suppression list: who gets no mail, and why.", no_args_is_help=True)
    noun.command(epilog="Example: depesche suppression add ada@example.org --note 'letter of 3 March'")(add)
    noun.command(epilog="Example: depesche suppression remove ada@example.org --note 'asked us to write again'")(remove)
    noun.command(epilog="Example: depesche suppression show ada@example.org")(show)
    noun.command("list", epilog="Example: depesche suppression list --reason complained --domain example.org")(list_all)
    noun.command(epilog="Example: depesche suppression why ada@example.org")(why)
    noun.command("import", epilog="Example: depesche suppression import old-list.csv --note 'from the old system'")(
        import_file
    )
    noun.command(epilog="Example: depesche suppression export list.csv --state all")(export)
    app.add_typer(noun, name="suppression")


def add(
    address: ADDRESS,
    note: NOTE = "",
    days: Annotated[int, typer.Option(min=0, max=3650, help="How long; 0: until lifted.")] = 0,
    customer: CUSTOMER = "",
    json: JSON = False,
) -> None:
    """Suppress an address by hand. Says so once it is in force."""
    from depesche.analytics.suppressions.desk import Wanted

    async def work(desk: SuppressionDesk, settings: Settings) -> dict[str, Any]:
        tenant = _customer(settings, customer)
        await desk.add(tenant, address, Wanted(days=days, note=note), _who())
        return desk.explained(tenant, desk.why(tenant, address))

    row = at_desk(work)
    _told(row, f"{row['address']} gets no mail any more.", as_json=json)


def remove(address: ADDRESS, note: NOTE = "", customer: CUSTOMER = "", json: JSON = False) -> None:
    """Lift a suppression: what happened until now counts no more. The next hard bounce suppresses again."""

    async def work(desk: SuppressionDesk, settings: Settings) -> dict[str, Any]:
        entry = await desk.lift(_customer(settings, customer), address, _who(), note)
        return desk.row(entry, address)

    row = at_desk(work)
    _told(row, f"{row['address']} gets mail again.", as_json=json)


def show(address: ADDRESS, customer: CUSTOMER = "", json: JSON = False) -> None:
    """Show what the list knows of an address, in force or not, with the facts behind it."""
    from depesche.schemas.errors import NotFoundError

    async def work(desk: SuppressionDesk, settings: Settings) -> dict[str, Any]:
        found = desk.why(_customer(settings, customer), address)
        if found.entry is None:
            raise NotFoundError(address, public=f"{found.address} is not on the suppression list")
        return desk.row(found.entry, found.address)

    row = at_desk(work)
    if json:
        write_json(row)
        return
    facts = row.pop("evidence")
    write_pairs({name: value for name, value in row.items() if value not in (None, "", 0)}, as_json=False)
    write_text("\n" + "\n".join(map(_fact, facts)))


def why(address: ADDRESS, customer: CUSTOMER = "", json: JSON = False) -> None:
    """Tell whether a mail to an address would be sent now, and why not, with what the far side had said."""

    async def work(desk: SuppressionDesk, settings: Settings) -> dict[str, Any]:
        tenant = _customer(settings, customer)
        return desk.explained(tenant, desk.why(tenant, address))

    row = at_desk(work)
    if json:
        write_json(row)
        return
    verdict = "would be sent" if row["would_be_sent"] else f"would not be sent ({row['code']})"
    lines = [f"A mail to {row['address']} {verdict}. {row['detail']}"]
    lines += [f"  {row['finding']}"] if row["finding"] else []
    known = row["suppression"]
    if known:
        ends = f"until {known['until']}" if known["until"] else "until it is lifted"
        lines += [f"  {known['reason']} since {known['since']}, {ends}"] if known["state"] == "active" else []
        lines += [f"  It is {known['state']} on the list."] if known["state"] != "active" else []
        lines += [f"  It has blocked {known['blocked']} mails."] if known["blocked"] else []
        lines += [f"  {_fact(fact)}" for fact in known["evidence"]]
    write_text("\n".join(lines))


def list_all(
    state: STATE = "active",
    reason: Annotated[str, typer.Option(help="Only for this reason, such as bounced or complained.")] = "",
    domain: Annotated[str, typer.Option(help="Only addresses in this domain.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 200,
    customer: OF_CUSTOMER = "",
    json: JSON = False,
) -> None:
    """List who is suppressed."""
    rows = at_desk(lambda desk, _: _listed(desk, state, reason, domain, customer, limit))
    write_rows(rows, _COLUMNS, as_json=json, empty="Nobody is suppressed.")
    if len(rows) == limit:
        talk().print(f"These are the first {limit}; --limit shows more, `depesche suppression export` all.")


async def _listed(
    desk: SuppressionDesk, state: str, reason: str, domain: str, customer: str, limit: int
) -> list[dict[str, Any]]:
    from depesche.analytics.suppressions.desk import Filter
    from depesche.schemas.errors import SetupError
    from depesche.schemas.records import SuppressionReason

    if state not in _STATES:
        raise SetupError(f"There is no state {state}.", fix=f"There are {', '.join(_STATES)}.")
    if reason and reason not in set(SuppressionReason):
        raise SetupError(f"There is no reason {reason}.", fix=f"There are {', '.join(SuppressionReason)}.")
    chosen = SuppressionReason(reason) if reason else None
    wanted = Filter(customer or None, state, chosen, domain.lower())
    rows: list[dict[str, Any]] = []
    after: tuple[str, str] | None = ("", "")
    while after is not None and len(rows) < limit:
        page = desk.page(wanted, limit - len(rows), after)
        rows, after = rows + page.rows, page.after
    return rows


def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV with a column address.")],
    note: NOTE = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask after the preview.")] = False,
    customer: CUSTOMER = "",
    json: JSON = False,
) -> None:
    """Suppress the addresses of a CSV file: columns address, and if wanted reason, days (0: until lifted) and note.

    Shows what would be done and asks. Lines that cannot be taken are named and left out; the exit code is then 1.
    """
    from depesche.infra.suppression_file import read

    with file.open(newline="", encoding="utf-8-sig") as source:
        found = read(source, note)
    _preview(found)
    if found.wanted and not yes and not (sys.stdin.isatty() and typer.confirm("Suppress them?", err=True)):
        talk().print("Nothing was done; --yes does it without asking.")
        raise typer.Exit(1)
    known = at_desk(lambda desk, settings: _imported(desk, _customer(settings, customer), found))
    row = {
        "suppressed": len(found.wanted),
        "of_which_known_before": known,
        "repeated": found.repeated,
        "bad_lines": [{"line": bad.line, "why": bad.why} for bad in found.bad],
    }
    _told(row, f"{len(found.wanted)} addresses get no mail any more.", as_json=json)
    if found.bad:
        raise typer.Exit(1)


def _preview(found: Read) -> None:
    console = talk()
    console.print(
        f"{len(found.wanted)} addresses, {found.repeated} repeated lines, {len(found.bad)} lines that cannot be taken"
    )
    for address, wanted in list(found.wanted.items())[:_PREVIEW]:
        lifetime = f"{wanted.days} days" if wanted.days else "until lifted"
        console.print(f"  {address}  {wanted.reason.value}, {lifetime}  {wanted.note}", markup=False)
    if len(found.wanted) > _PREVIEW:
        console.print("  ...")
    for bad in found.bad[:50]:
        console.print(f"[red]line {bad.line}:[/] {bad.why}")


async def _imported(desk: SuppressionDesk, tenant: str, found: Read) -> int:
    """Ask for all of them; gives how many the list knew already. Returns when all are in force."""
    known = sum(desk.why(tenant, address).blocking is not None for address in found.wanted)
    items = list(found.wanted.items())
    last: dict[int, Asked] = {}
    with _bar("importing", len(items)) as step:
        for begin in range(0, len(items), _AT_ONCE):
            part = items[begin : begin + _AT_ONCE]
            asked = await asyncio.gather(
                *(desk.add(tenant, address, wanted, _who(), wait=False) for address, wanted in part)
            )
            last |= {one.partition: max(one, last.get(one.partition, one), key=lambda a: a.offset) for one in asked}
            step(begin + len(part))
    for one in last.values():
        await desk.book.wait_for(tenant, one, 60 + len(items) / 100)
    return known


def export(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="CSV file to write; - for standard output.")],
    state: STATE = "active",
    customer: OF_CUSTOMER = "",
    json: JSON = False,
) -> None:
    """Write the list as CSV. No cell can be a formula; `depesche suppression import` reads the file again.

    With --json the outcome is an object, and to standard output go the entries themselves as JSON lines.
    """
    from depesche.infra.suppression_file import write

    rows = at_desk(lambda desk, _: _listed(desk, state, "", "", customer, sys.maxsize))
    if json and str(file) == "-":
        for row in rows:
            write_json(row)
        return
    with _bar("exporting", len(rows)) as step:
        if str(file) == "-":
            written = _stepped(write(sys.stdout, rows), step)
        else:
            with file.open("w", newline="", encoding="utf-8") as target:
                written = _stepped(write(target, rows), step)
    if json:
        write_json({"file": str(file), "entries": written})
    talk().print(f"[green]✓[/] {written} entries are written.")


def _stepped(numbers: Iterable[int], step: Callable[[int], None]) -> int:
    last = 0
    for last in numbers:
        step(last)
    return last


class _bar:
    """A progress bar on standard error; gives the function that moves it."""

    def __init__(self, what: str, whole: int) -> None:
        from rich.progress import Progress

        self._progress = Progress(console=talk(), transient=True)
        self._task = self._progress.add_task(what, total=whole)

    def __enter__(self) -> Callable[[int], None]:
        self._progress.start()
        return lambda done: self._progress.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def at_desk(work: Callable[[SuppressionDesk, Settings], Awaitable[T]]) -> T:
    """Open the list, read to its end, do the work, close it.

    Raises:
        LogUnavailableError: Kafka does not answer.
    """
    from depesche.infra.cli.quiet import only_warnings

    settings = settings_or_fail().settings
    only_warnings()

    async def run() -> T:
        async with _desk(settings) as desk:
            return await work(desk, settings)

    return asyncio.run(run())


@asynccontextmanager
async def _desk(settings: Settings) -> AsyncIterator[SuppressionDesk]:
    from depesche.analytics.suppressions.book import SuppressionBook
    from depesche.analytics.suppressions.desk import SuppressionDesk
    from depesche.analytics.suppressions.requests import Requests
    from depesche.infra.cli.things import open_desk
    from depesche.schemas.errors import SetupError

    async with open_desk(settings) as desk:
        with tempfile.TemporaryDirectory(prefix="depesche-") as spare:
            book = SuppressionBook(settings, desk.keyring, settings.home / "suppressions" / "command")
            try:
                await book.start()
            except SetupError:
                # Another command has the view open; a throwaway one says the same.
                await book.stop()
                book = SuppressionBook(settings, desk.keyring, Path(spare) / "view")
                await book.start()
            try:
                yield SuppressionDesk(book, Requests(settings, desk.producer), desk.directory, desk.keyring)
            finally:
                await book.stop()


def _customer(settings: Settings, given: str) -> str:
    from depesche.infra.cli.things import customer_meant

    return customer_meant(settings, given)


def _who() -> str:
    return f"{getpass.getuser()} at the command line"


def _told(row: Mapping[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        write_json(row)
    else:
        talk().print(f"[green]✓[/] {sentence}")


def _fact(fact: Mapping[str, Any]) -> str:
    said = " ".join(str(part) for part in (fact["code"] or "", fact["reply_text"] or fact["reply_class"]) if part)
    by = f"  {fact['host']}" if fact["host"] else ""
    return f"{fact['at']}  {fact['type']}{by}  {said}  {fact['unit_id'] or fact['event_id']}".rstrip()
