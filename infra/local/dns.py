"""An authoritative name server in our own process: always there, and able to fail on purpose.

It serves a zone folder over UDP and TCP (RFC 1035), follows aliases inside the zone, knows empty names in between from
missing ones, cuts answers that do not fit, and notices at the next question that a record was published. Real servers
(Knot) give the same answers, which a contract test holds; the faults below are what they cannot do.

A fault belongs to a name by `ZoneFolder.set_fault`, or by the name itself: the label `servfail`, `refused`, `nxdomain`,
`timeout`, `truncate` or `delay-300` (milliseconds) anywhere in it, alone or in front of another label: `timeout.test`,
`servfail-inbox.test`, `mx.delay-300-sandbox.test`. The second form answers with what stands under the name without the
fault.
"""

import asyncio
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import structlog
from dnslib import (
    AAAA,
    CLASS,
    CNAME,
    EDNS0,
    MX,
    NS,
    PTR,
    QTYPE,
    RCODE,
    RD,
    RR,
    SOA,
    TXT,
    A,
    DNSError,
    DNSLabel,
    DNSRecord,
)

from depesche.infra.local.published import Published, ZoneFolder
from depesche.infra.local.zone import NAMESERVER, NEGATIVE_TTL, Record, ZoneError

LARGEST_DATAGRAM = 1232
"""Bytes of the largest UDP answer, whatever the client offers (the DNS Flag Day 2020 value)."""
ALIAS_LIMIT = 16

_FAULTY_LABEL = re.compile(r"(servfail|refused|nxdomain|timeout|truncate|delay-[0-9]{1,5})(?:-(.+))?")


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send and when: `packet` None means never."""

    packet: bytes | None
    delay: float = 0.0


@dataclass(slots=True)
class _Finding:
    code: int
    records: list[RR]
    authoritative_end: bool


class _Table:
    """The zone by name, with the names in between that exist only because something stands below them."""

    def __init__(self, published: Published) -> None:
        self.faults = published.faults
        self.by_name: dict[str, dict[str, list[RD]]] = {"": {"SOA": [_soa()], "NS": [NS(NAMESERVER)]}}
        self.seconds: dict[tuple[str, str], int] = {("", "SOA"): 60, ("", "NS"): 60}
        for record in published.records:
            kinds = self.by_name.setdefault(record.name, {})
            kinds.setdefault(record.kind, []).append(_data(record))
            self.seconds[(record.name, record.kind)] = record.ttl
            for parent in _parents(record.name):
                self.by_name.setdefault(parent, {})

    def resolve(self, asked: str, kind: str) -> _Finding:
        """Return the code and the answer section for a name, following aliases (RFC 1034 section 4.3.2)."""
        records: list[RR] = []
        name = asked
        for _step in range(ALIAS_LIMIT):
            kinds, source = self._kinds(name)
            if kinds is None:
                return _Finding(RCODE.NXDOMAIN, records, True)
            found = kinds.get(kind)
            if found:
                records += self._listed(name, source, kind, found)
                return _Finding(RCODE.NOERROR, records, False)
            alias = kinds.get("CNAME")
            if not alias:
                return _Finding(RCODE.NOERROR, records, True)
            records += self._listed(name, source, "CNAME", alias)
            name = _plain(alias[0].label)
            if name == asked:
                break
        return _Finding(RCODE.NOERROR, records, False)

    def _kinds(self, name: str) -> tuple[dict[str, list[RD]] | None, str]:
        kinds = self.by_name.get(name)
        if kinds is not None:
            return kinds, name
        # A missing name is answered by the asterisk below its closest existing parent, and by no other (RFC 4592).
        for parent in (*_parents(name), ""):
            if parent in self.by_name:
                wildcard = f"*.{parent}" if parent else "*"
                return self.by_name.get(wildcard), wildcard
        return None, name

    def _listed(self, owner: str, source: str, kind: str, data: list[RD]) -> list[RR]:
        ttl = self.seconds[(source, kind)]
        return [RR(owner, getattr(QTYPE, kind), CLASS.IN, ttl, item) for item in data]


class Nameserver:
    """Answers questions from one zone folder; knows no socket."""

    def __init__(self, folder: ZoneFolder) -> None:
        self._folder = folder
        self._stamp: object = None
        self._table = _Table(Published((), {}))

    def answer(self, packet: bytes, *, datagram: bool) -> Answer:
        """Return the answer to one question packet; SERVFAIL while the folder's files cannot be read."""
        try:
            request = DNSRecord.parse(packet)
        except DNSError:
            return Answer(None)
        if request.header.qr or not request.questions:
            return Answer(None)
        try:
            self._refresh()
        except ZoneError as error:
            structlog.get_logger().error("zone folder is damaged", reason=str(error))
            reply = request.reply(ra=0, aa=0)
            reply.header.rcode = RCODE.SERVFAIL
            return Answer(reply.pack())
        asked = _plain(request.q.qname)
        name, fault = split_fault(asked, self._table.faults)
        if fault == "timeout":
            return Answer(None)
        delay = int(fault.partition("-")[2]) / 1000 if fault.startswith("delay-") else 0.0
        reply = request.reply(ra=0, aa=1)
        if fault in ("servfail", "refused", "nxdomain"):
            reply.header.rcode = getattr(RCODE, fault.upper())
            reply.header.aa = int(fault == "nxdomain")
        elif request.header.opcode != 0 or request.q.qclass != CLASS.IN:
            reply.header.rcode, reply.header.aa = RCODE.REFUSED, 0
        else:
            self._fill(reply, asked, name)
        return Answer(_packed(request, reply, datagram=datagram, cut=fault == "truncate"), delay)

    def _refresh(self) -> None:
        stamp = self._folder.stamp()
        if stamp != self._stamp:
            self._table, self._stamp = _Table(self._folder.read()), stamp

    def _fill(self, reply: DNSRecord, asked: str, name: str) -> None:
        finding = self._table.resolve(name, QTYPE.get(reply.q.qtype))
        reply.header.rcode = finding.code
        for record in finding.records:
            # Owner names go back as they were asked for, in case (0x20) and with the fault label.
            if _plain(record.rname) == name:
                record.rname = reply.q.qname if name == asked else DNSLabel(asked)
            reply.add_answer(record)
        if finding.authoritative_end:
            reply.add_auth(RR("", QTYPE.SOA, CLASS.IN, NEGATIVE_TTL, _soa()))


