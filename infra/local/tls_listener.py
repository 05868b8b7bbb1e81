"""An address on which a real mail server speaks TLS in one chosen way, so that a courier can be shown every way there is."""

from dataclasses import dataclass
from typing import Literal

from depesche.infra.local.certificate import Certificate


@dataclass(frozen=True, slots=True)
class TLSListener:
    """A loopback address of a mail server, and how it speaks TLS there.

    `tls`: `offered` with `certificate`; `none`: STARTTLS is not offered; `old`: it is offered, and then only TLS 1.0 is spoken,
    so that a handshake with anybody of today fails.
    """

    address: str
    certificate: Certificate
    tls: Literal["offered", "none", "old"] = "offered"
