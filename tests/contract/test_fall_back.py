"""A host whose IPv6 address swallows packets: the next one is tried after seconds, and the dead one not again at once."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from depesche.infra.local.sink.server import Sink
from depesche.schemas.settings import DeliverSettings
from depesche.streams.stages.connections import Connections
from depesche.streams.wire.dns import Host, Hosts
from depesche.streams.wire.smtp import SMTPConnection
from tests.contract.far_side import sink

__all__ = ["sink"]

HOSTS = Hosts("deadsix.test", "found", ((Host("mx.deadsix.test", ("::1", "127.0.0.2")),),))


@contextlib.contextmanager
def black_hole(port: int) -> Iterator[None]:
    """An address that answers no SYN: a listener that accepts nobody and whose queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET6))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::1", port))
        listener.listen(0)
        for _ in range(10):
            waiting = stack.enter_context(socket.socket(socket.AF_INET6))
            waiting.settimeout(0.2)
            try:
                waiting.connect(("::1", port))
            except TimeoutError:
                break
        else:
            pytest.fail("the queue does not fill up")
        yield


@pytest.mark.timeout(120)
async def test_a_family_that_swallows_packets_costs_its_bound_once(sink: Sink) -> None:
    # The whole wait for a connection is five minutes; where another address is left, it is five seconds.
    settings = DeliverSettings(port=sink.port, connect_seconds=300)
    connections = Connections(settings, "courier.test")
    with black_hole(sink.port):
        async with asyncio.timeout(40):
            first = await connections.open(HOSTS)
        assert isinstance(first, SMTPConnection)
        assert first.peer.address == "127.0.0.2"
        first.abort()
        # Twenty times the bound would be far more than this.
        async with asyncio.timeout(40):
            for _ in range(20):
                connection = await connections.open(HOSTS)
                assert isinstance(connection, SMTPConnection)
                connection.abort()


@pytest.mark.timeout(60)
async def test_a_shorter_wait_in_the_settings_holds_as_well(sink: Sink) -> None:
    settings = DeliverSettings(port=sink.port, connect_seconds=1)
    begun = asyncio.get_running_loop().time()
    with black_hole(sink.port):
        connection = await Connections(settings, "courier.test").open(HOSTS)
    # No assertion on time: run with -s to see it.
    print(f"fell back after {asyncio.get_running_loop().time() - begun:.2f} s")
    assert isinstance(connection, SMTPConnection)
    assert connection.peer.address == "127.0.0.2"
    connection.abort()
