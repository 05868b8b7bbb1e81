"""What the REST door works with. It is handed in; nothing here opens a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from depesche.analytics.backlog.backlog import Backlog
from depesche.analytics.controls.pen import ControlPen
from depesche.analytics.directory.directory import Directory
from depesche.analytics.directory.registrar import Registrar
from depesche.analytics.log.alerts import Ledger
from depesche.analytics.pace.book import PaceBook
from depesche.analytics.store.client import StoreClient
from depesche.analytics.suppressions.desk import SuppressionDesk
from depesche.api.hallway import Hallway
from depesche.schemas.records import ControlScope
from depesche.schemas.settings import Settings

Probe = Callable[[], Awaitable[None]]
"""Returns when the part works; raises a DepescheError whose text an operator may read."""

Inspect = Callable[[ControlScope], Awaitable[Backlog]]
"""Gives what waits of a scope, counted from the log."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of one REST door.

    Attributes:
        settings: how everything is set.
        hallway: takes submissions for good.
        directory: who may do what.
        registrar: changes the directory; nothing: this door only reads it.
        store: where search looks; nothing: it answers 503.
        pace: the pace in force; nothing: it answers 503.
        alerts: reads what mail.alerts says now; nothing: it answers 503.
        suppressions: the suppression list; nothing: nobody is suppressed, and it can be neither seen nor changed here.
        pen: gives an operator's orders; nothing: this door takes none.
        inspect: counts what waits; nothing: this door cannot.
        probes: what readiness asks besides or instead of ``usual_probes``, by name.
    """

    settings: Settings
    hallway: Hallway
    directory: Directory
    registrar: Registrar | None = None
    store: StoreClient | None = None
    pace: PaceBook | None = None
    alerts: Callable[[], Awaitable[Ledger]] | None = None
    suppressions: SuppressionDesk | None = None
    pen: ControlPen | None = None
    inspect: Inspect | None = None
    probes: Mapping[str, Probe] = field(default_factory=dict)
