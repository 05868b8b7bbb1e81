"""Egress pools: what the directory refuses by name, and the address and EHLO name that a far side sees."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from depesche.analytics.directory.pools import OPERATOR, pool_address
from depesche.infra.local.dns import DNSServer
from depesche.infra.local.kafka_broker import KafkaBroker
from depesche.infra.local.sink.server import Sink
from depesche.schemas.errors import ConflictError, InvalidRequestError
from depesche.schemas.records import DirectoryKind, EventType, Pool
from depesche.streams.mail.route import route_of
from depesche.streams.stages.deliver import Deliver
from depesche.streams.stages.shaping_watch import ShapingWatch
from depesche.streams.stages.terms import Guidance
from tests.contract.far_side import dns_server, sink, zone
from tests.contract.outbox import Outbox, detail, opened, running, settings_for
from tests.contract.test_directory import Office

__all__ = ["dns_server", "sink", "zone"]

VIP = Pool(addresses=tuple(map(pool_address, ("127.0.0.21=out1.example.org", "127.0.0.22=out2.example.org", "::1"))))


@pytest_asyncio.fixture
async def outbox(kafka_broker: KafkaBroker, dns_server: DNSServer, sink: Sink, tmp_path: Path) -> AsyncIterator[Outbox]:
    async with opened(settings_for(kafka_broker, dns_server, sink.port, "pools.", tmp_path)) as outbox:
        yield outbox


async def test_a_pool_is_made_named_changed_and_removed_and_refused_by_name(outbox: Outbox, sink: Sink) -> None:
    async with Office(outbox.settings, outbox.keyring).open() as office:
        registrar = office.registrar
        await registrar.add_customer("10001", "Shop", "test")
        domain = await registrar.add_domain("10001", "shop.test", "test")
        with pytest.raises(InvalidRequestError, match="no pool vip") as unknown:
            await registrar.change("10001", "shop.test", replace(domain, pool="vip"), "test")
        assert unknown.value.public == "There is no egress pool vip; there are shared"
        await registrar.add_pool("vip", VIP, "test")
        await registrar.change("10001", "shop.test", replace(domain, pool="vip"), "test")
        assert office.directory.pool_addresses("vip") == VIP.addresses
        with pytest.raises(ConflictError) as taken:
            await registrar.add_pool("other", Pool(addresses=VIP.addresses[:1]), "test")
        assert taken.value.public == "127.0.0.21 is in the pool vip already"
        with pytest.raises(InvalidRequestError):
            await registrar.add_pool("No Pool", VIP, "test")
        with pytest.raises(ConflictError) as used:
            await registrar.remove(DirectoryKind.POOL, "vip", OPERATOR, "test")
        assert "shop.test" in used.value.public
        # What was registered early says "default", and means the shared pool.
        await registrar.change("10001", "shop.test", replace(domain, pool="default"), "test")
        found = office.directory.domain("shop.test")
        assert found is not None
        assert found.value.pool == "shared"
        guidance = Guidance(ShapingWatch(outbox.settings).of, own=office.directory.pool_addresses)
        await _sent_from(outbox, guidance)
        await registrar.remove(DirectoryKind.POOL, "vip", OPERATOR, "test")
        assert office.directory.pool_addresses("vip") == ()


async def _sent_from(outbox: Outbox, guidance: Guidance) -> None:
    """Couriers send from the pool's own addresses in turn, each with its own name, and the log says so."""
    async with running(Deliver(outbox.settings, outbox.keyring, outbox.archive, "a", guidance=guidance)):
        for number in range(4):
            recipient = f"pool-{number}@{('second', 'third', 'sandbox', 'small')[number]}.test"
            provider = recipient.rpartition("@")[2]
            await outbox.units(recipient, route=route_of(provider, "vip"))
        await outbox.all_final()
    names = {"127.0.0.21": "out1.example.org", "127.0.0.22": "out2.example.org"}
    events = await outbox.told()
    assert {event.type for event in events} == {EventType.DELIVERED}
    assert {detail(event).pool for event in events} == {"vip"}
    assert {detail(event).source_ip for event in events} == set(names)
    for event in events:
        assert f"EHLO {names[detail(event).source_ip]}" in (outbox.personal(event).transcript or "")
