"""Which services run together in which process: read from the setting, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from depesche.schemas.errors import SetupError
from depesche.schemas.settings import Settings

#: Every service, what it needs before it can be ready, and one sentence about it.
SERVICES: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "rest": (("log",), "the REST door"),
    "smtp": (("log",), "the SMTP door"),
    "inbound": (("log",), "the door of the return path: bounces, complaints, unsubscribes"),
    "prepare": (("log",), "screens, scans and signs accepted jobs"),
    "deliver": (("log",), "hands units to the far side"),
    "retry": (("log",), "brings deferred units back when they are due"),
    "returns": (("log",), "says what came back to the return path, and of which mail"),
    "analytics": (("log", "store"), "writes the log's events to ClickHouse"),
    "agents": (("log",), "the Faust agents: rates per provider and minute"),
    "monitor": (("log",), "watches rates and blocklists, and says alerts"),
    "dns": ((), "the sandbox's name server"),
    "mailbox": ((), "the sandbox's scripted mailbox"),
}
_SANDBOX: Final = frozenset({"dns", "mailbox"})
_SINGLE: Final = frozenset({"rest", "smtp", "inbound", "dns", "mailbox"})


@dataclass(frozen=True, slots=True)
class Process:
    """A process of ours: its name and the services in it."""

    name: str
    services: tuple[str, ...]

    @property
    def needs(self) -> frozenset[str]:
        """What must be there before it is started: ``log``, ``store``."""
        return frozenset(need for service in self.services for need in SERVICES[service][0])

    @property
    def sandbox(self) -> bool:
        """Whether it belongs to the far side."""
        return _SANDBOX.issuperset(self.services)


def processes(settings: Settings) -> tuple[Process, ...]:
    """The processes that ``depesche up`` starts.

    Raises:
        SetupError: an entry is malformed, a service is unknown, missing, or twice where it can only be once.
    """
    found = [_parsed(entry) for entry in settings.layout]
    if not settings.sandbox.enabled:
        found = [_without_sandbox(process) for process in found]
    found = [process for process in found if process.services]
    names = [process.name for process in found]
    hosted = [service for process in found for service in process.services]
    for name in {name for name in names if names.count(name) > 1}:
        raise _wrong(f"the process {name} stands there twice")
    for service in sorted({service for service in hosted if hosted.count(service) > 1} & _SINGLE):
        raise _wrong(f"{service} listens on one port and can only stand in one process")
    wanted = set(SERVICES) - (set() if settings.sandbox.enabled else _SANDBOX)
    if missing := sorted(wanted - set(hosted)):
        raise _wrong(f"{', '.join(missing)} would run nowhere")
    return tuple(found)


def metrics_port(settings: Settings, process: str) -> int:
    """The port on which a process shows its numbers to Prometheus; 0: on none.

    A process that the layout does not name has the first port.
    """
    names = [entry.partition("=")[0] for entry in settings.layout]
    place = names.index(process) if process in names else 0
    return settings.metrics_port + place if settings.metrics_port else 0


def check_names(services: tuple[str, ...]) -> None:
    """Raise SetupError unless every name is a service."""
    for service in services:
        if service not in SERVICES:
            raise SetupError(f"There is no service {service}.", fix=f"There are {', '.join(SERVICES)}.")


def _parsed(entry: str) -> Process:
    name, _, services = entry.partition("=")
    if not name.isidentifier() or not services:
        raise _wrong(f"{entry!r} has not the form process=service+service")
    process = Process(name, tuple(services.split("+")))
    check_names(process.services)
    return process


def _without_sandbox(process: Process) -> Process:
    return Process(process.name, tuple(service for service in process.services if service not in _SANDBOX))


def _wrong(detail: str) -> SetupError:
    return SetupError(f"The layout cannot be: {detail}.", fix="Correct the setting layout (DEPESCHE_LAYOUT).")
