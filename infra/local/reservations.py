"""Every port that the stack will take, checked before anything is started, so that nothing is ever half-started."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from depesche.infra.layout import metrics_port, processes
from depesche.infra.load import PREFIX
from depesche.infra.local.fault import LocalFault
from depesche.infra.local.ports import require_free
from depesche.infra.local.sink.listeners import all_listeners
from depesche.schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class Reservation:
    """A port on an address, who wants it, and the setting that moves it."""

    host: str
    port: int
    what: str
    setting: str
    datagram: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that moves it."""
        return PREFIX + self.setting.replace(".", "__").upper()


def reservations(settings: Settings, *, with_postfix: bool, with_clamd: bool) -> tuple[Reservation, ...]:
    """What will be listened on with these settings."""
    return tuple(
        wanted for wanted in _all(settings, with_postfix=with_postfix, with_clamd=with_clamd) if wanted.port != 0
    )


def _all(settings: Settings, *, with_postfix: bool, with_clamd: bool) -> Iterator[Reservation]:
    loopback = "127.0.0.1"
    if not settings.kafka.bootstrap:
        yield Reservation(loopback, settings.kafka.port, "Kafka", "kafka.port")
        yield Reservation(loopback, settings.kafka.controller_port, "Kafka's controller", "kafka.controller_port")
    if not settings.clickhouse.url:
        yield Reservation(loopback, settings.clickhouse.port, "ClickHouse", "clickhouse.port")
    yield Reservation(settings.rest.host, settings.rest.port, "the REST door", "rest.port")
    yield Reservation(settings.smtp.host, settings.smtp.port, "the SMTP door", "smtp.port")
    yield Reservation(settings.smtp.host, settings.smtp.tls_port, "the SMTP door with TLS", "smtp.tls_port")
    yield Reservation(settings.smtp.host, settings.smtp.relay_port, "the SMTP door for relays", "smtp.relay_port")
    if settings.returns.domain:
        yield Reservation(settings.returns.host, settings.returns.port, "the door of the return path", "returns.port")
    if settings.metrics_port:
        for process in processes(settings):
            port = metrics_port(settings, process.name)
            yield Reservation(loopback, port, f"the numbers of {process.name}", "metrics_port")
    if with_clamd:
        yield Reservation(loopback, settings.scan.clamd_port, "ClamAV", "scan.clamd_port")
    if settings.sandbox.enabled:
        yield Reservation(loopback, settings.sandbox.dns_port, "the sandbox's DNS", "sandbox.dns_port")
        yield Reservation(loopback, settings.sandbox.dns_port, "the sandbox's DNS", "sandbox.dns_port", datagram=True)
        for listener in all_listeners():
            yield Reservation(
                listener.address, settings.sandbox.smtp_port, "the sandbox's mailbox", "sandbox.smtp_port"
            )
        if with_postfix:
            host = settings.sandbox.postfix_host
            yield Reservation(host, settings.sandbox.smtp_port, "the sandbox's Postfix", "sandbox.smtp_port")


def require_all_free(wanted: tuple[Reservation, ...], port_offset: int = 0) -> None:
    """Raise LocalFault that names every port which is taken, its holder where visible, and the setting that moves it.

    ``port_offset`` is the one in force, so that the advice is another.
    """
    findings: dict[str, str] = {}
    for reservation in wanted:
        try:
            _require(reservation)
        except LocalFault as fault:
            findings.setdefault(reservation.variable, fault.finding)
    if findings:
        names = ", ".join(findings)
        other = (port_offset + 1000) % 40_000
        raise LocalFault(
            " ".join(findings.values()),
            f"Stop what holds it, set {names} to a free port, or move all ports with DEPESCHE_PORT_OFFSET={other}.",
        )


def _require(reservation: Reservation) -> None:
    if not reservation.datagram:
        require_free(reservation.host, reservation.port, reservation.what)
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((reservation.host, reservation.port))
        except OSError as fault:
            raise LocalFault(
                f"UDP port {reservation.port} on {reservation.host}, which {reservation.what} needs, is taken.", ""
            ) from fault
