"""The names of the far side: one typed zone that every test name server serves.

The whole name space is ours (the zone is the root), so that a name which is not described here does not exist, whatever
the machine's own resolver would say, and nothing can leave it by accident. Every name stands under `.test` (RFC 6761
section 2). Far sides have a loopback address each and share one port, because an MX record cannot name a port.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Kind = Literal["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"]

NAMESERVER = "ns.test"
RETURNS_DOMAIN = "returns.test"
"""Return path of the sandbox's mail; Postfix hands its mail to the door that is ours."""
NEGATIVE_TTL = 1
"""Seconds a resolver may remember that a name is missing: short, because records are added while everything runs."""

_LABEL = re.compile(r"[a-z0-9_*]([a-z0-9_-]{0,61}[a-z0-9_])?")


class ZoneError(ValueError):
    """A record that no name server could serve."""


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record.

    `name` is absolute, in lower case, without the final dot; `value` is the presentation form (MX:
    `10 mx.sandbox.test`, null MX: `0 .`), except that a TXT value is the plain text, which is split into strings of
    255 bytes when served. `ttl` in seconds. Raises ZoneError for what no server could serve.
    """

    name: str
    kind: Kind
    value: str
    ttl: int = 60

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in get_args(Kind):
            raise ZoneError(f"{self.kind} records are not served here")
        if not 0 <= self.ttl < 2**31:
            raise ZoneError(f"a TTL of {self.ttl} s is not possible")
        _check_value(self.kind, self.value)

    def preference_and_host(self) -> tuple[int, str]:
        """Return the two parts of an MX value; the host of a null MX is the empty string."""
        preference, _, host = self.value.partition(" ")
        return int(preference), host.removesuffix(".")

    def strings(self) -> list[bytes]:
        """Return a TXT value as the strings of at most 255 bytes that travel (RFC 1035 section 3.3.14)."""
        raw = self.value.encode()
        return [raw[start : start + 255] for start in range(0, len(raw), 255)] or [b""]


def check_name(name: str) -> None:
    """Raise ZoneError unless `name` is a name this zone may hold (RFC 1035 section 2.3.4)."""
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ZoneError(f"{name!r} is not a name in lower case without a final dot")


def _check_value(kind: Kind, value: str) -> None:
    if kind in ("A", "AAAA"):
        try:
            version = ipaddress.ip_address(value).version
        except ValueError as error:
            raise ZoneError(f"{value!r} is not an address") from error
        if version != (4 if kind == "A" else 6):
            raise ZoneError(f"{value} does not belong in a record of type {kind}")
    elif kind == "MX":
        preference, _, host = value.partition(" ")
        if not preference.isdecimal() or int(preference) > 65535:
            raise ZoneError(f"{value!r} is not a preference and a host")
        if host != ".":
            check_name(host.removesuffix("."))
    elif kind != "TXT":
        check_name(value.removesuffix("."))


@dataclass(frozen=True, slots=True)
class FarSides:
    """Where the far sides listen: loopback addresses, all on one SMTP port.

    `inbox` is Postfix where it runs, else the sink. Nothing listens on `dead`. `listeners` maps the label of a listener
    of the sink (`busy`, `expiredtls` ...) to its address; each becomes a domain `<label>.test`.
    """

    sink: str = "127.0.0.2"
    inbox: str = "127.0.0.2"
    dead: str = "127.0.0.9"
    listeners: Mapping[str, str] = field(default_factory=dict)
    catch_all: bool = False
    """Whether mail to any other domain lands in the sink instead of at "no such domain"."""


def sandbox_zone(far: FarSides) -> tuple[Record, ...]:
    """Return the records of the sandbox: good domains, and one for each way in which DNS or a host may be odd."""
    records = [
        Record(NAMESERVER, "A", "127.0.0.1"),
        *_mailbox("sandbox.test", far.sink),
        *_mailbox("inbox.test", far.inbox),
        *_mailbox("postfix.test", far.inbox),
        *_shop(far),
        *_returns(),
        *_odd_exchanges(far),
        *_odd_addresses(far),
        *_aliases(),
        *_texts(),
    ]
    for label, address in far.listeners.items():
        records += _mailbox(f"{label}.test", address)
    if far.catch_all:
        records.append(Record("*", "MX", "10 mx.sandbox.test"))
    return tuple(records)


def _mailbox(domain: str, address: str) -> list[Record]:
    return [Record(domain, "MX", f"10 mx.{domain}"), Record(f"mx.{domain}", "A", address)]


def _shop(far: FarSides) -> list[Record]:
    """Return the demo sender: its DKIM key is published at run time, when the domain is registered."""
    return [
        *_mailbox("shop.test", far.inbox),
        Record("shop.test", "A", far.sink),
        Record("shop.test", "TXT", "v=spf1 ip4:127.0.0.0/8 -all"),
        Record("_dmarc.shop.test", "TXT", "v=DMARC1; p=reject; adkim=s; aspf=r"),
    ]


def _returns() -> list[Record]:
    """Return what an operator publishes for the return path. Its port is not the far sides'; so they are told by a table."""
    return [
        *_mailbox(RETURNS_DOMAIN, "127.0.0.1"),
        Record(RETURNS_DOMAIN, "TXT", "v=spf1 ip4:127.0.0.0/8 -all"),
    ]


