"""The door's fixtures (see ``bench``), and the two event loops it must work on: the standard one, and uvloop as in production."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.contract.smtp.bench import door, door_maker

__all__ = ["door", "door_maker"]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test of the door runs on both."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