def split_fault(asked: str, faults: Mapping[str, str]) -> tuple[str, str]:
    """Return the name to look up and the fault of a question; the fault is empty when there is none."""
    for candidate in (asked, *_parents(asked)):
        if candidate in faults:
            return asked, faults[candidate]
    labels = asked.split(".")
    for position, label in enumerate(labels):
        match = _FAULTY_LABEL.fullmatch(label)
        if match:
            rest = match[2]
            bare = [*labels[:position], rest, *labels[position + 1 :]] if rest else labels
            return ".".join(bare), match[1]
    return asked, ""


def _packed(request: DNSRecord, reply: DNSRecord, *, datagram: bool, cut: bool) -> bytes:
    offered = next((record.edns_len for record in request.ar if record.rtype == QTYPE.OPT), None)
    limit = 512 if offered is None else max(512, min(offered, LARGEST_DATAGRAM))
    if offered is not None:
        reply.add_ar(EDNS0(udp_len=LARGEST_DATAGRAM))
    packet: bytes = reply.pack()
    if datagram and (cut or len(packet) > limit):
        # The question stays in a cut answer: resolvers compare it before they believe the TC bit.
        reply.rr, reply.auth = [], []
        reply.header.tc = 1
        packet = reply.pack()
    return packet


def _data(record: Record) -> RD:
    if record.kind == "MX":
        preference, host = record.preference_and_host()
        return MX(host, preference)
    if record.kind == "TXT":
        return TXT(record.strings())
    if record.kind == "AAAA":
        # Sixteen bytes, because dnslib cannot read `::ffff:10.0.0.1`.
        return AAAA(tuple(ipaddress.IPv6Address(record.value).packed))
    one = {"A": A, "CNAME": CNAME, "NS": NS, "PTR": PTR}[record.kind]
    return one(record.value)


def _soa() -> SOA:
    return SOA(NAMESERVER, "hostmaster.test", (1, 3600, 600, 86400, NEGATIVE_TTL))


def _plain(label: DNSLabel) -> str:
    return b".".join(label.label).decode("ascii", "replace").lower()


def _parents(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, nameserver: Nameserver) -> None:
        self._nameserver = nameserver
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The selector loop's datagram transport is none by class, only by behaviour, so isinstance would say no.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._nameserver.answer(data, datagram=True)
        if answer.packet is None:
            return
        if answer.delay:
            asyncio.get_running_loop().call_later(answer.delay, self._send, answer.packet, addr)
        else:
            self._send(answer.packet, addr)

    def _send(self, packet: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(packet, addr)


class DNSServer:
    """The name server on a loopback address, UDP and TCP on one port; `port` 0 takes a free one."""

    def __init__(self, folder: ZoneFolder, address: str = "127.0.0.1", port: int = 0) -> None:
        self.address = address
        self.port = port
        self._nameserver = Nameserver(folder)
        self._datagrams: asyncio.DatagramTransport | None = None
        self._streams: asyncio.Server | None = None

    async def start(self) -> None:
        """Bind both sockets. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        for attempt in range(10):
            self._streams = await asyncio.start_server(self._serve_stream, self.address, self.port)
            port = self._streams.sockets[0].getsockname()[1]
            try:
                self._datagrams, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self._nameserver), local_addr=(self.address, port)
                )
            except OSError:
                # A free TCP port may be taken for UDP; only a port that was not asked for may be exchanged for another.
                self._streams.close()
                if self.port or attempt == 9:
                    raise
            else:
                self.port = port
                return

    async def stop(self) -> None:
        """Close both sockets."""
        if self._datagrams is not None:
            self._datagrams.close()
        if self._streams is not None:
            self._streams.close()
            await self._streams.wait_closed()

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), 30), "big")
                packet = await asyncio.wait_for(reader.readexactly(length), 30)
                answer = self._nameserver.answer(packet, datagram=False)
                await asyncio.sleep(answer.delay)
                if answer.packet is None:
                    continue
                writer.write(len(answer.packet).to_bytes(2, "big") + answer.packet)
                await writer.drain()
        except (OSError, EOFError, TimeoutError):
            # The client went away or said nothing for half a minute: either way the conversation is over.
            pass
        finally:
            writer.close()


async def serve_dns(folder: ZoneFolder, address: str, port: int) -> None:
    """Serve the zone folder until cancelled. Raises OSError when the port is taken."""
    server = DNSServer(folder, address, port)
    await server.start()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await server.stop()