def _odd_exchanges(far: FarSides) -> list[Record]:
    """Return domains whose set of mail exchangers is a case of RFC 5321 section 5.1 or RFC 7505."""
    second, third = far.listeners.get("second", far.sink), far.listeners.get("third", far.sink)
    busy = far.listeners.get("busy", far.dead)
    hosts = {
        "mx1.manymx.test": far.dead,
        "mx2.manymx.test": far.sink,
        "mx3.manymx.test": second,
        "mx4.manymx.test": third,
        "mx1.deadfirst.test": far.dead,
        "mx2.deadfirst.test": far.sink,
        "mx1.busyfirst.test": busy,
        "mx2.busyfirst.test": far.sink,
        "mx.dead.test": far.dead,
        "mx.truncate.test": far.sink,
        "mx.delay-300.test": far.sink,
        "nomx.test": far.sink,
    }
    exchanges = {
        "manymx.test": ("10 mx1", "20 mx2", "20 mx3", "30 mx4"),
        "deadfirst.test": ("10 mx1", "20 mx2"),
        "busyfirst.test": ("10 mx1", "20 mx2"),
        "dead.test": ("10 mx",),
        "truncate.test": ("10 mx",),
        "delay-300.test": ("10 mx",),
        "danglingmx.test": ("10 nowhere",),
    }
    return [
        Record("nullmx.test", "MX", "0 ."),
        *(Record(name, "A", address) for name, address in hosts.items()),
        *(Record(name, "MX", f"{value}.{name}") for name, values in exchanges.items() for value in values),
    ]


def _odd_addresses(far: FarSides) -> list[Record]:
    """Return domains whose exchanger has several addresses, or one that no courier may ever connect to."""
    addresses: dict[str, tuple[str, ...]] = {
        "private.test": ("10.0.0.1",),
        "linklocal.test": ("169.254.169.254",),
        "unspecified.test": ("0.0.0.0",),  # noqa: S104 - an address to be refused, not one to bind
        "privatesix.test": ("fd00::1",),
        "mappedprivate.test": ("::ffff:10.0.0.1",),
        "twoaddresses.test": (far.dead, far.sink),
        "deadsix.test": ("::1", far.sink),
    }
    records = []
    for domain, values in addresses.items():
        records.append(Record(domain, "MX", f"10 mx.{domain}"))
        records += [Record(f"mx.{domain}", "AAAA" if ":" in value else "A", value) for value in values]
    records.append(Record("literalmx.test", "MX", "10 127.0.0.2"))
    return records


def _aliases() -> list[Record]:
    return [
        Record("alias.test", "CNAME", "sandbox.test"),
        Record("aliasofalias.test", "CNAME", "alias.test"),
        Record("aliasmx.test", "MX", "10 mx.aliasmx.test"),
        Record("mx.aliasmx.test", "CNAME", "mx.sandbox.test"),
        Record("danglingalias.test", "CNAME", "nowhere.test"),
        Record("loop.test", "CNAME", "loopback.test"),
        Record("loopback.test", "CNAME", "loop.test"),
    ]


def _texts() -> list[Record]:
    """Return TXT records that are long, empty, or full of characters that need care."""
    return [
        Record("txt.test", "TXT", 'semi;colon "quoted" back\\slash (round) ümlaut'),
        Record("txt.test", "TXT", ""),
        Record("longtxt.test", "TXT", "0123456789" * 60),
        *(Record("bigtxt.test", "TXT", f"{number:03d}" + "x" * 200) for number in range(12)),
    ]


def render_zone(records: Iterable[Record], serial: int) -> str:
    """Return the records as a master file of the root zone (RFC 1035 section 5), with SOA and NS."""
    lines = [
        "$ORIGIN .",
        f". 60 IN SOA {NAMESERVER}. hostmaster.test. {serial} 3600 600 86400 {NEGATIVE_TTL}",
        f". 60 IN NS {NAMESERVER}.",
        *(f"{record.name}. {record.ttl} IN {record.kind} {_presentation(record)}" for record in records),
    ]
    return "\n".join(lines) + "\n"


def _presentation(record: Record) -> str:
    if record.kind in ("A", "AAAA"):
        return record.value
    if record.kind == "MX":
        preference, host = record.preference_and_host()
        return f"{preference} {host}."
    if record.kind == "TXT":
        return " ".join(f'"{_quoted(string)}"' for string in record.strings())
    return record.value.removesuffix(".") + "."


def _quoted(string: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in string)
