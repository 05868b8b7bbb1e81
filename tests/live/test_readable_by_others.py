"""Anybody's tools can look in: a Kafka client with Apache Avro and the registry reads the log, kcat filters it by header,
and foreign verifiers accept what arrived."""

import io
import os
import re
import shutil
import subprocess
from email import message_from_bytes
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import dkim
import dns.resolver
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.live.conftest import Stack
from tests.live.mailer import a_mail, logged_in

KCAT = shutil.which("kcat")
OPENDKIM = shutil.which("opendkim", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _sent(stack: Stack, recipient: str) -> bytes:
    with logged_in(stack.settings, stack.demo) as client:
        client.send_message(a_mail(recipient))
    return stack.arrived(recipient)


async def test_a_foreign_decoder_reads_the_log_with_the_registry(stack: Stack) -> None:
    _sent(stack, "registry@inbox.test")
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.settings.bootstrap)
    await consumer.start()
    try:
        partitions = [TopicPartition("mail.outcomes", number) for number in range(stack.settings.kafka.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[tuple[dict[str, Any], dict[str, bytes]]] = []
        schemas: dict[int, avro.schema.Schema] = {}
        while any([await consumer.position(p) < ends[p] for p in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [(_decoded(stack, schemas, record.value), dict(record.headers)) for record in records]
    finally:
        await consumer.stop()
    delivered = [(event, headers) for event, headers in found if event["type"] == "delivered"]
    assert delivered
    event, headers = delivered[-1]
    assert headers["ce_type"] == b"email.delivered"
    assert headers["ce_id"].decode() == event["event_id"]
    assert headers["ce_specversion"] == b"1.0"


def _decoded(stack: Stack, schemas: dict[int, avro.schema.Schema], value: bytes) -> dict[str, Any]:
    """The record in Confluent framing; each schema is asked for once, as every client of a registry does."""
    assert value[0] == 0
    number = int.from_bytes(value[1:5], "big")
    if number not in schemas:
        answer = httpx.get(f"{stack.settings.rest_url}/registry/schemas/ids/{number}")
        schemas[number] = avro.schema.parse(answer.json()["schema"])
    read: dict[str, Any] = avro.io.DatumReader(schemas[number]).read(avro.io.BinaryDecoder(io.BytesIO(value[5:])))
    return read


@pytest.mark.skipif(KCAT is None, reason="kcat is not here: apt-get install kcat")
def test_kcat_filters_by_header_without_decoding(stack: Stack) -> None:
    _sent(stack, "kcat@inbox.test")
    command = [KCAT or "kcat", "-b", stack.settings.bootstrap, "-t", "mail.events", "-C", "-e", "-q", "-f", "%h\\n"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    types = {header for line in out.splitlines() for header in line.split(",") if header.startswith("ce_type=")}
    assert types >= {"ce_type=email.accepted", "ce_type=email.scanned", "ce_type=email.signed"}


def _record(stack: Stack, name: str) -> bytes:
    """A TXT record as the sandbox's name server tells it."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], stack.settings.sandbox.dns_port
    return b"".join(resolver.resolve(name, "TXT")[0].strings)


def test_what_arrived_carries_a_signature_that_dkimpy_accepts_by_dns(stack: Stack) -> None:
    raw = _sent(stack, "dkimpy@inbox.test").replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def text(name: bytes, timeout: int = 5) -> bytes:
        return _record(stack, name.decode())

    assert dkim.verify(raw, dnsfunc=text)
    assert message_from_bytes(raw)["DKIM-Signature"]
    assert not dkim.verify(raw.replace(b"record", b"reckord"), dnsfunc=text)


@pytest.mark.skipif(OPENDKIM is None, reason="OpenDKIM is not here: apt-get install opendkim")
def test_opendkim_accepts_what_arrived_too(stack: Stack, tmp_path: Path) -> None:
    raw = _sent(stack, "opendkim@inbox.test")
    [selector] = re.findall(r"s=([^;\s]+)", str(message_from_bytes(raw)["DKIM-Signature"]))
    name = f"{selector}._domainkey.shop.test"
    (tmp_path / "keys").write_bytes(name.encode() + b" " + _record(stack, name) + b"\n")
    (tmp_path / "conf").write_text(f"Mode v\nSyslog no\nTestPublicKeys {tmp_path}/keys\n")

    def judged(mail: bytes) -> str:
        (tmp_path / "mail.eml").write_bytes(mail)
        command = [OPENDKIM or "", "-x", str(tmp_path / "conf"), "-t", str(tmp_path / "mail.eml")]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    assert "succeeded" in judged(raw)
    assert "succeeded" not in judged(raw.replace(b"record", b"reckord"))
